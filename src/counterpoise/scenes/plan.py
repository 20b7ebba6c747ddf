"""The plan of one picture: who is in it, where, and with which words. JSON that can be read and edited by
hand.

Boxes are [left, top, right, bottom] as shares of the canvas from its top left corner; the file names that
convention. Everything that a drawing needs is in the plan, so a picture that carries it can be drawn again.
"""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from typing import Annotated, Any, Literal, final

from pydantic import AfterValidator, Field

from counterpoise.errors import UsageError
from counterpoise.measure.cards import Card
from counterpoise.scenes.sampler.settings import Regional

MAX_TEXT = 2000
MAX_SIDE = 16384
SCHEMA_ID = "urn:counterpoise:scene-plan:1"
_REGIONAL = Regional()  # the one place of the sampler's defaults; a profile may have others
_COVERED = 0.999  # of the smaller box's area: the other person would have nothing left to be seen of


def _text(value: str) -> str:
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError("is not Unicode text (a lone surrogate): write it again")
    return value


Side = Annotated[float, Field(strict=True)]
Text = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_text)]


@final
class Canvas(Card):
    """Pixels."""

    width: int = Field(
        strict=True, ge=1, le=MAX_SIDE, description=f"a whole number of pixels, 1 to {MAX_SIDE}"
    )
    height: int = Field(
        strict=True, ge=1, le=MAX_SIDE, description=f"a whole number of pixels, 1 to {MAX_SIDE}"
    )


@final
class ScenePrompt(Card):
    """What is said of the picture as a whole; never of persons."""

    prompt: Text = Field(description=f"text of at most {MAX_TEXT} characters")
    negative: Text = Field(default="", description=f"text of at most {MAX_TEXT} characters")
    style: Text = Field(default="", description=f"text of at most {MAX_TEXT} characters")


@final
class PersonPlan(Card):
    """One person: a box, attributes, and a prompt of their own."""

    id: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,31}$", description='a short name such as "p1"')
    box: tuple[Side, Side, Side, Side] = Field(
        description="[left, top, right, bottom], each from 0 to 1, left < right and top < bottom"
    )
    z: int = Field(default=0, strict=True, description="a whole number: higher is in front")
    attributes: dict[str, str] = Field(description="a table: attribute = value")
    prompt: Text = Field(min_length=1, description=f"text of 1 to {MAX_TEXT} characters")
    negative: Text = Field(default="", description=f"text of at most {MAX_TEXT} characters")
    lora: str | None = Field(default=None, description="an adapter's file, or null")
    weight: float = Field(default=1.0, ge=0.0, le=10.0, description="a number from 0 to 10")


@final
class Allocation(Card):
    """How the people's values came about.

    start_index: people planned before this picture. counts: this picture's. max_deviation: the furthest that
    any prefix of the run up to this picture was from its target, in people, as an exact fraction.
    """

    method: Literal["none", "largest_remainder", "controlled_rounding", "tijdeman"] = Field(
        description='"none", "largest_remainder", "controlled_rounding" or "tijdeman"'
    )
    start_index: int = Field(strict=True, ge=0, description="a whole number of at least 0")
    counts: dict[str, dict[str, int]] = Field(description="a table: attribute = { value = count }")
    max_deviation: str = Field(pattern=r"^\d+(/\d+)?$", description='a fraction as text, such as "3/5"')


@final
class Render(Card):
    """Settings for the regional sampler, as its `Regional` explains them, and the seed of the noise."""

    base_ratio: float = Field(
        default_factory=lambda: _REGIONAL.base_ratio, ge=0.0, le=1.0, description="a number from 0 to 1"
    )
    regional_until: float = Field(
        default_factory=lambda: _REGIONAL.regional_until, ge=0.0, le=1.0, description="a number from 0 to 1"
    )
    fence_until: float = Field(
        default_factory=lambda: _REGIONAL.fence_until, ge=0.0, le=1.0, description="a number from 0 to 1"
    )
    feather: float = Field(
        default_factory=lambda: _REGIONAL.feather, ge=0.0, le=1.0, description="a number from 0 to 1"
    )
    seed: int = Field(strict=True, ge=0, le=2**53 - 1, description="a whole number of at least 0")


@final
class Provenance(Card):
    """Who wrote the words. fallback: why it was not the writer that was asked, or null."""

    planner: str = Field(description='"quota+templates" or "quota+llm"')
    model: str | None = Field(default=None, description="the language model's name, or null")
    profile: str = Field(description="a canvas profile's name")
    vocabulary: str = Field(description="a vocabulary's name")
    request: str = Field(description="what the user asked for")
    schema_sha: str = Field(description="sha256 of the schema that the words were asked in")
    attempts: int = Field(strict=True, ge=0, description="a whole number of at least 0")
    fallback: str | None = Field(default=None, description="text, or null")


