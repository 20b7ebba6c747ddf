"""Quotas in whole people: who comes next so that every prefix stays within one person of its target.

Shares are exact (`fractions.Fraction`), so a sequence of any length does not drift. Ties go to the index
named first, or by a seed. Nothing here knows what an index stands for.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import final


def tijdeman(
    shares: Sequence[Fraction], n: int, *, counts: Sequence[int] | None = None, seed: int | None = None
) -> Iterator[int]:
    """The next `n` indices, so that after each of them all have had their share, within `bound(shares)`.

    shares: one for each index, exact, at least 0, in all 1; indices of share 0 never come. counts: how often
    each index came before (a sequence goes on over calls). seed: shuffles who wins ties; None: the first.
    ValueError for shares, counts or n that are none. Source: R. Tijdeman, The chairman assignment problem,
    Discrete Mathematics 32 (1980): among j with p_j n - c_j >= d, d = 1/(2k-2), the least
    (1 - d - (p_j n - c_j)) / p_j.
    """
    weights, total = _checked(shares)
    had = _checked_counts(counts, len(weights))
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ValueError(f"n is {n!r}: expected a whole number of at least 0")
    return _sequence(weights, total, had, n=n, ranks=_ranks(len(weights), seed))


def bound(shares: Sequence[Fraction]) -> Fraction:
    """The furthest that a prefix of `tijdeman` is from its target: 1 - 1/(2k-2) people for k >= 2 values."""
    k = sum(share > 0 for share in shares)
    return Fraction(0) if k == 1 else 1 - Fraction(1, 2 * k - 2)


def safe_next(
    shares: Sequence[Fraction], counts: Sequence[int], *, block: tuple[int, Sequence[int]] | None = None
) -> tuple[int, ...]:
    """All indices that may come next while every later prefix can still stay within one person of its target.

    `tijdeman` would take one of them; the freedom to take another keeps two sequences from walking in step.
    block: (draws left in this block, indices that it has still to hold): keeps room for those too; prefixes
    are then kept between the floor and the ceiling of their targets. Empty where the counts so far leave no
    way. ValueError as `tijdeman`.

    Source: the draws are unit jobs with a first and a last time. With these counts there is a way on just
    where for no later time t' more jobs fall due by t' than there are draws until then (Hall's condition;
    jobs that begin later are what the theorem has room for anyway).
    """
    weights, total = _checked(shares)
    had = _checked_counts(counts, len(weights))
    limits = _Limits(weights, total, had, block)
    n = sum(had) + 1
    found = []
    for index, weight in enumerate(weights):
        if not weight or had[index] + 1 > limits.upper(index, n):
            continue
        after = [count + (i == index) for i, count in enumerate(had)]
        if _can_go_on(limits, after, n):
            found.append(index)
    return tuple(found)


def largest_remainder(shares: Sequence[Fraction], n: int, *, seed: int | None = None) -> list[int]:
    """Whole counts that sum to n, each the floor or the ceiling of its share of n (Hamilton's method).

    What the floors leave goes to the largest remainders; ties as in `tijdeman`. ValueError likewise.
    """
    weights, total = _checked(shares)
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ValueError(f"n is {n!r}: expected a whole number of at least 0")
    ranks = _ranks(len(weights), seed)
    counts = [weight * n // total for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: (-(weights[i] * n % total), ranks[i]))
    for index in order[: n - sum(counts)]:
        counts[index] += 1
    return counts


@final
class _Limits:
    """The fewest and the most that each index may have had after t draws."""

    def __init__(
        self,
        weights: list[int],
        total: int,
        counts: list[int],
        block: tuple[int, Sequence[int]] | None,
    ) -> None:
        self._weights, self._total = weights, total
        left, missing = (0, ()) if block is None else block
        live = sum(weight > 0 for weight in weights)
        # Whole numbers in units of 1 / (total * scale). Any deviation below 1 is the floor or the ceiling;
        # blocks need all of that room.
        self._scale = max(2 * live - 2, 1) if block is None else 2
        self._slack = total * (self._scale - 1) if block is None else 2 * total - 1
        self._block_end = sum(counts) + left
        self._owed = {index: counts[index] + 1 for index in missing}

    def upper(self, index: int, t: int) -> int:
        return (self._weights[index] * t * self._scale + self._slack) // (self._total * self._scale)

    def lower(self, index: int, t: int) -> int:
        ahead = self._weights[index] * t * self._scale - self._slack
        least = -(-ahead // (self._total * self._scale))
        return max(0, least, self._owed.get(index, 0) if t >= self._block_end else 0)


def _can_go_on(limits: _Limits, counts: list[int], n: int) -> bool:
    t = n
    while True:
        due = [limits.lower(i, t) for i in range(len(counts))]
        if sum(max(0, d - c) for d, c in zip(due, counts, strict=True)) > t - n:
            return False
        if all(d >= c for d, c in zip(due, counts, strict=True)):
            return True
        t += 1


def _sequence(
    weights: list[int], total: int, counts: list[int], *, n: int, ranks: list[int]
) -> Iterator[int]:
    live = [i for i, weight in enumerate(weights) if weight]
    if len(live) == 1:
        yield from (live[0] for _ in range(n))
        return
    k2 = 2 * len(live) - 2
    for t in range(sum(counts) + 1, sum(counts) + n + 1):
        # In units of 1 / (total * k2), so that all is whole numbers.
        lack = {i: (weights[i] * t - counts[i] * total) * k2 for i in live}
        chosen = min(
            (i for i in live if lack[i] >= total),
            key=lambda i: (Fraction(total * (k2 - 1) - lack[i], weights[i]), ranks[i]),
        )
        counts[chosen] += 1
        yield chosen


def _ranks(size: int, seed: int | None) -> list[int]:
    ranks = list(range(size))
    if seed is not None:
        random.Random(seed).shuffle(ranks)
    return ranks


def _checked(shares: Sequence[Fraction]) -> tuple[list[int], int]:
    """The shares as whole weights of their common denominator."""
    for share in shares:
        if not isinstance(share, (Fraction, int)) or isinstance(share, bool) or share < 0:
            raise ValueError(f"share {share!r}: expected a Fraction of at least 0")
    if not shares or sum(shares) != 1:
        raise ValueError(f"shares {[str(s) for s in shares]} sum to {sum(shares)}: expected 1")
    exact = [Fraction(share) for share in shares]
    total = math.lcm(*(share.denominator for share in exact))
    return [share.numerator * (total // share.denominator) for share in exact], total


def _checked_counts(counts: Sequence[int] | None, size: int) -> list[int]:
    had = [0] * size if counts is None else list(counts)
    if len(had) != size or any(isinstance(c, bool) or not isinstance(c, int) or c < 0 for c in had):
        raise ValueError(f"counts {had!r}: expected {size} whole numbers of at least 0")
    return had
