"""When an audit may stop: which pictures the hypotheses that are still undecided need by the next look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from counterpoise.audit.answers.hypotheses import Hypothesis
from counterpoise.audit.answers.outcome import NEVER, Answer
from counterpoise.audit.answers.panel import decide
from counterpoise.audit.answers.weighing import weigh
from counterpoise.audit.spec import AuditSpec
from counterpoise.measure.calibration import Calibration

if TYPE_CHECKING:
    from counterpoise.audit.evidence import Evidence


def undecided(
    evidence: Evidence,
    spec: AuditSpec | None = None,
    cards: Sequence[Calibration] | None = None,
    *,
    arms: Sequence[str] | None = None,
) -> Mapping[tuple[str, str], int]:
    """(arm, prompt) -> how many pictures it should have by the next look; empty when all is decided.

    The stop rule of `run_audit(..., wanted=...)`. It depends on stored evidence alone, so that a resumed run
    stops where an undisturbed one does. Every hypothesis that the panel (see `answers.panel`) leaves
    undecided gets spec.pictures_a_look more of each of its prompts, at most its n; those compared on shared
    seeds go on together, the one that lags behind first. One that is about the model takes all of its n:
    its evidence is in prompts, and means over prompts hold for numbers of pictures that were fixed only.
    arms: ask for pictures of these only (default: all that the run knows).
    """
    weighed = weigh(evidence, spec, cards)
    plan, asked, asking, answers = weighed.plan, weighed.asked, weighed.asking, weighed.answers
    drawn = {cell: asking.seen.drawn(cell, one.item.attributes[0]) for one in asked for cell in one.cells}
    decisions = decide(
        [_evidence(one, found, drawn) for one, found in zip(asked, answers, strict=True)],
        multiplicity=plan.spec.multiplicity,
        rate=asking.alpha,
        # What the plain procedures have decided, the closed ones of the report decide too.
        one_sided=False,
    )
    wanted: dict[tuple[str, str], int] = {}
    for one, decision in zip(asked, decisions, strict=True):
        if decision != "undecided":
            continue
        level = min(one.n, min(drawn[cell] for cell in one.cells) + plan.spec.pictures_a_look)
        for cell in one.cells:
            if drawn[cell] < level and (arms is None or cell[0] in arms):
                wanted[cell] = max(level, wanted.get(cell, 0))
    return wanted


def _evidence(
    one: Hypothesis, found: Answer | None, drawn: Mapping[tuple[str, str], int]
) -> tuple[float, float]:
    """What a hypothesis brings to the panel by now; nothing while one about the model lacks pictures."""
    unfinished = one.scope == "model" and any(drawn[cell] < one.n for cell in one.cells)
    return (NEVER, NEVER) if found is None or unfinished else (found.biased, found.fair)
