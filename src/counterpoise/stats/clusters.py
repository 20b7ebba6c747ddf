"""Claims about the model: prompts are the sample, and pictures of one prompt are one cluster.

The prompts are taken to be drawn from those the claim is about; each counts once, however many pictures it
has. The intervals are exact for any number of prompts and any distribution over them (`mean_interval`), so
they are wide with 10 prompts; the t interval's and the bootstrap's shorter ones miss there when most prompts
lie at one end. Tables are counts [prompts, K].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from counterpoise.stats.betting import mean_interval
from counterpoise.stats.checks import alpha_of, checked_counts, checked_target
from counterpoise.stats.distance import fair_floor
from counterpoise.stats.estimate import Estimate
from counterpoise.stats.published import PublishedMetric


def clustered_shares(
    table: ArrayLike, *, abstained: Sequence[int] | None = None, confidence: float = 0.95
) -> list[Estimate]:
    """The mean over prompts of each class's share, all K intervals at once; n counts prompts.

    abstained [prompts]: pictures that may belong to any class; the interval then reaches from the mean share
    where none of them did to that where all did. Prompts without pictures are a ValueError.
    """
    c, read, n = _prompts(table, abstained)
    away = n - read
    alpha = alpha_of(confidence) / (1 if c.shape[1] == 2 else c.shape[1])
    unsure = bool(away.any())
    level = 1.0 - (alpha / 2.0 if unsure else alpha)
    found = []
    for k in range(c.shape[1]):
        low = mean_interval(c[:, k] / n, confidence=level)
        high = mean_interval((c[:, k] + away) / n, confidence=level) if unsure else low
        shares = c[read > 0, k] / read[read > 0]
        value = float(shares.mean()) if len(shares) else float("nan")
        # Prompts with fewer pictures read weigh as much as others: keep the value within what abstentions
        # allow.
        value = float(np.clip(value, low.value, high.value)) if unsure and len(shares) else value
        found.append(Estimate(value, low.low, high.high, len(c), "betting interval over prompts as clusters"))
    return found


def clustered_score(table: ArrayLike, metric: PublishedMetric, *, confidence: float = 0.95) -> Estimate:
    """A published metric's mean over prompts, less what a fair model is expected to score at the same n.

    Covers the expected excess, which is 0 for a fair model whatever n is; n counts prompts. The value may be
    negative by chance. ValueError for prompts without pictures and metrics that do not fit K.
    """
    c, _, _ = _prompts(table, None)
    raw = np.array([metric.score(row) for row in c])
    floor = np.array([metric.fair(row) for row in c])
    span = (-float(floor.max()), metric.maximum(c.shape[1]) - float(floor.min()))
    e = mean_interval(np.clip(raw - floor, *span), span=span, confidence=confidence)
    return Estimate(
        e.value,
        e.low,
        e.high,
        e.n,
        f"{metric.name} above a fair model's, {e.method} over prompts as clusters",
    )


def clustered_distance(table: ArrayLike, target: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """The mean over prompts of the true total variation to `target`; n counts prompts.

    Chance inflates an observed distance, on average by between 0 and sqrt((K - 1) / n_j) / 2, the most that
    E TV(observed, true) can be (Cauchy-Schwarz). So the interval runs from the lower end for the expected
    observed distance less that, to the upper end as it is. The value has the fair model's expected distance
    taken off.
    """
    c, _, n = _prompts(table, None)
    t = checked_target(target, c.shape[1])
    observed = 0.5 * np.abs(c / n[:, None] - t).sum(axis=1)
    e = mean_interval(np.minimum(observed, 1.0), confidence=confidence)
    inflation = float((0.5 * np.sqrt((c.shape[1] - 1) / n)).mean())
    floor = float(np.mean([fair_floor(t.tolist(), int(m)) for m in n]))
    low = max(0.0, e.low - inflation)
    value = float(np.clip(e.value - floor, low, e.high))
    return Estimate(value, low, e.high, e.n, "mean total variation over prompts as clusters, floor taken off")


def _prompts(table: ArrayLike, abstained: Sequence[int] | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts [prompts, K], how many pictures of each were read, and how many there are."""
    c = checked_counts(table)
    away = np.zeros(len(c)) if abstained is None else np.asarray(abstained, dtype=float)
    if c.ndim != 2 or away.shape != (len(c),) or (away < 0).any():
        raise ValueError(
            f"table of shape {c.shape}, abstained of {away.shape}: expected [prompts, K] and [prompts]"
        )
    read = c.sum(axis=1)
    n = read + away
    if not len(c) or not n.all():
        raise ValueError("a prompt without pictures: leave it out, and say so")
    return c, read, n
