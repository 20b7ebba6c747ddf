"""The question an audit asks, as its user writes it: an `AuditSpec`, one frozen pydantic model.

Every field's description says what is expected of it; refusals quote it (see refusals.py). Prompts may hold
any character, control characters among them; only text that is not Unicode (lone surrogates) is refused.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal, final

from pydantic import AfterValidator, Field, model_validator

from counterpoise.audit.expand import asked_prompts, question_prompts, reference_of, unbound
from counterpoise.audit.expand import contrasts as contrasts_of
from counterpoise.audit.fields import (
    DISTANCE,
    MAX_PROMPT,
    MAX_SEED,
    PICTURES,
    Count,
    Distance,
    KeyProblem,
    Names,
    Slots,
    Strict,
    Word,
    as_tuple,
)
from counterpoise.audit.questions import (
    KINDS,
    SLOT,
    Case,
    ClaimQuestion,
    DisparityQuestion,
    DriftQuestion,
    Negative,
    Question,
    ReachabilityQuestion,
)
from counterpoise.errors import UsageError

__all__ = [
    "KINDS",
    "SLOT",
    "AuditSpec",
    "Card",
    "Case",
    "ClaimQuestion",
    "DisparityQuestion",
    "Drawing",
    "DriftQuestion",
    "Negative",
    "ReachabilityQuestion",
    "all_prompts",
    "spec_warnings",
]

MAX_PICTURES = 10_000_000  # of one arm: at the planted world's 25 a second, five days
LEAST_LOOK = 8


@final
class Drawing(Strict):
    """How the plain arm draws; a remedy's arm may differ on purpose (a negative prompt is one)."""

    guidance: float = Field(default=1.0, strict=True, ge=0.0, le=100.0, description="a number from 0 to 100")
    steps: int = Field(default=20, strict=True, ge=1, le=1000, description="a whole number from 1 to 1000")
    negative_prompt: str = Field(default="", max_length=MAX_PROMPT, description="text")
    batch_size: int = Field(
        default=32, strict=True, ge=1, le=1024, description="a whole number from 1 to 1024"
    )


@final
class Card(Strict):
    """A confusion card as the spec names it: its file, relative to the spec, and the digest of its bytes."""

    file: Word = Field(description="the name of a confusion card beside the spec")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="the sha256 of the card's bytes")


def _files_once(cards: tuple[Card, ...]) -> tuple[Card, ...]:
    repeated = [name for name, times in Counter(card.file for card in cards).items() if times > 1]
    if repeated:
        raise ValueError(f"names {repeated[0]!r:.60} twice: expected each card once; delete the copies")
    return cards


