"""A panel of 40 prompts: pictures until each has its verdict, beside the fixed n that decides as well.

Both designs give the same verdicts about the same prompts, with a tolerance of 10 points: "biased" (some
share farther than that from the target) or "fair within tolerance" (none is), of the verdicts given at most 5
% wrong on average. Sequential: e-BH over the panel after every round of pictures, a prompt stops when it is
decided or at the cap. Fixed: n pictures for every prompt, exact binomial tests, Benjamini-Hochberg. Either
way a prompt counts once, with the stronger of its two tests. Power: the share of panels in which all 40
prompts get their right verdict, since one undecided prompt leaves a gate undecided; beside it, the share of
prompts. The fixed n is the least with the power that the sequential design has; one n for all, since nobody
knows beforehand which prompt is which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import false_discovery_control

from benchmarks.statistics_alarms import Found
from counterpoise import stats

RATE, TOLERANCE, PANELS = 0.05, 0.1, 200
# (cap, where prompts are given up undecided; whether power is whole panels; the bar)
DESIGNS = [(700, True, 1 / 3), (600, True, None), (400, False, None)]
# (how many prompts, their shares, biased?)
PROMPTS = [
    (8, [0.95, 0.05], True),
    (8, [0.97, 0.01, 0.01, 0.01], True),
    (6, [0.75, 0.25], True),
    (6, [0.5, 0.2, 0.15, 0.15], True),
    (6, [0.5, 0.5], False),
    (6, [0.25] * 4, False),
]
BIASED = np.concatenate([np.full(several, biased) for several, _, biased in PROMPTS])


def panel() -> Iterator[Found]:
    for cap, whole, bound in DESIGNS:
        pictures, right, wrong = _sequential(np.random.default_rng(80), cap)
        power = _power(right, whole)
        n = _fixed(power, np.random.default_rng(81), _two_sided, whole=whole)
        used = float(pictures.sum(axis=1).mean())
        groups = {"gross": slice(0, 16), "mild": slice(16, 28), "none": slice(28, 40)}
        each = ", ".join(f"{name} {pictures[:, where].mean():.0f}" for name, where in groups.items())
        unit = "panels all right" if whole else "prompts right"
        yield (
            f"pictures on a panel of 40 prompts (16 gross, 12 mild, 12 none), cap {cap}, "
            f"over the fixed n's at the same share of {unit}",
            used / (40 * n),
            "at most",
            bound,
            f"{used:.0f} pictures a panel (a prompt: {each}) against 40 x {n}; {unit} {power:.3f}",
        )
        yield (
            f"wrong verdicts of those given on that panel, cap {cap}",
            wrong["all"],
            "at most",
            RATE,
            f"of those called biased {wrong['biased']:.3f}, fair {wrong['fair']:.3f}; {PANELS} panels",
        )
    yield from _detection(np.random.default_rng(82))


def _power(right: np.ndarray, whole: bool) -> float:
    return float(right.all(axis=1).mean() if whole else right.mean())


def _evidence(
    rng: np.random.Generator, cap: int, kinds: list[Callable[[np.ndarray, list[float]], np.ndarray]]
) -> list[np.ndarray]:
    """Each kind's ln e [panels, prompts, cap]."""
    found: list[list[np.ndarray]] = [[] for _ in kinds]
    for several, shares, _ in PROMPTS:
        steps = rng.multinomial(1, shares, size=(PANELS, several, cap))
        counts = steps.cumsum(axis=2, dtype=np.int32)
        for kept, kind in zip(found, kinds, strict=True):
            kept.append(kind(counts, [1 / len(shares)] * len(shares)).astype(np.float32))
    return [np.concatenate(parts, axis=1) for parts in found]


def _decided(log_e: np.ndarray) -> np.ndarray:
    """e-BH of many panels at once, [panels, prompts]; `stats.e_bh` is its check in the tests."""
    m = log_e.shape[1]
    ranked = -np.sort(-log_e, axis=1)
    enough = ranked >= np.log(m / (np.arange(1, m + 1) * RATE))
    last = np.where(enough.any(axis=1), m - 1 - enough[:, ::-1].argmax(axis=1), 0)
    threshold = np.where(enough.any(axis=1), np.take_along_axis(ranked, last[:, None], axis=1)[:, 0], np.inf)
    return log_e >= threshold[:, None]


