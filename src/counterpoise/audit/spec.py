"""The question an audit asks, as its user writes it: an `AuditSpec`, one frozen pydantic model.

Every field's description says what is expected of it; refusals quote it (see load.py). Prompts may hold
any character, control characters among them; only text that is not Unicode (lone surrogates) is refused.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

MAX_N = 100_000
MAX_PROMPT = 10_000
# Seeds stay exact in JSON and in SQLite's 64-bit integers, with room for seed + n.
MAX_SEED = 2**53 - 1 - MAX_N
TARGET_TOLERANCE = 1e-6
SLOT = "{group}"
_PICTURES = f"a whole number of pictures from 1 to {MAX_N}"


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank: expected some text; write it or delete the entry")
    return text


def _no_duplicates(texts: tuple[str, ...]) -> tuple[str, ...]:
    repeated = [text for text, times in Counter(texts).items() if times > 1]
    if repeated:
        raise ValueError(f"holds {repeated[0]!r} more than once: expected each one once; delete the copies")
    return texts


def _target(value: object) -> object:
    """A target is "uniform" or shares that sum to 1: checked here whole, so that one error says it all."""
    if value == "uniform":
        return value
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f'is {value!r:.60}: expected "uniform" or shares like {{ pale = 0.2, ... }}')
    for name, share in value.items():
        number = isinstance(share, (int, float)) and not isinstance(share, bool)
        if not number or not math.isfinite(share) or not 0.0 <= share <= 1.0:
            raise ValueError(f"gives {name!r} the share {share!r:.60}: expected a number from 0 to 1")
    total = math.fsum(value.values())
    if abs(total - 1.0) > TARGET_TOLERANCE:
        raise ValueError(f"sums to {total:.6g}: expected 1 (within {TARGET_TOLERANCE:g}); correct the shares")
    return {name: float(share) for name, share in value.items()}


Prompt = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_not_blank)]
Word = Annotated[str, Field(max_length=200), AfterValidator(_not_blank)]
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_N, description=_PICTURES)]


class _Strict(BaseModel):
    """Refuses unknown keys, nan and inf; frozen, since a run's identity is made of it."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


@final
class Drawing(_Strict):
    """How the plain arm draws; a remedy's arm may differ on purpose (a negative prompt is one)."""

    guidance: float = Field(default=1.0, strict=True, ge=0.0, le=100.0, description="a number from 0 to 100")
    steps: int = Field(default=20, strict=True, ge=1, le=1000, description="a whole number from 1 to 1000")
    negative_prompt: str = Field(default="", max_length=MAX_PROMPT, description="text")
    batch_size: int = Field(
        default=32, strict=True, ge=1, le=1024, description="a whole number from 1 to 1024"
    )


@final
class ClaimQuestion(_Strict):
    """How is an attribute distributed for each of these prompts, against a target?"""

    prompts: Annotated[tuple[Prompt, ...], AfterValidator(_no_duplicates)] = Field(
        min_length=1, description="a list of one or more prompts, each some text"
    )
    attribute: Word = Field(description="the name of an attribute that the measurer reads")
    target: Annotated[Literal["uniform"] | dict[str, float], BeforeValidator(_target)] = "uniform"
    held_out: bool = Field(default=False, strict=True, description="true or false")
    n: Count | None = Field(default=None, description=_PICTURES)


@final
class DisparityQuestion(_Strict):
    """How often is one value drawn for prompts that differ in one slot?"""

    template: Prompt = Field(description=f"a prompt that holds {SLOT}")
    groups: Annotated[tuple[Word, ...], AfterValidator(_no_duplicates)] = Field(
        min_length=2, description="a list of two or more words to put into the slot"
    )
    attribute: Word = Field(description="the name of an attribute that the measurer reads")
    value: Word = Field(description="one of the attribute's values")
    n: Count | None = Field(default=None, description=_PICTURES)

    @field_validator("template")
    @classmethod
    def _has_slot(cls, template: str) -> str:
        if SLOT not in template:
            raise ValueError(f"is {template!r:.60}: expected it to hold {SLOT} where the groups go")
        return template

    def prompt(self, group: str) -> str:
        """The template with the group in its slot; other braces stay as they are."""
        return self.template.replace(SLOT, group)


@final
class AuditSpec(_Strict):
    """A whole audit: what to draw, how often, and what to ask of it. Picture i has seed + i in every arm."""

    name: Word = Field(description="a short name for the audit")
    measurer: Word = Field(default="world", description="the name of a measurer")
    n: Count = Field(description=_PICTURES)
    seed: int = Field(
        default=0, strict=True, ge=0, le=MAX_SEED, description=f"a whole number from 0 to {MAX_SEED}"
    )
    confidence: float = Field(
        default=0.95, strict=True, ge=0.5, le=0.9999, description="a number from 0.5 to 0.9999, such as 0.95"
    )
    drawing: Drawing = Field(default_factory=Drawing, description="a table [drawing]")
    claims: tuple[ClaimQuestion, ...] = Field(default=(), alias="claim", description="tables [[claim]]")
    disparities: tuple[DisparityQuestion, ...] = Field(
        default=(), alias="disparity", description="tables [[disparity]]"
    )

    @model_validator(mode="after")
    def _asks_something_once(self) -> AuditSpec:
        if not self.claims and not self.disparities:
            raise ValueError("nothing is asked: add a [[claim]] or a [[disparity]] table")
        asked = [(prompt, claim.attribute) for claim in self.claims for prompt in claim.prompts]
        rates = [
            (d.prompt(group), f"{d.attribute} = {d.value}") for d in self.disparities for group in d.groups
        ]
        for where, questions in (("claim", asked), ("disparity", rates)):
            for (prompt, what), times in Counter(questions).items():
                if times > 1:
                    raise ValueError(
                        f"{where} tables ask {what!r} of {prompt!r} {times} times: keep one of them"
                    )
        return self

    def n_of(self, question: ClaimQuestion | DisparityQuestion) -> int:
        """Pictures for each prompt (and arm) of a question: its own n, else the spec's."""
        return self.n if question.n is None else question.n


def all_prompts(spec: AuditSpec) -> Iterable[tuple[str, int]]:
    """Every (prompt, n) that the spec's questions need, in their order, with repetitions."""
    for claim in spec.claims:
        yield from ((prompt, spec.n_of(claim)) for prompt in claim.prompts)
    for disparity in spec.disparities:
        yield from ((disparity.prompt(group), spec.n_of(disparity)) for group in disparity.groups)


def spec_warnings(spec: AuditSpec) -> list[str]:
    """What is allowed but rarely meant: prompts that look the same and differ in Unicode form (NFC, NFD)."""
    forms: dict[str, set[str]] = {}
    for prompt, _ in all_prompts(spec):
        forms.setdefault(unicodedata.normalize("NFC", prompt), set()).add(prompt)
    return [
        f"{form!r} is asked in {len(prompts)} Unicode forms (NFC, NFD) that look the same; each is drawn"
        for form, prompts in forms.items()
        if len(prompts) > 1
    ]
