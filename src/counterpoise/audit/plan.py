"""In: a spec and what its judge reads. Out: its questions in full: which prompts, values and targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

from counterpoise.audit.cells import negatives
from counterpoise.audit.expand import asked_prompts, contrasts, reference_of
from counterpoise.audit.fields import KeyProblem, as_tuple
from counterpoise.audit.items import ClaimItem, DisparityItem, DriftItem, Plan, ReachItem
from counterpoise.audit.load import make_spec
from counterpoise.audit.spec import (
    AuditSpec,
    ClaimQuestion,
    DisparityQuestion,
    DriftQuestion,
    ReachabilityQuestion,
)
from counterpoise.audit.targets import Attributes, check_values, joint_name, joint_values, target_shares
from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest

T = TypeVar("T")


def plan_of(spec: AuditSpec, attributes: Attributes, *, judge: str = "the measurer") -> Plan:
    """What a spec asks of a judge that reads these attributes (name -> values).

    UsageError, one line with the nearest valid name, for what the judge cannot read or emit. judge: how to
    name it there.
    """
    spec = bind_spec(spec, attributes, judge=judge)
    see = _Seen(spec, attributes, judge)
    return Plan(
        spec=spec,
        claims=tuple(item for at, q in enumerate(spec.claims) for item in _claims(see, f"claim[{at}]", q)),
        disparities=tuple(
            item for at, q in enumerate(spec.disparities) for item in _disparities(see, f"disparity[{at}]", q)
        ),
        reachability=tuple(
            item for at, q in enumerate(spec.reachability) for item in _reach(see, f"reachability[{at}]", q)
        ),
        drifts=tuple(item for at, q in enumerate(spec.drifts) for item in _drifts(see, f"drift[{at}]", q)),
        negatives=negatives(spec),
    )


def bind_spec(spec: AuditSpec, attributes: Attributes, *, judge: str = "the measurer") -> AuditSpec:
    """The spec with words for every slot: one that is named as an attribute gets that attribute's values."""
    found = spec.unbound()
    for slot, path in found.items():
        if slot not in attributes:
            raise UsageError(
                f"{path}.template holds {{{slot}}}, which is neither in slots nor an attribute that {judge} "
                f"reads; {nearest(slot, [*attributes, *spec.slots])}",
                code="E_SLOT",
            )
    if not found:
        return spec
    content = spec.model_dump(mode="json", by_alias=True)
    return make_spec({**content, "slots": {**content["slots"], **{s: list(attributes[s]) for s in found}}})


