"""What a repair is to reach: neutral phrases, the explicit variants they should stand for, what to keep.

A goal is a TOML file; phrases fill the {} of templates:

    templates = ["a picture of {}", "a {medium} of {}"]    # the repair may see these
    held_out = ["a portrait of {}"]                        # only the audit draws these
    keep = ["a man", "a woman wearing a red hoodie"]       # must stay as they are
    [[edit]]
    neutral = "a woman"
    attribute = "skin"
    variants = [{ phrase = "a woman with pale skin", reads = "pale", share = 0.5 }, ...]

Words for {named} slots, edits of several attributes and their joint targets: see `wording`. With
`partial = "follow"` a prompt that says a part of a variant is repaired too: see `following`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from counterpoise.errors import UsageError
from counterpoise.remedies.following import followed
from counterpoise.remedies.wording import written_out


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


@final
class Variant(_Strict):
    """One explicit way of saying it: what an audit should read for it, and its share of the mixture.

    reads: a value of the edit's attribute, or attribute -> value where the edit has several; an attribute
    that the phrase says nothing of is left out.
    """

    phrase: str = Field(min_length=1)
    reads: str | dict[str, str]
    share: float = Field(gt=0.0, le=1.0)


@final
class Edit(_Strict):
    """One wrong to right: pictures of `neutral` are to be this mixture of the variants.

    attribute: one, or a list whose joint distribution is edited.
    """

    neutral: str = Field(min_length=1)
    attribute: str | tuple[str, ...]
    variants: tuple[Variant, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _whole(self) -> Edit:
        if not self.attributes or not all(self.attributes):
            raise ValueError(f"edit of {self.neutral!r} names no attribute; say which one is to be read")
        self._check_reads()
        total = math.fsum(variant.share for variant in self.variants)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"shares of {self.neutral!r} sum to {total:.6g}, expected 1")
        phrases = [variant.phrase for variant in self.variants]
        for phrase in phrases:
            if phrases.count(phrase) > 1:
                raise ValueError(f"variants of {self.neutral!r} say {phrase!r} twice; give it one share")
        return self

    def _check_reads(self) -> None:
        for variant in self.variants:
            named = set(self.cell(variant))
            if not named or not named <= set(self.attributes):
                raise ValueError(
                    f"variant {variant.phrase!r} of {self.neutral!r} reads {variant.reads!r}: expected "
                    f"values of {', '.join(self.attributes)}, as reads = {{ {self.attributes[0]} = ... }}"
                )
        for name in self.attributes:
            if not any(name in self.cell(variant) for variant in self.variants):
                raise ValueError(
                    f"no variant of {self.neutral!r} reads {name}; leave it out of the attributes"
                )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that are edited, one or more."""
        return (self.attribute,) if isinstance(self.attribute, str) else self.attribute

    @property
    def is_joint(self) -> bool:
        """Whether the attributes are a list: noise is then shared out attribute by attribute."""
        return not isinstance(self.attribute, str)

    def cell(self, variant: Variant) -> dict[str, str]:
        """attribute -> value that an audit should read for a variant, in the attributes' order."""
        if isinstance(variant.reads, str):
            return {self.attributes[0]: variant.reads}
        named = [name for name in self.attributes if name in variant.reads]
        return {name: variant.reads[name] for name in (*named, *variant.reads)}

    @property
    def claimed(self) -> tuple[str, ...]:
        """The attributes that every variant reads, whose whole distribution the goal therefore states."""
        cells = [self.cell(variant) for variant in self.variants]
        return tuple(name for name in self.attributes if all(name in cell for cell in cells))

    def target(self, attribute: str | None = None) -> dict[str, float]:
        """value -> share that an audit of the neutral phrase should read: of one of `claimed`, its only one
        if none is named. ValueError when it has several and none is named, or not that one."""
        name = attribute
        if name is None:
            if len(self.claimed) != 1:
                raise ValueError(f"{self.neutral!r} edits {', '.join(self.attributes)}: name one of them")
            name = self.claimed[0]
        if name not in self.claimed:
            stated = ", ".join(self.claimed) or "no attribute"
            raise ValueError(f"{self.neutral!r} states the whole distribution of {stated}, not of {name}")
        found: dict[str, float] = {}
        for variant in self.variants:
            value = self.cell(variant)[name]
            found[value] = found.get(value, 0.0) + variant.share
        return found


class Lesson(NamedTuple):
    """One prompt to be taught: the neutral prompt, and the explicit prompt of every variant."""

    edit: int
    neutral: str
    explicit: tuple[str, ...]


@final
class Goal(_Strict):
    """Edits over the templates that the repair may see, and the phrases that must stay as they are.

    details: what else can be said of a picture ("wearing glasses"): said of the variants, it makes neighbours
    that must stay as they are. partial: what a prompt that says a part of a variant ("a female boss") is to
    be: kept as it is, or following the edit, the mixture of the variants that say as much. Slots are written
    out, and what follows is among the edits.
    """

    templates: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = Field(min_length=1, alias="edit")
    keep: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    partial: Literal["keep", "follow"] = "keep"

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        written = written_out(raw)
        return followed(written) if written.get("partial") == "follow" else written

    @model_validator(mode="after")
    def _consistent(self) -> Goal:
        for template in (*self.templates, *self.held_out):
            if template.count("{}") != 1:
                raise ValueError(
                    f"template {template!r} holds {{}} {template.count('{}')} times, expected once"
                )
        shared = set(self.templates) & set(self.held_out)
        if shared:
            raise ValueError(f"template {sorted(shared)[0]!r} is both seen and held out; keep it in one list")
        self._check_contradictions()
        return self

    def _check_contradictions(self) -> None:
        attributes: dict[str, list[str]] = {}
        for edit in self.edits:
            if edit.neutral in attributes:
                names = ", ".join(dict.fromkeys((*attributes[edit.neutral], *edit.attributes)))
                raise ValueError(
                    f"two edits of {edit.neutral!r} ({names}) contradict each other: a prompt can stand for "
                    "one mixture; write one edit, with a list of attributes and their joint target"
                )
            attributes[edit.neutral] = list(edit.attributes)
        for phrase in self.keep:
            if phrase in attributes:
                raise ValueError(f"keep names {phrase!r}, which an edit changes; leave one of them out")

    def lessons(self) -> Iterator[Lesson]:
        """Every edit in every template that the repair may see."""
        for i, edit in enumerate(self.edits):
            for template in self.templates:
                explicit = tuple(template.format(variant.phrase) for variant in edit.variants)
                yield Lesson(i, template.format(edit.neutral), explicit)


def load_goal(path: Path) -> Goal:
    """The goal in a TOML file; UsageError, one line, when it is missing or wrong."""
    try:
        return Goal.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"goal {path}: {error}", code="E_GOAL", file=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "goal"
        raise UsageError(
            f"goal {path}: {where}: {first['msg']} (seen: {first['input']!r:.80})",
            code="E_GOAL",
            file=str(path),
        ) from error
