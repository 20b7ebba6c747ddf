"""What a repair is to reach: neutral phrases, the explicit variants they should stand for, what to keep.

A goal is a TOML file; phrases fill the {} of templates:

    templates = ["a picture of {}", "a drawing of {}"]     # the repair may see these
    held_out = ["a portrait of {}"]                        # only the audit draws these
    keep = ["a man", "a woman wearing a red hoodie"]       # must stay as they are
    [[edit]]
    neutral = "a woman"
    attribute = "skin"
    variants = [{ phrase = "a woman with pale skin", reads = "pale", share = 0.5 }, ...]
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from counterpoise.errors import UsageError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


@final
class Variant(_Strict):
    """One explicit way of saying it: what an audit should read for it, and its share of the mixture."""

    phrase: str = Field(min_length=1)
    reads: str = Field(min_length=1)
    share: float = Field(gt=0.0, le=1.0)


@final
class Edit(_Strict):
    """One wrong to right: pictures of `neutral` are to be this mixture of the variants."""

    neutral: str = Field(min_length=1)
    attribute: str = Field(min_length=1)
    variants: tuple[Variant, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _whole(self) -> Edit:
        total = math.fsum(variant.share for variant in self.variants)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"shares of {self.neutral!r} sum to {total:.6g}, expected 1")
        return self

    def target(self) -> dict[str, float]:
        """value -> share that an audit of the neutral phrase should read."""
        found: dict[str, float] = {}
        for variant in self.variants:
            found[variant.reads] = found.get(variant.reads, 0.0) + variant.share
        return found


class Lesson(NamedTuple):
    """One prompt to be taught: the neutral prompt, and the explicit prompt of every variant."""

    edit: int
    neutral: str
    explicit: tuple[str, ...]


@final
class Goal(_Strict):
    """Edits over the templates that the repair may see, and the phrases that must stay as they are."""

    templates: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = Field(min_length=1, alias="edit")
    keep: tuple[str, ...] = ()

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
        return self

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
