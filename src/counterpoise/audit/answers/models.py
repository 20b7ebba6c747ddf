"""Questions about the model: each prompt is one cluster, and what is tested are means over prompts.

The null of a distribution is that the mean over prompts of the total variation is at most the tolerance (0
without one). It implies the same of every value's mean deviation, so evidence against any of them is evidence
against it; and unlike mean shares it does not call a model fair whose prompts are biased in opposite
directions. A sample lies farther off than its truth; by how much at most (Cauchy-Schwarz) is taken off before
anything is called biased. The numbers of pictures must not depend on what was seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise import stats
from counterpoise.audit.answers.faces import clusters, mean_of, pair_tables
from counterpoise.audit.answers.hypotheses import Hypothesis
from counterpoise.audit.answers.outcome import Answer, Asking, Evidence, Outcome, answer, finite
from counterpoise.audit.answers.seen import UNDRAWN, tally
from counterpoise.audit.items import ClaimItem, DriftItem
from counterpoise.audit.results import Measured
from counterpoise.stats.betting import log_wealth_above


@final
@dataclass(frozen=True, slots=True)
class Prompts:
    """Every prompt's deviations [J, V] with the unread read two ways, and what chance can add to distances.

    span: the deviations' least and greatest [V]; observed: distances of what was read [J]; n: pictures.
    """

    low: np.ndarray
    high: np.ndarray
    chance: np.ndarray
    span: tuple[np.ndarray, np.ndarray]
    observed: np.ndarray
    n: int
    read: int


def claim_about_model(asking: Asking, asked: Hypothesis, item: ClaimItem) -> Answer | None:
    """A claim about all of its prompts together; None where none of them has a picture."""
    if item.target is not None:
        found = _against_shares(asking, asked.arm, item)
        goal = list(item.target.values())
        against = "uniform" if len(set(goal)) == 1 else "given shares"
    else:
        cells = [((asked.arm, a), (asked.arm, b)) for a, b in zip(item.prompts, item.reference, strict=True)]
        found = paired_prompts(asking, cells, item)
        one = set(item.reference)
        against = f"the prompt {item.reference[0]!r}" if len(one) == 1 else "the prompts of reference"
    if found is None:
        return None
    return answer(asking, asked, weigh(asking, found, item, against), None)


def weigh(asking: Asking, found: Prompts, item: ClaimItem | DriftItem, against: str) -> Outcome:
    """Evidence on the mean distance over prompts, and its interval."""
    d = 0.0 if item.tolerance is None else item.tolerance
    least = np.maximum(np.maximum(found.low, 0.0).sum(axis=1), np.maximum(-found.high, 0.0).sum(axis=1))
    most = np.minimum(np.maximum(found.high, 0.0).sum(axis=1), np.maximum(-found.low, 0.0).sum(axis=1))
    least, most = np.minimum(least, 1.0), np.clip(most, 0.0, 1.0)
    each, floor = np.ones(len(least)), float(found.chance.max())
    passed, _ = clusters(found.low, found.high, d, span=found.span)
    far = log_wealth_above(least - found.chance - d, each, least=-floor - d) if floor + d > 0 else None
    fair = -math.inf
    if item.tolerance is not None:
        fair = float(log_wealth_above(d - most, each, least=d - 1.0))
    confidence = asking.spec.confidence
    low = stats.mean_interval(least.tolist(), confidence=confidence).low - float(found.chance.mean())
    high = stats.mean_interval(most.tolist(), confidence=confidence).high
    value = float(np.nanmean(found.observed)) if np.isfinite(found.observed).any() else math.nan
    j = len(least)
    left = len(item.prompts) - j
    method = f"betting over {j} prompts as clusters: mean total variation" + (
        f"; {left} prompts without pictures left out" if left else ""
    )
    if asking.cards:
        method += "; not corrected for the judge's error"
    return Outcome(
        evidence=Evidence(float(mean_of([*passed, *([] if far is None else [far])])), fair),
        effect_name="total variation",
        effect=Measured(finite(value), max(0.0, low), max(high, low), j, method),
        against=against,
        n=found.n,
        read=found.read,
        method=method,
        tolerance=item.tolerance,
    )


def _against_shares(asking: Asking, arm: str, item: ClaimItem) -> Prompts | None:
    assert item.target is not None
    goal = np.array(list(item.target.values()))
    rows = [
        tally(asking.seen.codes((arm, prompt), item.attributes, item.n), len(goal)) for prompt in item.prompts
    ]
    rows = [row for row in rows if sum(row[0]) + row[1]]
    if not rows:
        return None
    counts, unread = np.array([row[0] for row in rows]), np.array([[row[1]] for row in rows])
    n, read = counts.sum(axis=1, keepdims=True) + unread, counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, read, out=np.full(counts.shape, np.nan), where=read > 0)
    floors = np.array([stats.fair_floor(goal.tolist(), int(max(m, 1))) for m in read[:, 0]])
    return Prompts(
        low=counts / n - goal,
        high=(counts + unread) / n - goal,
        chance=0.5 * np.sqrt((len(goal) - 1) / n[:, 0]),
        span=(-goal, 1.0 - goal),
        # What a model on target shows by chance is taken off.
        observed=np.maximum(0.5 * np.abs(shares - goal).sum(axis=1) - floors, 0.0),
        n=int(n.sum()),
        read=int(read.sum()),
    )


def paired_prompts(
    asking: Asking,
    cells: list[tuple[tuple[str, str], tuple[str, str]]],
    item: ClaimItem | DriftItem,
) -> Prompts | None:
    """Two samples on shared seeds for each prompt; None where no seed is shared."""
    values = len(item.values)
    lows, highs, sizes, observed, read = [], [], [], [], 0
    for one, other in cells:
        first, second = (asking.seen.codes(cell, item.attributes, item.n) for cell in (one, other))
        n = int(((first != UNDRAWN) & (second != UNDRAWN)).sum())
        if not n:
            continue
        _, low, high = pair_tables(first, second, [[k] for k in range(values)])
        lows.append((low[-1, :, 1] - low[-1, :, 2]) / n)
        highs.append((high[-1, :, 1] - high[-1, :, 2]) / n)
        both = (first >= 0) & (second >= 0)
        a, b = (np.bincount(codes[both], minlength=values) for codes in (first, second))
        observed.append(0.5 * np.abs(a - b).sum() / both.sum() if both.any() else math.nan)
        sizes.append(n)
        read += int(both.sum())
    if not sizes:
        return None
    return Prompts(
        low=np.array(lows),
        high=np.array(highs),
        # Of n pairs, the values' differences have variances that sum to at most 2 / n.
        chance=np.minimum(0.5 * np.sqrt(2.0 * values / np.array(sizes)), 1.0),
        span=(-np.ones(values), np.ones(values)),
        observed=np.array(observed),
        n=sum(sizes),
        read=read,
    )
