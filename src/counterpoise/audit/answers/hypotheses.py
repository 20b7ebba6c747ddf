"""What a spec asks of a run's arms: one hypothesis after the other, in an order that the spec decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.audit.cells import negative_of
from counterpoise.audit.items import ClaimItem, DisparityItem, DriftItem, Plan, ReachItem

Item = ClaimItem | DisparityItem | ReachItem | DriftItem


@final
@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One question to one plain arm. pair: (group, reference) of a disparity. cells: (arm, prompt) it needs.

    id: as in `Finding`. n: pictures of each cell at most.
    """

    id: str
    item: Item
    arm: str
    cells: tuple[tuple[str, str], ...]
    pair: tuple[str, str] | None = None

    @property
    def n(self) -> int:
        """Pictures of each cell at most."""
        return self.item.n

    @property
    def scope(self) -> str:
        """ "prompt" or "model"."""
        return "prompt" if isinstance(self.item, ReachItem) else self.item.scope


def hypotheses(plan: Plan, arms: Sequence[str]) -> list[Hypothesis]:
    """Every hypothesis about the plain arms among `arms`, arm by arm, kind by kind.

    A negative prompt's arm answers for its plain arm; a drift is left out where its baseline is not drawn.
    """
    plain = [name for name in arms if negative_of(name) is None]
    return [one for arm in plain for one in _of_arm(plan, arm, set(arms))]


def _of_arm(plan: Plan, arm: str, arms: set[str]) -> Iterator[Hypothesis]:
    numbers: Counter[str] = Counter()

    def name(where: str) -> str:
        numbers[where] += 1
        return f"{where}/{numbers[where] - 1}/{arm}"

    for claim in plan.claims:
        asked = dict.fromkeys((*claim.prompts, *claim.reference))
        yield Hypothesis(name(claim.where), claim, arm, tuple((arm, prompt) for prompt in asked))
    for gap in plan.disparities:
        for pair in gap.pairs():
            cells = tuple((arm, prompt) for group in pair for prompt in gap.groups[group])
            yield Hypothesis(name(gap.where), gap, arm, cells, pair)
    for reach in plan.reachability:
        named = name(reach.where)
        if reach.arm(arm) in arms:
            yield Hypothesis(named, reach, arm, ((reach.arm(arm), reach.prompt),))
    for drift in plan.drifts:
        named = name(drift.where)
        if arm != drift.baseline and drift.baseline in arms:
            cells = tuple((one, prompt) for prompt in drift.prompts for one in (arm, drift.baseline))
            yield Hypothesis(named, drift, arm, cells)
