"""How often intervals hold the truth: at one number of pictures, or at every one up to 500."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import binom
from scipy.stats import t as student

from benchmarks.statistics_alarms import LENGTH, LEVEL, Found, paths
from counterpoise import stats

RUNS = 4000
TRUTHS = [[0.5, 0.5], [0.97, 0.01, 0.01, 0.01], [0.25] * 4, [0.3] + [0.1] * 7]


def _named(shares: list[float]) -> str:
    return f"K={len(shares)} from {shares[0]:g}"


def shares() -> Iterator[Found]:
    """All shares at once: exact at fixed n, at every time, and the whole simplex."""
    for seed, truth in enumerate(TRUTHS):
        k = len(truth)
        draws = np.random.default_rng(seed).multinomial(50, truth, size=RUNS)
        table = np.array([_fixed_ends(count, 50, k) for count in range(51)])
        hit = (table[draws, 0] <= truth) & (truth <= table[draws, 1])
        yield (
            f"coverage, exact intervals at n=50, {_named(truth)}",
            hit.all(axis=1).mean(),
            "at least",
            0.95,
            "",
        )
        uniform = [1 / k] * k
        ends = _anytime_ends(LENGTH, alpha=0.05 / (1 if k == 2 else k), centre=1 / k)
        always = simplex = 0
        for counts in paths(truth, runs=RUNS, length=LENGTH, seed=30 + seed):
            n = np.arange(1, LENGTH + 1)[:, None]
            low, high = (end[n, counts] for end in ends)
            always += int(((low <= truth) & (truth <= high)).all(axis=(1, 2)).sum())
            simplex += int(stats.in_simplex_sequence(counts, truth).all(axis=1).sum())
        where = f"at every n up to {LENGTH}, {_named(truth)}"
        yield (
            f"coverage, share sequences (tight at {uniform[0]:g}) {where}",
            always / RUNS,
            "at least",
            0.95,
            "Clopper-Pearson's holds at one n only",
        )
        yield f"coverage, simplex sequence {where}", simplex / RUNS, "at least", 0.95, ""


def _fixed_ends(count: int, n: int, k: int) -> tuple[float, float]:
    e = stats.multinomial_intervals([count, n - count] + [0] * (k - 2))[0]
    return e.low, e.high


def _anytime_ends(length: int, *, alpha: float, centre: float) -> tuple[np.ndarray, np.ndarray]:
    """Tables [n, count] of both ends; cells with count > n are not met."""
    n, count = np.tril_indices(length + 1)
    low, high = np.zeros((length + 1, length + 1)), np.ones((length + 1, length + 1))
    low[n, count], high[n, count] = stats.share_bounds(count, n, alpha=alpha, centre=centre)
    return low, high


def disparities() -> Iterator[Found]:
    """Differences and ratios of rates, paired by seed and not, at every time."""
    pairs = [0.05, 0.25, 0.05, 0.65]
    first, second = pairs[0] + pairs[1], pairs[0] + pairs[2]
    tests: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "difference": lambda c: stats.log_e_paired_difference(c, first - second),
        "ratio": lambda c: stats.log_e_paired_ratio(c, first / second),
    }
    for name, log_e in tests.items():
        held = sum(
            int((log_e(c) < LEVEL).all(axis=1).sum()) for c in paths(pairs, runs=RUNS, length=LENGTH, seed=50)
        )
        yield f"coverage, paired {name} at every n up to {LENGTH}", held / RUNS, "at least", 0.95, ""
    alarms = sum(
        int((stats.log_e_paired(c[..., 1], c[..., 2]) >= LEVEL).any(axis=1).sum())
        for c in paths([0.1, 0.1, 0.1, 0.7], runs=RUNS, length=LENGTH, seed=51)
    )
    yield f"false alarms, paired e-process after each of {LENGTH} pairs", alarms / RUNS, "at most", 0.05, ""
    yield from _unpaired()
    yield (
        "coverage, fixed-n ratio of rates (Koopman), counted out at .1 of 50 against .1 of 50",
        _koopman(0.1, 50),
        "at least",
        None,
        "asymptotic, so about nominal; the sequences above are the ones that guarantee theirs",
    )


def _koopman(rate: float, n: int) -> float:
    """Its exact coverage of a ratio of 1; counts of probability under 1e-6 are counted as missed."""
    chance = binom.pmf(np.arange(n + 1), n, rate)
    met = [int(x) for x in np.flatnonzero(chance > 1e-6)]
    held = 0.0
    for x in met:
        for y in met:
            e = stats.risk_ratio((x, n), (y, n))
            held += float(chance[x] * chance[y]) * (e.low <= 1.0 <= e.high)
    return held


def _unpaired() -> Iterator[Found]:
    runs, looks = 1000, np.arange(10, LENGTH + 1, 10)
    rng = np.random.default_rng(52)
    rates = (0.3, 0.1)
    counts = [rng.binomial(10, rate, size=(runs, len(looks))).cumsum(axis=1) for rate in rates]
    sides = [(x, looks) for x in counts]
    held = (stats.log_e_difference(sides[0], sides[1], rates[0] - rates[1]) < LEVEL).all(axis=1)
    yield f"coverage, unpaired difference, a look every 10 up to {LENGTH}", held.mean(), "at least", 0.95, ""
    held = (stats.log_e_ratio(sides[0], sides[1], rates[0] / rates[1]) < LEVEL).all(axis=1)
    yield f"coverage, unpaired ratio, a look every 10 up to {LENGTH}", held.mean(), "at least", 0.95, ""


def judge_error() -> Iterator[Found]:
    """True shares and rates behind a judge who errs unequally and abstains, its card from 150 labels a
    class."""
    rates = np.array([[0.90, 0.04, 0.02, 0.04], [0.10, 0.75, 0.05, 0.10], [0.01, 0.14, 0.75, 0.10]])
    truth = np.array([0.6, 0.3, 0.1])
    rng = np.random.default_rng(60)
    runs, hits, raw = 300, {True: 0, False: 0}, 0
    for i in range(runs):
        seen = rng.multinomial(300, truth @ rates)
        card = np.stack([rng.multinomial(150, row) for row in rates])
        found = stats.corrected_shares(seen, card, anytime=i % 2 == 0)
        hits[i % 2 == 0] += all(e.low <= p <= e.high for e, p in zip(found, truth, strict=True))
        plain = stats.multinomial_intervals([int(x) for x in seen])
        raw += all(e.low <= p <= e.high for e, p in zip(plain, truth, strict=False))
    for anytime, name in ((False, "fixed-n"), (True, "anytime")):
        yield (
            f"coverage, shares corrected for a judge's error, {name} readings",
            hits[anytime] / (runs / 2),
            "at least",
            0.95,
            f"uncorrected exact intervals: {raw / runs:.3f}",
        )
    yield from _judged_rates(rng)


def _judged_rates(rng: np.random.Generator) -> Iterator[Found]:
    """Both groups show it in 2 % of pictures; the judge's false-positive rates are 2 % and 8 %."""
    runs, held, invented = 300, 0, 0
    cards = [np.array([[0.9, 0.1], [fpr, 1 - fpr]]) for fpr in (0.08, 0.02)]
    for _ in range(runs):
        sides = []
        for rates in cards:
            seen = rng.multinomial(1000, np.array([0.02, 0.98]) @ rates)
            sides.append((seen, np.stack([rng.multinomial(500, row) for row in rates])))
        difference, ratio = stats.corrected_disparity(*sides)
        held += difference.low <= 0.0 <= difference.high and ratio.low <= 1.0 <= ratio.high
        first, second = ((int(seen[0]), 1000) for seen, _ in sides)
        invented += stats.risk_ratio(first, second).low > 1.0
    yield (
        "coverage, difference and ratio of rates corrected for each group's judge error",
        held / runs,
        "at least",
        0.95,
        f"uncorrected intervals that find a disparity where there is none: {invented / runs:.3f}",
    )