@final
class Plan(Card):
    """One picture."""

    version: Literal["1"] = Field(description='"1"')
    canvas: Canvas = Field(description="a table: width and height in pixels")
    scene: ScenePrompt = Field(description="a table: prompt, negative, style")
    box_convention: Literal["xyxy_normalised_top_left"] = Field(description='"xyxy_normalised_top_left"')
    people: tuple[PersonPlan, ...] = Field(
        min_length=1, max_length=64, description="a list of 1 to 64 people"
    )
    quotas: dict[str, dict[str, str]] = Field(description='a table: attribute = { value = "2/5" }')
    allocation: Allocation = Field(description="a table: method, start_index, counts, max_deviation")
    render: Render = Field(description="a table: base_ratio, regional_until, fence_until, feather, seed")
    provenance: Provenance = Field(description="a table: who wrote the words")
    notes: tuple[str, ...] = Field(default=(), description="a list of texts")

    def pixels(self, person: PersonPlan) -> tuple[int, int, int, int]:
        """A person's box in whole pixels: left, top, right, bottom."""
        width, height = self.canvas.width, self.canvas.height
        left, top, right, bottom = person.box
        return round(left * width), round(top * height), round(right * width), round(bottom * height)


def check_plan(plan: Plan, *, where: str = "plan") -> Plan:
    """The plan, if its parts fit together; else UsageError, one line beginning with `where`.

    E_PLAN_BOX: outside the canvas, or no area. E_PLAN_ID: an id twice. E_PLAN_OVERLAP: a box that another
    covers. E_PLAN_COUNTS: quotas, counts and people that contradict each other.
    """
    problem = _box_problem(plan) or _id_problem(plan) or _overlap(plan) or _count_problem(plan)
    if problem:
        code, line = problem
        raise UsageError(f"{where}: {line}", code=code, file=where)
    return plan


def schema() -> dict[str, Any]:
    """The plan's JSON Schema (2020-12): no key beyond those it names."""
    made = Plan.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **made,
        "title": "Counterpoise scene plan",
    }


Problem = tuple[str, str] | None


def _box_problem(plan: Plan) -> Problem:
    for person in plan.people:
        left, top, right, bottom = person.box
        shown = [round(side, 4) for side in person.box]
        if not all(math.isfinite(side) and 0.0 <= side <= 1.0 for side in person.box):
            return "E_PLAN_BOX", (
                f"{person.id}'s box {shown} leaves the canvas: expected [left, top, right, bottom] as "
                "shares of the canvas from 0 to 1 (pixels divided by its width and height); move it in"
            )
        a, b, c, d = plan.pixels(person)
        if right <= left or bottom <= top or c <= a or d <= b:
            return "E_PLAN_BOX", (
                f"{person.id}'s box {shown} has no area: expected left < right and top < bottom, a pixel at "
                "least; correct the corners"
            )
    return None


def _id_problem(plan: Plan) -> Problem:
    name, times = Counter(person.id for person in plan.people).most_common(1)[0]
    if times > 1:
        return "E_PLAN_ID", f"{times} people have the id {name!r}: expected each id once; rename them"
    return None


def _overlap(plan: Plan) -> Problem:
    for i, one in enumerate(plan.people):
        for other in plan.people[:i]:
            wide = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
            high = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
            smaller = min((p.box[2] - p.box[0]) * (p.box[3] - p.box[1]) for p in (one, other))
            if wide > 0 and high > 0 and wide * high >= _COVERED * smaller:
                return "E_PLAN_OVERLAP", (
                    f"{other.id} and {one.id} cover each other wholly: expected boxes that leave "
                    "something of both to be seen; move one of them"
                )
    return None


def _count_problem(plan: Plan) -> Problem:
    """Contradictions between quotas, counts and people."""
    for axis, shares in plan.quotas.items():
        total = Fraction(0)
        for value, share in shares.items():
            try:
                total += Fraction(share)
            except (ValueError, ZeroDivisionError):
                return "E_PLAN_COUNTS", (
                    f'quotas.{axis} gives {value} the share {share!r:.40}: expected a fraction as text, "2/5"'
                )
        if total != 1:
            return "E_PLAN_COUNTS", f"quotas.{axis} sums to {total}: expected 1; correct the shares"
    for axis in dict.fromkeys([*plan.quotas, *plan.allocation.counts]):
        seen = Counter(person.attributes[axis] for person in plan.people if axis in person.attributes)
        said = {value: n for value, n in plan.allocation.counts.get(axis, {}).items() if n}
        if dict(seen) != said:
            return "E_PLAN_COUNTS", (
                f"allocation.counts.{axis} says {_told(said)}, the people show {_told(seen)}: change both "
                "alike"
            )
        if foreign := set(seen) - set(plan.quotas.get(axis, seen)):
            return "E_PLAN_COUNTS", (
                f"people show {sorted(foreign)[0]!r:.60}, which quotas.{axis} has no share for: add it there"
            )
    return None


def _told(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{value} {count}" for value, count in sorted(counts.items())) or "nobody"
