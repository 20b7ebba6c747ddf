"""The four kinds of questions: default (claim), disparity, reachability, drift.

Each is a frozen pydantic model whose fields' descriptions say what is expected; refusals quote them (see
refusals.py). What a question amounts to, prompt by prompt, is in plan.py.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, final

from pydantic import Field, model_validator

from counterpoise.audit.fields import (
    DISTANCE,
    MAX_PROMPT,
    PICTURES,
    SCOPES,
    Attribute,
    Attributes,
    Count,
    Distance,
    KeyProblem,
    Options,
    Prompt,
    Prompts,
    Scope,
    Slots,
    Strict,
    Target,
    Templates,
    Values,
    Word,
    as_tuple,
    options_of,
)
from counterpoise.audit.template import fill, slots_in

GROUP = "group"
SLOT = "{group}"
KINDS = ("claim", "disparity", "reachability", "drift")
_ATTRIBUTE = "the name of an attribute that the measurer reads, or a list of names for their intersection"
_VALUE = 'one of the attribute\'s values, or a list of them; of an intersection, like "woman & dark"'
_SLOTS = 'a table of slots, each a list of words or a table of label = word, like { who = ["boss", "nurse"] }'
_TEMPLATE = "a prompt with {slots}, or a list of them"
_PROMPTS = "a list of one or more prompts, each some text"
_FILE = "the name of a text file beside the spec, one prompt a line"
_RATE = "a number above 0 and at most 1, such as 0.9"


class Question(Strict):
    """What every question has: how many pictures, and the words of its slots."""

    n: Count | None = Field(default=None, description=PICTURES)
    slots: Slots = Field(default_factory=dict, description=_SLOTS)

    @abstractmethod
    def templates(self) -> tuple[str, ...]:
        """The texts whose braces are slots."""

    @model_validator(mode="after")
    def _slots_fit(self) -> Question:
        held: set[str] = set()
        for template in self.templates():
            try:
                held.update(slots_in(template))
            except ValueError as problem:
                raise KeyProblem("template", str(problem)) from None
        unused = [name for name in self.slots if name not in held]
        if unused:
            listed = ", ".join(sorted(held)) or "none"
            raise KeyProblem(
                f"slots.{unused[0]}",
                f"is a slot that the template does not hold (it holds: {listed}); write {{{unused[0]}}} into "
                "it or delete the slot",
            )
        return self


class Asked(Question):
    """A question about a list of prompts: written out, in a file, or made from templates."""

    prompts: Prompts = Field(default=(), description=_PROMPTS)
    prompts_file: Word | None = Field(default=None, exclude=True, description=_FILE)
    template: Templates | None = Field(default=None, description=_TEMPLATE)

    def templates(self) -> tuple[str, ...]:
        """The texts whose braces are slots; prompts that are written out have none."""
        return () if self.template is None else as_tuple(self.template)

    def sources(self) -> list[str]:
        """Which of the keys say the prompts."""
        given = {"prompts": self.prompts, "prompts_file": self.prompts_file, "template": self.template}
        return [key for key, value in given.items() if value]

    @model_validator(mode="after")
    def _one_source(self) -> Asked:
        given = self.sources()
        if len(given) > 1:
            raise KeyProblem(given[1], f"is given beside {given[0]}: expected one of them; use two tables")
        if self.prompts_file is not None:
            raise KeyProblem(
                "prompts_file", "is read beside a spec's file only: use load_spec, or write prompts"
            )
        if not given and (others := self.instead()):
            lack = "is []" if "prompts" in self.model_fields_set else "is missing"
            raise KeyProblem("prompts", f"{lack}: expected {_PROMPTS} (or {others}); add it")
        return self

    def instead(self) -> str:
        """The keys that may stand where prompts are missing; none if they need not be there."""
        return "prompts_file, or template"


def _pooled(question: ClaimQuestion | DriftQuestion) -> None:
    if question.scope == "model" and len(question.prompts) == 1:
        raise KeyProblem("scope", 'is "model": expected two or more prompts to speak for it; add prompts')


@final
class ClaimQuestion(Asked):
    """How is an attribute distributed for each of these prompts, against a target?"""

    attribute: Attribute = Field(description=_ATTRIBUTE)
    target: Target = Field(
        default="uniform",
        description='"uniform", shares that sum to 1, { prompt = "another prompt" }, or for several '
        "attributes a target each",
    )
    tolerance: Distance | None = Field(default=None, description=DISTANCE)
    scope: Scope = Field(default="prompt", description=SCOPES)
    held_out: bool = Field(default=False, strict=True, description="true or false")

    @property
    def reference(self) -> str | None:
        """The prompt (in a claim with a template: itself one) whose distribution is the target, if one is."""
        prompt = self.target.get("prompt") if isinstance(self.target, Mapping) else None
        return prompt if isinstance(prompt, str) else None

    @model_validator(mode="after")
    def _fits(self) -> ClaimQuestion:
        _pooled(self)
        if self.reference is not None and self.template is not None:
            try:
                unknown = set(slots_in(self.reference)).difference(*map(slots_in, self.templates()))
            except ValueError as problem:
                raise KeyProblem("target.prompt", str(problem)) from None
            if unknown:
                raise KeyProblem(
                    "target.prompt",
                    f"holds {{{min(unknown)}}}, which the template does not: expected slots of the template",
                )
        if self.reference in self.prompts:
            raise KeyProblem("target.prompt", "is one of the prompts: a prompt cannot be its own target")
        return self


@final
class DisparityQuestion(Question):
    """How often is a value drawn for prompts that differ in one slot, picture by picture on shared seeds?"""

    template: Templates = Field(description=f"a prompt that holds {SLOT}, or another slot, or a list of them")
    slot: Word | None = Field(default=None, description="the name of the slot in which the prompts differ")
    groups: Options | None = Field(
        default=None,
        description="a list of two or more words (or a table of label = word) to put into the slot",
    )
    attribute: Attribute = Field(description=_ATTRIBUTE)
    value: Values = Field(description=_VALUE)
    reference: Word | None = Field(default=None, description="one of the groups")
    max_ratio: float | None = Field(
        default=None, strict=True, gt=1.0, le=1000.0, description="a number above 1, such as 1.25"
    )
    tolerance: Distance | None = Field(default=None, description=DISTANCE)
    scope: Scope = Field(default="prompt", description=SCOPES)

    def templates(self) -> tuple[str, ...]:
        """The texts whose braces are slots."""
        return as_tuple(self.template)

    @property
    def differing(self) -> str:
        """The slot in which the prompts differ: as said, else {group}, else the only one."""
        held = slots_in(self.templates()[0])
        return self.slot or (held[0] if len(held) == 1 else GROUP)

    def prompt(self, group: str) -> str:
        """The first template with the group's word in its slot, if it has no other; KeyError otherwise."""
        return fill(self.templates()[0], {self.differing: options_of(self.groups or (group,))[group]})

    @model_validator(mode="after")
    def _groups_fit(self) -> DisparityQuestion:
        for template in self.templates():
            held = slots_in(template)
            if self.differing not in held:
                listed = ", ".join(held) or "none"
                raise KeyProblem(
                    "slot" if self.slot else "template",
                    f"is {(self.slot or template)!r:.60}: expected the template to hold {{{self.differing}}} "
                    f"where the groups go (it holds: {listed}); name the slot that differs with slot",
                )
        if self.groups is not None and self.differing in self.slots:
            raise KeyProblem("groups", f"is given beside slots.{self.differing}: expected one of them")
        if self.groups is None and self.differing == GROUP and GROUP not in self.slots:
            raise KeyProblem("groups", "is missing: expected a list of two or more words; add it")
        return self