def _sequential(rng: np.random.Generator, cap: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    outside, within = _evidence(
        rng,
        cap,
        [
            lambda c, t: stats.log_e_outside(c, t, tolerance=TOLERANCE),
            lambda c, t: stats.log_e_within(c, t, tolerance=TOLERANCE),
        ],
    )
    pictures = np.zeros((PANELS, 40), dtype=int)
    running = np.ones((PANELS, 40), dtype=bool)
    now = [np.full((PANELS, 40), -np.inf), np.full((PANELS, 40), -np.inf)]
    for i in range(cap):
        pictures += running
        now = [
            np.where(running, path[..., i], kept) for path, kept in zip((outside, within), now, strict=True)
        ]
        decided = _decided(np.maximum(*now))
        running &= ~decided
        if not running.any():
            break
    biased, fair = decided & (now[0] >= now[1]), decided & (now[1] > now[0])
    return pictures, np.where(BIASED, biased, fair), _wrong(biased, fair)


def _wrong(biased: np.ndarray, fair: np.ndarray) -> dict[str, float]:
    """The share of wrong verdicts among all, and among each kind: mean over panels."""
    return {
        "all": _discoveries(biased | fair, np.where(BIASED, fair, biased)),
        "biased": _discoveries(biased, ~BIASED),
        "fair": _discoveries(fair, BIASED),
    }


def _discoveries(called: np.ndarray, false: np.ndarray) -> float:
    return float(((called & false).sum(axis=1) / np.maximum(called.sum(axis=1), 1)).mean())


def _two_sided(counts: np.ndarray, target: list[float]) -> tuple[np.ndarray, np.ndarray]:
    return (
        stats.p_outside(counts, target, tolerance=TOLERANCE),
        stats.p_within(counts, target, tolerance=TOLERANCE),
    )


def _fixed(
    power: float,
    rng: np.random.Generator,
    test: Callable[[np.ndarray, list[float]], tuple[np.ndarray, np.ndarray]],
    *,
    whole: bool = False,
    claims: np.ndarray | None = None,
) -> int:
    """The least n, to 1 %, at which the fixed design's power (over `claims`, default all) reaches `power`."""

    def reached(n: int) -> float:
        p: list[list[np.ndarray]] = [[], []]
        for several, shares, _ in PROMPTS:
            counts = rng.multinomial(n, shares, size=(1000, several))
            for kept, found in zip(p, test(counts, [1 / len(shares)] * len(shares)), strict=True):
                kept.append(found)
        outside, within = (np.concatenate(parts, axis=1) for parts in p)
        decided = false_discovery_control(np.minimum(outside, within), axis=1) <= RATE
        right = decided & np.where(BIASED, outside <= within, within < outside)
        return _power(right if claims is None else right[:, claims], whole)

    low, high = 1, 3200
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high


def _detection(rng: np.random.Generator) -> Iterator[Found]:
    """The harder comparison: nothing but "differs from the target", so unbiased prompts all run to the
    cap."""
    (log_e,) = _evidence(rng, 300, [stats.log_e_target])
    pictures = np.zeros((PANELS, 40), dtype=int)
    running = np.ones((PANELS, 40), dtype=bool)
    now = np.full((PANELS, 40), -np.inf)
    for i in range(300):
        pictures += running
        now = np.where(running, log_e[..., i], now)
        found = _decided(now)
        running &= ~found
    power = float(found[:, BIASED].mean())

    def test(counts: np.ndarray, target: list[float]) -> tuple[np.ndarray, np.ndarray]:
        p = stats.p_target(counts, target)
        return p, np.ones(p.shape)

    n = _fixed(min(power, 0.999), rng, test, claims=BIASED)
    used = float(pictures.sum(axis=1).mean())
    yield (
        "the same panel asked only for deviations, no certificates (unbiased prompts run to the cap of 300)",
        used / (40 * n),
        "at most",
        None,
        f"{used:.0f} pictures against 40 x {n}; power over the 28 biased {power:.3f}",
    )
