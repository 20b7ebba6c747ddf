"""Every hypothesis answered: which kind is answered by which function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from counterpoise.audit.answers.claims import answer_claim
from counterpoise.audit.answers.contrasts import answer_disparity
from counterpoise.audit.answers.drifts import answer_drift
from counterpoise.audit.answers.hypotheses import Hypothesis, Item, hypotheses
from counterpoise.audit.answers.outcome import Answer, Asking
from counterpoise.audit.answers.reach import answer_reach
from counterpoise.audit.answers.seen import Seen
from counterpoise.audit.cards import kept_cards
from counterpoise.audit.cells import prompt_counts
from counterpoise.audit.items import ClaimItem, DisparityItem, DriftItem, Plan, ReachItem
from counterpoise.audit.plan import plan_of
from counterpoise.audit.spec import AuditSpec
from counterpoise.measure.calibration import Calibration

if TYPE_CHECKING:
    from counterpoise.audit.evidence import Evidence

_ANSWERS: dict[type[Item], Callable[[Asking, Hypothesis], Answer | None]] = {
    ClaimItem: answer_claim,
    DisparityItem: answer_disparity,
    ReachItem: answer_reach,
    DriftItem: answer_drift,
}


@final
@dataclass(frozen=True, slots=True)
class Weighed:
    """All that is asked, and the answer to each; None where not a single row speaks of it."""

    plan: Plan
    asked: list[Hypothesis]
    asking: Asking
    answers: list[Answer | None]


def weigh(evidence: Evidence, spec: AuditSpec | None, cards: Sequence[Calibration] | None) -> Weighed:
    """Every hypothesis of the spec (default: the run's own) weighed on the evidence up to the plan's n.

    cards: the judge's confusion cards; by default those that were kept with the run.
    """
    plan = plan_of(evidence.spec if spec is None else spec, evidence.attributes)
    if cards is None:
        cards = kept_cards(evidence.folder, plan.spec) if plan.spec.confusion else ()
    asked = hypotheses(plan, [str(arm["name"]) for arm in evidence.arms])
    longest = max(prompt_counts(plan.spec).values())
    seen = Seen(evidence, evidence.attributes, plan.spec.seed, longest)
    asking = Asking(seen, plan.spec, tuple(cards), max(len(asked), 1))
    return Weighed(plan, asked, asking, [_ANSWERS[type(one.item)](asking, one) for one in asked])
