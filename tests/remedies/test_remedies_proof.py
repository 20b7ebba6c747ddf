"""The stop rule of a search: what peeking passes, what an e-process passes; and the fit that leads there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from counterpoise.remedies.proof import judgement, level
from counterpoise.remedies.response import UNIT, fitted, towards

RUNS = 1000
LOOKS = 30


def test_peeking_passes_an_80_20_concept_more_often_than_not() -> None:
    """UCE's rule as released: ten pictures a look, |share - .5| < .05, thirty looks."""
    shares = np.random.default_rng(0).binomial(10, 0.8, (RUNS, LOOKS)) / 10
    passed = (np.abs(shares - 0.5) < 0.05).any(axis=1).mean()
    assert passed == pytest.approx(0.55, abs=0.05)


# 80/20, and shares just outside the tolerance of .15.
@pytest.mark.parametrize("share", [0.8, 0.651])
def test_an_e_process_passes_it_in_at_most_one_run_of_twenty(share: float) -> None:
    """The same thirty tries, each looked at after every ten of 200 pictures, stopped as soon as it passes."""
    generator = np.random.default_rng(1)
    steps = generator.binomial(10, share, (RUNS, LOOKS, 20)).cumsum(axis=2)
    wrong = np.zeros(RUNS, dtype=bool)
    for m in range(LOOKS):
        least, most = passing(candidate=m + 1)
        wrong |= ((steps[:, m] >= least) & (steps[:, m] <= most)).any(axis=1)
    assert wrong.mean() <= 0.05


def test_it_does_pass_what_is_fair() -> None:
    generator = np.random.default_rng(2)
    steps = generator.binomial(10, 0.5, (RUNS, 20)).cumsum(axis=1)
    least, most = passing(candidate=1)
    assert ((steps >= least) & (steps <= most)).any(axis=1).mean() >= 0.8


def passing(*, candidate: int) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest number of women with which a look passes, after 10, 20 ... 200 pictures."""
    if candidate not in _PASSING:
        found = []
        for n in range(10, 201, 10):
            # The farther from half, the less it passes: the first that does not is the end.
            most = next(k for k in range(n // 2, n + 1) if not passes(k, n, candidate)) - 1
            found.append((n - most, most))
        _PASSING[candidate] = tuple(np.array(found).T)
    return _PASSING[candidate]


_PASSING: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def passes(women: int, n: int, candidate: int) -> bool:
    verdict = judgement([women, n - women], [0.5, 0.5], candidate=candidate, tolerance=0.15)
    return verdict.decision == "fair within tolerance"


def test_levels_add_up_to_what_was_promised() -> None:
    assert sum(1 - level(m) for m in range(1, 10_000)) == pytest.approx(0.05, abs=1e-5)
    assert level(1) > 0.95


def test_a_fit_finds_the_weights_at_which_the_mixture_is_right() -> None:
    """A planted response: log odds linear in the weights; five rounds as the search makes them."""
    generator = np.random.default_rng(3)
    d, target = 3, [0.5, 0.3, 0.2]
    base, slope = np.array([3.0, 0.0, 0.0]), 0.6 * np.eye(d)
    weights, tried, read, age = np.zeros(d), [], [], 0

    def shares(at: np.ndarray) -> np.ndarray:
        return softmax(base + at / UNIT @ slope, axis=-1)

    assert np.abs(shares(weights) - target).sum() / 2 > 0.4
    for age in range(1, 7):
        trial = weights + 0.08 * generator.standard_normal((80, d))
        tried.append(trial)
        read += [generator.choice(d, p=p) for p in shares(trial)]
        ages = np.repeat(np.arange(age)[::-1], 80)
        table = fitted(np.concatenate(tried), np.array(read), weights, age=ages)
        weights = weights + towards(table, target, most=0.25)
    assert np.abs(shares(weights) - target).sum() / 2 < 0.08


def test_what_was_not_read_is_left_out_of_the_fit() -> None:
    generator = np.random.default_rng(4)
    weights = generator.standard_normal((40, 2)) / 10
    classes = generator.integers(0, 2, 40)
    more = np.r_[weights, weights + 1], np.r_[classes, np.full(40, -1)]
    ages = np.zeros(40)
    alone = fitted(weights, classes, np.zeros(2), age=ages)
    np.testing.assert_allclose(fitted(*more, np.zeros(2), age=np.zeros(80)), alone, atol=1e-6)