def clusters() -> Iterator[Found]:
    """Prompts as clusters: 10 to 40 prompts of 20 pictures, from even to nearly all at one end."""
    kinds = {"even": (5.0, 5.0), "U-shaped": (0.5, 0.5), "skewed": (0.3, 0.03), "rare": (0.05, 1.0)}
    runs, rng = 2000, np.random.default_rng(70)
    for m in (10, 20, 40):
        for name, (a, b) in kinds.items():
            truth = a / (a + b)
            values = rng.binomial(20, rng.beta(a, b, size=(runs, m))) / 20.0
            log_e = stats.log_wealth(
                values - truth, np.ones((runs, m)), span=(np.full(runs, -truth), np.full(runs, 1.0 - truth))
            )
            yield (
                f"coverage, mean share over {m} prompts as clusters, {name}",
                (log_e < LEVEL).mean(),
                "at least",
                0.95,
                f"t interval over prompts: {_student(values, truth):.3f}; "
                f"pictures as the sample: {_pooled(values, truth):.3f}",
            )
    yield from _distances(rng)


def _student(values: np.ndarray, truth: float) -> float:
    m = values.shape[1]
    half = student.ppf(0.975, m - 1) * values.std(axis=1, ddof=1) / np.sqrt(m)
    return float((np.abs(values.mean(axis=1) - truth) <= half).mean())


def _pooled(values: np.ndarray, truth: float) -> float:
    n = values.shape[1] * 20
    held = [stats.clopper_pearson(round(float(v) * n), n) for v in values.mean(axis=1)[:300]]
    return float(np.mean([e.low <= truth <= e.high for e in held]))


def _distances(rng: np.random.Generator) -> Iterator[Found]:
    """The mean true distance, and a published score's excess, over 15 prompts of 9 pictures, K = 4."""
    runs, uniform = 300, [0.25] * 4
    for name, strength in (("fair", None), ("mild", 10.0), ("gross", 0.3)):
        prompts = rng.dirichlet([strength] * 4, size=(20000,)) if strength else np.full((20000, 4), 0.25)
        true_mean = float(0.5 * np.abs(prompts - 0.25).sum(axis=1).mean())
        scored = rng.multinomial(9, prompts)
        metric = stats.METRICS["dalleval_mad"]
        excess = float((np.abs(scored / 9 - 0.25).sum(axis=1) / 4).mean()) - metric.fair([3, 2, 2, 2])
        hits = scores = 0
        for _ in range(runs):
            table = rng.multinomial(9, prompts[rng.integers(0, 20000, size=15)])
            e = stats.clustered_distance(table, uniform)
            hits += e.low <= true_mean <= e.high
            s = stats.clustered_score(table, metric)
            scores += s.low <= excess <= s.high
        yield f"coverage, mean true distance over 15 prompts, {name}", hits / runs, "at least", 0.95, ""
        yield f"coverage, floor-corrected MAD over 15 prompts, {name}", scores / runs, "at least", 0.95, ""
