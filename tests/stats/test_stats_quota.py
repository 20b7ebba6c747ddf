"""Quotas: every prefix within one person of its target, for any shares, over any number of calls."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.stats.quota import bound, largest_remainder, safe_next, tijdeman


@st.composite
def targets(draw: st.DrawFn) -> list[Fraction]:
    weights = draw(st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(any))
    return [Fraction(weight, sum(weights)) for weight in weights]


def furthest(shares: list[Fraction], drawn: list[int]) -> Fraction:
    """The largest distance of a count from its target, over all prefixes."""
    counts, most = [0] * len(shares), Fraction(0)
    for n, index in enumerate(drawn, 1):
        counts[index] += 1
        most = max(most, *(abs(share * n - count) for share, count in zip(shares, counts, strict=True)))
    return most


@settings(max_examples=300, deadline=None)
@given(targets(), st.integers(0, 2**32), st.booleans())
def test_every_prefix_stays_within_tijdemans_bound(shares: list[Fraction], seed: int, tied: bool) -> None:
    drawn = list(tijdeman(shares, 150, seed=seed if tied else None))
    assert furthest(shares, drawn) <= bound(shares) < 1


@settings(max_examples=60, deadline=None)
@given(targets(), st.lists(st.integers(0, 13), max_size=8))
def test_a_sequence_in_parts_is_the_sequence(shares: list[Fraction], parts: list[int]) -> None:
    counts, joined = [0] * len(shares), []
    for part in parts:
        new = list(tijdeman(shares, part, counts=counts))
        joined += new
        for index in new:
            counts[index] += 1
    assert joined == list(tijdeman(shares, sum(parts)))


@settings(max_examples=60, deadline=None)
@given(targets(), st.integers(0, 2**32))
def test_any_safe_choice_keeps_every_prefix_within_the_bound(shares: list[Fraction], seed: int) -> None:
    rng, counts, drawn = random.Random(seed), [0] * len(shares), []
    for _ in range(60):
        safe = safe_next(shares, counts)
        assert next(tijdeman(shares, 1, counts=counts)) in safe
        drawn.append(rng.choice(safe))  # an IndexError here would be the theorem's end
        counts[drawn[-1]] += 1
    assert furthest(shares, drawn) <= bound(shares)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 4), st.integers(0, 2**32))
def test_blocks_can_hold_every_value_without_breaking_the_quota(
    weights: list[int], more: int, seed: int
) -> None:
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    size = -(-sum(weights) // min(weights)) + more  # the smallest share times size is at least one
    rng, counts, drawn = random.Random(seed), [0] * len(shares), []
    missing: set[int] = set()
    for n in range(4 * size):
        missing = missing if n % size else set(range(len(shares)))
        drawn.append(rng.choice(safe_next(shares, counts, block=(size - n % size, sorted(missing)))))
        counts[drawn[-1]] += 1
        missing.discard(drawn[-1])
    assert furthest(shares, drawn) < 1
    for start in range(0, len(drawn), size):
        assert set(drawn[start : start + size]) == set(range(len(shares)))


def test_a_block_too_small_for_every_value_has_no_way() -> None:
    thirds = [Fraction(1, 3)] * 3
    assert safe_next(thirds, [0, 0, 0], block=(2, [0, 1, 2])) == ()
    assert safe_next(thirds, [0, 0, 0], block=(3, [0, 1, 2])) == (0, 1, 2)


def test_drawing_by_lot_strays_far_where_the_rule_does_not() -> None:
    shares, rng = [Fraction(2, 5), Fraction(2, 5), Fraction(1, 5)], random.Random(0)
    by_lot = [rng.choices(range(3), weights=[2, 2, 1])[0] for _ in range(2000)]
    assert furthest(shares, by_lot) > 10
    assert furthest(shares, list(tijdeman(shares, 2000))) <= Fraction(3, 4)


def test_zero_shares_never_come_and_one_value_always_does() -> None:
    assert list(tijdeman([Fraction(0), Fraction(1), Fraction(0)], 5)) == [1] * 5
    assert set(tijdeman([Fraction(1, 2), Fraction(0), Fraction(1, 2)], 40)) == {0, 2}
    assert bound([Fraction(1)]) == 0


def test_ties_go_by_order_and_by_seed_alike_each_time() -> None:
    half = [Fraction(1, 2)] * 2
    assert list(tijdeman(half, 4)) == [0, 1, 0, 1]
    firsts = {next(tijdeman(half, 1, seed=seed)) for seed in range(20)}
    assert firsts == {0, 1}
    assert list(tijdeman(half, 9, seed=3)) == list(tijdeman(half, 9, seed=3))


@settings(max_examples=100, deadline=None)
@given(targets(), st.integers(0, 500))
def test_largest_remainders_are_floors_and_ceilings(shares: list[Fraction], n: int) -> None:
    counts = largest_remainder(shares, n)
    assert sum(counts) == n
    assert all(abs(share * n - count) < 1 for share, count in zip(shares, counts, strict=True))


@pytest.mark.parametrize(
    ("shares", "n", "counts"),
    [
        ([], 1, None),
        ([Fraction(1, 2)], 1, None),
        ([Fraction(3, 2), Fraction(-1, 2)], 1, None),
        ([0.5, 0.5], 1, None),
        ([Fraction(1)], -1, None),
        ([Fraction(1)], True, None),
        ([Fraction(1)], 1, [1, 2]),
        ([Fraction(1)], 1, [-1]),
    ],
)
def test_misuse_is_a_value_error(shares: list, n: int, counts: list[int] | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        tijdeman(shares, n, counts=counts)