@final
class AuditSpec(Strict):
    """A whole audit: what to draw, how often, and what to ask of it. Picture i has seed + i in every arm."""

    name: Word = Field(description="a short name for the audit")
    measurer: Names = Field(default="world", description="the name of a measurer, or a list of names")
    confusion: Annotated[tuple[Card, ...], AfterValidator(_files_once)] = Field(
        default=(), description="a list of names of confusion cards, files beside the spec"
    )
    n: Count = Field(description=PICTURES)
    seed: int = Field(
        default=0, strict=True, ge=0, le=MAX_SEED, description=f"a whole number from 0 to {MAX_SEED}"
    )
    confidence: float = Field(
        default=0.95, strict=True, ge=0.5, le=0.9999, description="a number from 0.5 to 0.9999, such as 0.95"
    )
    tolerance: Distance | None = Field(default=None, description=DISTANCE)
    stopping: Literal["fixed", "sequential"] = Field(
        default="fixed",
        description='"fixed" (n pictures a prompt) or "sequential" (until decided, at most n)',
    )
    look: Count | None = Field(default=None, description=f"{PICTURES} a prompt between two looks")
    multiplicity: Literal["e-BH", "bonferroni"] = Field(
        default="e-BH", description='"e-BH" (false discoveries) or "bonferroni" (any false alarm)'
    )
    drawing: Drawing = Field(default_factory=Drawing, description="a table [drawing]")
    slots: Slots = Field(
        default_factory=dict, description="a table [slots] of words that all templates share"
    )
    claims: tuple[ClaimQuestion, ...] = Field(default=(), alias="claim", description="tables [[claim]]")
    disparities: tuple[DisparityQuestion, ...] = Field(
        default=(), alias="disparity", description="tables [[disparity]]"
    )
    reachability: tuple[ReachabilityQuestion, ...] = Field(default=(), description="tables [[reachability]]")
    drifts: tuple[DriftQuestion, ...] = Field(default=(), alias="drift", description="tables [[drift]]")

    @property
    def measurers(self) -> tuple[str, ...]:
        """The measurers' names, also of one."""
        return as_tuple(self.measurer)

    @property
    def pictures_a_look(self) -> int:
        """Pictures of each prompt between two looks: as said, else whole batches of one prompt, 8 or more."""
        size = self.drawing.batch_size
        return min(self.look or size * -(-LEAST_LOOK // size), self.n)

    def questions(self) -> Iterator[tuple[str, Question]]:
        """Every question with the path of its table ("claim[0]"), kind by kind."""
        tables = (self.claims, self.disparities, self.reachability, self.drifts)
        for kind, questions in zip(KINDS, tables, strict=True):
            yield from ((f"{kind}[{i}]", question) for i, question in enumerate(questions))

    def n_of(self, question: Question) -> int:
        """Pictures for each prompt (and arm) of a question: its own n, else the spec's."""
        return self.n if question.n is None else question.n

    def unbound(self) -> dict[str, str]:
        """slot without words (an attribute of the judge) -> the path of the first table that needs it."""
        found: dict[str, str] = {}
        for path, question in self.questions():
            for slot in unbound(question, self.slots):
                found.setdefault(slot, path)
        return found

    @model_validator(mode="after")
    def _holds_together(self) -> AuditSpec:
        asked = list(self.questions())
        if not asked:
            raise ValueError(
                "nothing is asked: add a [[claim]], [[disparity]], [[reachability]] or [[drift]] table"
            )
        held = {slot for _, question in asked for slot in unbound(question, {})}
        for name in self.slots:
            if name not in held:
                raise KeyProblem(
                    f"slots.{name}", "is a slot that no template holds; write it into one or delete it"
                )
        if any(q.negative for q in self.reachability) and self.drawing.guidance <= 1.0:
            raise KeyProblem(
                "drawing.guidance",
                f"is {self.drawing.guidance:g}: expected more than 1, since a reachability table has a "
                "negative prompt, which acts through guidance alone; set it in [drawing]",
            )
        for path, question in asked:
            _check_scope(self, path, question)
        if not self.unbound():
            _check_prompts(self)
        return self


def _check_scope(spec: AuditSpec, path: str, question: Question) -> None:
    """A claim about the model says how far is fair: prompts share seeds, and where pictures depend on their
    seed, evidence against *exactly* on target is not what it seems (docs/results.md)."""
    if getattr(question, "scope", "prompt") != "model" or spec.tolerance is not None:
        return
    if getattr(question, "tolerance", None) is None and getattr(question, "max_ratio", None) is None:
        raise KeyProblem(
            f"{path}.tolerance",
            f'is missing: expected {DISTANCE}, since scope is "model"; add it here or at the top',
        )


def _check_prompts(spec: AuditSpec) -> None:
    """What can be said once every slot has words: nothing is asked twice, and it is not too much."""
    total: dict[str, int] = {}
    for path, question in spec.questions():
        try:
            for prompt in question_prompts(question, spec.slots):
                total[prompt] = max(total.get(prompt, 0), spec.n_of(question))
        except KeyProblem as problem:
            raise KeyProblem(f"{path}.{problem.key}", str(problem)) from None
    if sum(total.values()) > MAX_PICTURES:
        raise ValueError(
            f"the questions need {sum(total.values())} pictures of {len(total)} prompts an arm: expected "
            f"at most {MAX_PICTURES}; lower n or ask fewer prompts"
        )
    for where, asked in (("claim", _claims_asked(spec)), ("disparity", _rates_asked(spec))):
        for (prompt, what, _), times in Counter(asked).items():
            if times > 1:
                raise ValueError(
                    f"{where} tables ask {what!r} of {prompt!r:.80} {times} times: keep one of them"
                )


def _claims_asked(spec: AuditSpec) -> Iterator[tuple[str, str, str]]:
    for claim in spec.claims:
        what = " & ".join(as_tuple(claim.attribute))
        for filling in asked_prompts(claim, spec.slots):
            target = reference_of(claim, filling, spec.slots) or str(claim.target)
            yield filling.prompt, what, f"{claim.scope} {target}"


def _rates_asked(spec: AuditSpec) -> Iterator[tuple[str, str, str]]:
    for gap in spec.disparities:
        what = f"{' & '.join(as_tuple(gap.attribute))} = {', '.join(as_tuple(gap.value))}"
        for contrast in contrasts_of(gap, spec.slots):
            for prompt in contrast.prompts.values():
                yield prompt, what, f"{gap.scope} {gap.reference}"


def all_prompts(spec: AuditSpec) -> Iterator[tuple[str, int]]:
    """Every (prompt, n) that the spec's questions need in a plain arm, in their order, with repetitions.

    UsageError for a slot without words: the spec has to be bound to its judge first (`check.check_spec`).
    """
    for slot, path in spec.unbound().items():
        raise UsageError(
            f"{path}.template holds {{{slot}}}, whose words are the judge's values of {slot}: bind the spec "
            "with check_spec(spec, measurer) first",
            code="E_SPEC_UNBOUND",
        )
    for _, question in spec.questions():
        n = spec.n_of(question)
        yield from ((prompt, n) for prompt in question_prompts(question, spec.slots))


def spec_warnings(spec: AuditSpec) -> list[str]:
    """What is allowed but rarely meant: prompts that look the same and differ in Unicode form (NFC, NFD), or
    begin or end with a space."""
    forms: dict[str, set[str]] = {}
    for prompt, _ in all_prompts(spec):
        forms.setdefault(unicodedata.normalize("NFC", prompt), set()).add(prompt)
    alike = [
        f"{form!r} is asked in {len(prompts)} Unicode forms (NFC, NFD) that look the same; each is drawn"
        for form, prompts in forms.items()
        if len(prompts) > 1
    ]
    spaced = [form for form in forms if form != form.strip()]
    return alike + [f"{form!r} begins or ends with a space, which is drawn as it stands" for form in spaced]
