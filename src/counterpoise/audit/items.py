"""What a spec asks, question by question, as plain frozen records: what an analysis answers.

A question about each prompt by itself (scope "prompt") gives one item a prompt, or a set of counterfactual
prompts; one about the model gives one item with all of them. Items are the hypotheses: of every plain arm,
or, for drift, of every plain arm against the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.audit.cells import negative_arm, prompt_counts
from counterpoise.audit.spec import AuditSpec


@final
@dataclass(frozen=True, slots=True)
class ClaimItem:
    """Is the attributes' joint distribution, over each of the prompts, the target?

    where: its table ("claim[0]"). values: every value that can be read (see targets.py). target: value ->
    share, or None where reference holds, prompt by prompt, the prompts whose distribution is the target.
    n: pictures of each prompt. scope: "prompt" (one prompt) or "model" (all, as a sample of clusters).
    """

    where: str
    prompts: tuple[str, ...]
    attributes: tuple[str, ...]
    values: tuple[str, ...]
    target: Mapping[str, float] | None
    reference: tuple[str, ...]
    tolerance: float | None
    scope: str
    held_out: bool
    n: int


@final
@dataclass(frozen=True, slots=True)
class DisparityItem:
    """How do the rates of an event differ between groups, whose prompts differ in one slot only?

    groups: group -> its prompts; the i-th of every group differ in that slot alone, and are paired by seed.
    templates: what the i-th share, with {group} for what differs. counted: the values that make the event.
    reference: the group that the others are compared with; None: every pair, and the highest with the rest.
    """

    where: str
    templates: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    attributes: tuple[str, ...]
    values: tuple[str, ...]
    counted: tuple[str, ...]
    reference: str | None
    max_ratio: float | None
    tolerance: float | None
    scope: str
    n: int

    def pairs(self) -> list[tuple[str, str]]:
        """(group, group that it is compared with): each with the reference, or every pair."""
        names = list(self.groups)
        if self.reference is not None:
            return [(name, self.reference) for name in names if name != self.reference]
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


@final
@dataclass(frozen=True, slots=True)
class ReachItem:
    """Does a prompt get what it asks for in at least min_rate of its pictures?

    Obeyed is a picture read as one of `counted`; with a negative prompt, one read as any other value. A
    picture that was not read does not obey. negative: the negative prompt's number (from 1) and text.
    """

    where: str
    prompt: str
    attributes: tuple[str, ...]
    values: tuple[str, ...]
    counted: tuple[str, ...]
    negative: tuple[int, str] | None
    min_rate: float
    held_out: bool
    n: int

    def arm(self, plain: str) -> str:
        """The arm whose pictures answer for a plain arm: itself, or the one with the negative prompt."""
        return plain if self.negative is None else negative_arm(plain, self.negative[0])


@final
@dataclass(frozen=True, slots=True)
class DriftItem:
    """Is the attributes' joint distribution, over each prompt, the baseline arm's, on shared seeds?"""

    where: str
    prompts: tuple[str, ...]
    attributes: tuple[str, ...]
    values: tuple[str, ...]
    baseline: str
    tolerance: float | None
    scope: str
    n: int


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """All that a spec asks, in its order. spec: as bound to its judge. negatives: as cells.negatives."""

    spec: AuditSpec
    claims: tuple[ClaimItem, ...]
    disparities: tuple[DisparityItem, ...]
    reachability: tuple[ReachItem, ...]
    drifts: tuple[DriftItem, ...]
    negatives: tuple[str, ...]

    def arms(self, plain: Sequence[str]) -> tuple[str, ...]:
        """Every arm's name: the plain ones, each followed by those with its negative prompts."""
        return tuple(
            name
            for arm in plain
            for name in (arm, *(negative_arm(arm, k + 1) for k in range(len(self.negatives))))
        )

    def pictures(self, arm: str) -> int:
        """How many pictures an arm needs, at most."""
        return sum(prompt_counts(self.spec, arm).values())