@final
class Case(Strict):
    """An explicit prompt and what it asks for."""

    prompt: Prompt = Field(description="a prompt, some text")
    attribute: Attribute = Field(description=_ATTRIBUTE)
    value: Values = Field(description=_VALUE)


@final
class Negative(Strict):
    """A negative prompt and what it is to remove."""

    prompt: Annotated[Prompt, Field(max_length=MAX_PROMPT)] = Field(
        description="what is not to be drawn, some text"
    )
    attribute: Attribute = Field(description=_ATTRIBUTE)
    value: Values = Field(description=_VALUE)


@final
class ReachabilityQuestion(Asked):
    """Does each explicit prompt get its variant; does a negative prompt remove it?"""

    attribute: Attribute | None = Field(default=None, description=_ATTRIBUTE)
    value: Values | None = Field(default=None, description=_VALUE)
    cases: tuple[Case, ...] = Field(default=(), description="a list of { prompt, attribute, value }")
    negative: Negative | None = Field(default=None, description="a table { prompt, attribute, value }")
    min_rate: float = Field(default=0.8, strict=True, gt=0.0, le=1.0, description=_RATE)
    held_out: bool = Field(default=False, strict=True, description="true or false")

    def instead(self) -> str:
        """The keys that may stand where prompts are missing; none if they need not be there."""
        return "" if self.cases else "prompts_file, template or cases"

    @model_validator(mode="after")
    def _one_form(self) -> ReachabilityQuestion:
        if self.cases:
            beside = [*self.sources(), *(k for k in ("negative", "attribute", "value") if getattr(self, k))]
            if beside:
                raise KeyProblem(beside[0], "is given beside cases, which say it all; use two tables")
        if self.negative:
            beside = [key for key in ("attribute", "value") if getattr(self, key)]
            if beside:
                raise KeyProblem(beside[0], "is given beside negative, which has its own; delete one")
        if self.value is not None and self.attribute is None:
            raise KeyProblem("attribute", f"is missing: expected {_ATTRIBUTE}; add it")
        if self.prompts and not self.negative and self.value is None:
            raise KeyProblem(
                "value",
                f"is missing: expected {_VALUE}; add attribute and value, or use a template whose slots say "
                "them",
            )
        return self


@final
class DriftQuestion(Asked):
    """What moves when another arm draws the same prompts on the same seeds?"""

    attributes: Attributes = Field(
        default=(), description="a list of attributes, each a name or a list of names; all when left out"
    )
    baseline: Word = Field(
        default="base", description="the name of the arm that the others are compared with"
    )
    tolerance: Distance | None = Field(default=None, description=DISTANCE)
    scope: Scope = Field(default="prompt", description=SCOPES)

    @model_validator(mode="after")
    def _enough(self) -> DriftQuestion:
        _pooled(self)
        return self
