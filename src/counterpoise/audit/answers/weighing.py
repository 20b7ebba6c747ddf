"""Every hypothesis answered: which kind is answered by which function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..cells import prompt_counts
from ..items import ClaimItem, DisparityItem, DriftItem, Plan, ReachItem
from .cards import Cards
from .claims import answer_claim
from .contrasts import answer_disparity
from .drifts import answer_drift
from .hypotheses import Hypothesis, Item
from .outcome import Answer, Asking
from .reach import answer_reach
from .seen import Seen

if TYPE_CHECKING:
    from ..evidence import Evidence

_ANSWERS: dict[type[Item], Callable[[Asking, Hypothesis], Answer | None]] = {
    ClaimItem: answer_claim,
    DisparityItem: answer_disparity,
    ReachItem: answer_reach,
    DriftItem: answer_drift,
}


def asking_of(evidence: Evidence, plan: Plan, asked: Sequence[Hypothesis], cards: Cards) -> Asking:
    """What answers are given: the evidence up to the plan's largest n, and how much is asked."""
    longest = max(prompt_counts(plan.spec).values())
    seen = Seen(evidence, evidence.attributes, plan.spec.seed, longest)
    return Asking(seen, plan.spec, cards, max(len(asked), 1))


def weigh_all(asking: Asking, asked: Sequence[Hypothesis]) -> list[Answer | None]:
    """The answer to each hypothesis, None where not a single row speaks of it."""
    return [_ANSWERS[type(one.item)](asking, one) for one in asked]