@final
@dataclass(frozen=True, slots=True)
class _Seen:
    """A bound spec beside what its judge reads, and how refusals name the judge."""

    spec: AuditSpec
    table: Attributes
    judge: str

    def attributes(self, key: str, asked: str | Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The attributes' names and their joint values."""
        names = as_tuple(asked)
        for i, name in enumerate(names):
            if name not in self.table:
                path = key if isinstance(asked, str) else f"{key}[{i}]"
                raise UsageError(
                    f"{path} is {name!r:.80}, which {self.judge} does not read; {nearest(name, self.table)}",
                    code="E_ATTRIBUTE",
                )
        try:
            return names, joint_values(names, self.table)
        except KeyProblem as problem:
            raise UsageError(f"{key} {problem}", code="E_ATTRIBUTE") from None

    def counted(
        self, key: str, asked: str | Sequence[str], of: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> tuple[str, ...]:
        """The values that make an event; all of them would be no question."""
        names, values = of
        counted = as_tuple(asked)
        self.check(key, counted, names)
        if len(counted) == len(values):
            raise UsageError(
                f"{key} names every value of {joint_name(names)}: expected fewer, or there is nothing to ask",
                code="E_VALUE",
            )
        return counted

    def check(self, key: str, asked: Sequence[str], names: Sequence[str]) -> None:
        """UsageError E_VALUE if something that is asked for is no value of the attributes together."""
        try:
            check_values(asked, joint_values(names, self.table), joint_name(names), key)
        except KeyProblem as problem:
            raise UsageError(f"{problem.key} {problem}", code="E_VALUE") from None


def _claims(see: _Seen, where: str, question: ClaimQuestion) -> Iterator[ClaimItem]:
    names, values = see.attributes(f"{where}.attribute", question.attribute)
    target = None
    if question.reference is None:
        try:
            target = target_shares(question.target, names, see.table)
        except KeyProblem as problem:
            raise UsageError(f"{where}.{problem.key} {problem}", code="E_VALUE") from None
    asked = asked_prompts(question, see.spec.slots)
    found = [reference_of(question, filling, see.spec.slots) for filling in asked]
    rows = [(filling.prompt, reference) for filling, reference in zip(asked, found, strict=True)]
    for group in _scoped(rows, question.scope, where):
        yield ClaimItem(
            where=where,
            prompts=tuple(prompt for prompt, _ in group),
            attributes=names,
            values=values,
            target=target,
            reference=tuple(reference for _, reference in group if reference is not None),
            tolerance=_tolerance(see.spec, question.tolerance),
            scope=question.scope,
            held_out=question.held_out,
            n=see.spec.n_of(question),
        )


def _disparities(see: _Seen, where: str, question: DisparityQuestion) -> Iterator[DisparityItem]:
    of = see.attributes(f"{where}.attribute", question.attribute)
    counted = see.counted(f"{where}.value", question.value, of)
    for group in _scoped(contrasts(question, see.spec.slots), question.scope, where):
        yield DisparityItem(
            where=where,
            templates=tuple(contrast.template for contrast in group),
            groups={name: tuple(contrast.prompts[name] for contrast in group) for name in group[0].prompts},
            attributes=of[0],
            values=of[1],
            counted=counted,
            reference=question.reference,
            max_ratio=question.max_ratio,
            tolerance=_tolerance(see.spec, question.tolerance),
            scope=question.scope,
            n=see.spec.n_of(question),
        )


def _reach(see: _Seen, where: str, question: ReachabilityQuestion) -> Iterator[ReachItem]:
    asks = negatives(see.spec)
    number = asks.index(question.negative.prompt) + 1 if question.negative else 0
    for prompt, path, attribute, value in _wanted(see, where, question):
        of = see.attributes(f"{path}.attribute", attribute)
        yield ReachItem(
            where=where,
            prompt=prompt,
            attributes=of[0],
            values=of[1],
            counted=see.counted(f"{path}.value", value, of),
            negative=(number, asks[number - 1]) if number else None,
            min_rate=question.min_rate,
            held_out=question.held_out,
            n=see.spec.n_of(question),
        )


_Wanted = tuple[str, str, str | tuple[str, ...], str | tuple[str, ...]]


def _wanted(see: _Seen, where: str, question: ReachabilityQuestion) -> Iterator[_Wanted]:
    """(prompt, path of its table, attribute, value) for each prompt."""
    if question.cases:
        for i, case in enumerate(question.cases):
            yield case.prompt, f"{where}.cases[{i}]", case.attribute, case.value
        return
    for filling in asked_prompts(question, see.spec.slots):
        if question.negative is not None:
            yield filling.prompt, f"{where}.negative", question.negative.attribute, question.negative.value
            continue
        if question.value is not None and question.attribute is not None:
            yield filling.prompt, where, question.attribute, question.value
            continue
        names = as_tuple(question.attribute or [name for name in filling.labels if name in see.table])
        lacking = [name for name in names if name not in filling.labels]
        if lacking or not names:
            held = ", ".join(filling.labels) or "none"
            raise UsageError(
                f"{where}.template does not say what is asked for (its slots: {held}): expected a slot named "
                + (lacking[0] if lacking else "as an attribute, or attribute and value"),
                code="E_SLOT",
            )
        for name in names:
            if name in see.table:  # else refused where the attributes are looked up
                see.check(f"{where}.slots.{name}", [filling.labels[name]], [name])
        value = joint_name([filling.labels[name] for name in names])
        yield filling.prompt, where, names if len(names) > 1 else names[0], value


def _drifts(see: _Seen, where: str, question: DriftQuestion) -> Iterator[DriftItem]:
    asked = question.attributes or tuple(see.table)
    prompts = [filling.prompt for filling in asked_prompts(question, see.spec.slots)]
    for i, attribute in enumerate(asked):
        names, values = see.attributes(f"{where}.attributes[{i}]", attribute)
        for group in _scoped(prompts, question.scope, where):
            yield DriftItem(
                where=where,
                prompts=tuple(group),
                attributes=names,
                values=values,
                baseline=question.baseline,
                tolerance=_tolerance(see.spec, question.tolerance),
                scope=question.scope,
                n=see.spec.n_of(question),
            )


def _scoped(rows: Sequence[T], scope: str, where: str) -> list[list[T]]:
    """All rows as one group when the question is about the model, else each by itself."""
    if scope == "prompt":
        return [[row] for row in rows]
    if len(rows) < 2:
        raise UsageError(
            f'{where}.scope is "model": expected two or more prompts to speak for it; add prompts',
            code="E_SCOPE",
        )
    return [list(rows)]


def _tolerance(spec: AuditSpec, own: float | None) -> float | None:
    return spec.tolerance if own is None else own
