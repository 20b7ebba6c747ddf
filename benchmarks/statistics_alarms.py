"""How often claims are wrong when looked at after every picture, and how soon they are right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.special import chdtrc

from counterpoise import stats

Found = tuple[str, float, str, float | None, str]
RUNS, LENGTH, CHUNK = 4000, 500, 500
LEVEL = np.log(1 / 0.05)


def paths(shares: list[float], *, runs: int, length: int, seed: int) -> Iterator[np.ndarray]:
    """Counts [runs, length, K] after every picture, a chunk of runs at a time."""
    rng = np.random.default_rng(seed)
    ends = np.cumsum(shares)[:-1]
    for start in range(0, runs, CHUNK):
        labels = np.searchsorted(ends, rng.random((min(CHUNK, runs - start), length)), side="right")
        yield np.cumsum(labels[..., None] == np.arange(len(shares)), axis=1, dtype=np.int32)


def false_alarms() -> Iterator[Found]:
    """A model exactly on target, for uniform and skewed targets."""
    targets = [[1 / k] * k for k in (2, 4, 8)]
    targets.append([0.7, 0.2, 0.1])
    for seed, target in enumerate(targets):
        alarms = peeked = 0
        for counts in paths(target, runs=RUNS, length=LENGTH, seed=seed):
            alarms += int((stats.log_e_target(counts, target) >= LEVEL).any(axis=1).sum())
            looks = counts[:, 9::10].astype(float)
            expected = looks.sum(axis=-1, keepdims=True) * target
            p = chdtrc(len(target) - 1, ((looks - expected) ** 2 / expected).sum(axis=-1))
            peeked += int((p <= 0.05).any(axis=1).sum())
        shape = f"K={len(target)}" + ("" if len(set(target)) == 1 else ", target .7/.2/.1")
        yield (
            f"false alarms, a look after each of {LENGTH} pictures, {shape}, {RUNS} runs",
            alarms / RUNS,
            "at most",
            0.05,
            f"chi-square looked at every 10 pictures: {peeked / RUNS:.3f}",
        )


def false_decisions() -> Iterator[Found]:
    """Shares exactly on the tolerance (not biased) and just past it (not fair): the hardest truths."""
    cases = [([0.6, 0.4], [0.5, 0.5]), ([0.35, 0.25, 0.2, 0.2], [0.25] * 4)]
    for seed, (shares, target) in enumerate(cases):
        biased = fair = 0
        for counts in paths(shares, runs=RUNS, length=LENGTH, seed=10 + seed):
            outside = stats.log_e_outside(counts, target, tolerance=0.1)
            # The same shares lie past a tolerance that is a hair smaller.
            within = stats.log_e_within(counts, target, tolerance=0.0999999)
            biased += int((outside >= LEVEL).any(axis=1).sum())
            fair += int((within >= LEVEL).any(axis=1).sum())
        where = f"K={len(target)}, shares at the limit of the tolerance, {RUNS} runs"
        yield f'false "biased", {where}', biased / RUNS, "at most", 0.05, "a look after every picture"
        yield f'false "fair", {where}', fair / RUNS, "at most", 0.05, "a look after every picture"


def stopping_times() -> Iterator[Found]:
    """Median pictures until bias is shown."""
    cases = [
        ([0.97, 0.01, 0.01, 0.01], 8.0),
        ([0.9, 0.1], 15.0),
        ([0.8, 0.2], None),
        ([0.7, 0.3], None),
        ([0.6, 0.4], None),
        ([0.4, 0.2, 0.2, 0.2], None),
    ]
    for seed, (shares, bound) in enumerate(cases):
        k = len(shares)
        stops = []
        length = 200 if bound else 1500
        for counts in paths(shares, runs=RUNS if bound else 1000, length=length, seed=20 + seed):
            reached = stats.log_e_target(counts, [1 / k] * k) >= LEVEL
            stops.append(np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, length + 1))
        times = np.concatenate(stops)
        yield (
            f"median pictures until bias is shown, {'/'.join(f'{s:g}' for s in shares)} against uniform",
            float(np.median(times)),
            "at most",
            bound,
            f"nine tenths of {len(times)} runs within {np.quantile(times, 0.9):.0f}",
        )
