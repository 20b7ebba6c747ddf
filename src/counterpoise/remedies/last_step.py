"""How much of a repair's last training to keep, from what was read before it and after it.

A training follows its corrected shares only in part, and may go on with what earlier ones had left undone:
the last may lead past the targets. Between the two students lie others: their factors' means, which draw, to
first order, the means of what both draw (arXiv:2203.05482 averages fine-tuned weights likewise).

Comes in: a goal, two readings, two adapters. Goes out: a share, an adapter.
"""

from __future__ import annotations

from counterpoise.lora import Adapter, LowRank
from counterpoise.remedies.choose import distance
from counterpoise.remedies.correcting import Seen
from counterpoise.remedies.goal import Goal

STEPS = 8  # the shares that are looked at: 0, 1/8 ... 1


def far(goal: Goal, seen: Seen) -> float:
    """The mean distance over the edits of what was read from the goal's targets."""
    apart = [distance(edit, own) for edit, own in zip(goal.edits, seen, strict=True)]
    return sum(apart) / len(apart)


def kept_share(goal: Goal, before: Seen, after: Seen) -> float:
    """Where between two readings, 0 before and 1 after, the targets are nearest; the latest such place."""
    shares = [i / STEPS for i in range(STEPS, -1, -1)]
    return min(shares, key=lambda share: far(goal, mean_of(before, after, share)))


def mean_of(first: Seen, second: Seen, share: float) -> list[list[float]]:
    """`share` of the second, the rest of the first."""
    return [
        [a + share * (b - a) for a, b in zip(one, other, strict=True)]
        for one, other in zip(first, second, strict=True)
    ]


def between(first: Adapter, second: Adapter, share: float) -> Adapter:
    """The factors' mean, `share` of the second's, of two adapters of the same layers, ranks and alphas.

    At 0 and 1 one of the two, to the bit.
    """
    if share in (0.0, 1.0):
        return second if share else first
    layers = {path: _mean(update, second.layers[path], share) for path, update in first.layers.items()}
    return Adapter(layers, second.metadata)


def _mean(first: object, second: object, share: float) -> LowRank:
    assert isinstance(first, LowRank)
    assert isinstance(second, LowRank)
    assert first.alpha == second.alpha
    return LowRank(first.down.lerp(second.down, share), first.up.lerp(second.up, share), alpha=first.alpha)
