"""What is compared with what: an arm of a run as a side, the questions that two sides share, what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.audit.cells import negative_of
from counterpoise.audit.comparing.bounds import Table
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.items import ClaimItem, Plan, ReachItem
from counterpoise.audit.plan import plan_of
from counterpoise.audit.targets import joint_name
from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest

# Which of an arm's settings make another experiment, not another model.
DRAWING = ("guidance", "steps", "negative_prompt", "batch_size", "dtype")
OBEYED, NOT_OBEYED = "obeyed", "not obeyed"


@final
@dataclass(frozen=True, slots=True)
class Side:
    """One arm of one run; label: how it is called in the answer."""

    label: str
    evidence: Evidence
    arm: str

    @property
    def plan(self) -> Plan:
        """What its run asks."""
        return plan_of(self.evidence.spec, self.evidence.attributes)

    @property
    def settings(self) -> dict[str, object]:
        """The arm as its run describes it."""
        return next(dict(arm) for arm in self.evidence.arms if arm["name"] == self.arm)


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """A question that a side can be asked: one prompt, its attributes, and where its shares should lie."""

    kind: str
    prompt: str
    attributes: tuple[str, ...]
    values: tuple[str, ...]
    target: tuple[float, ...]
    held_out: bool
    arm: str
    counted: tuple[str, ...] = ()
    negative: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same question of another side."""
        return self.kind, self.prompt, self.attributes, self.values, self.target, self.counted, self.negative

    @property
    def name(self) -> str:
        """The attribute, or what an explicit prompt asks for."""
        return joint_name(self.attributes) + (f" = {' or '.join(self.counted)}" if self.counted else "")


def plain_arms(evidence: Evidence) -> list[str]:
    """The arms that answer questions of their own."""
    return [str(arm["name"]) for arm in evidence.arms if negative_of(str(arm["name"])) is None]


def sides_of(runs: Sequence[tuple[str, Evidence]], arms: Sequence[str] = ()) -> list[tuple[Side, Side]]:
    """What to compare: one run's two arms, or the first run's with each other run's, arm by arm.

    arms: two names, of the one run or of the first and each later run; without, a single run needs exactly
    two arms, and several are paired by the names that they share. UsageError where that leaves nothing.
    """
    first_label, first = runs[0]
    known = plain_arms(first)
    if len(runs) == 1:
        chosen = tuple(arms) or tuple(known)
        if len(chosen) != 2:
            raise UsageError(
                f"{first_label} has the arms {', '.join(known)}: expected two to compare; name them with "
                "--arms BEFORE,AFTER, or name a second run",
                code="E_COMPARE_ARMS",
            )
        return [(_side((first_label, first), chosen[0]), _side((first_label, first), chosen[1]))]
    found = []
    for label, other in runs[1:]:
        theirs = plain_arms(other)
        shared = [(arms[0], arms[1])] if arms else [(name, name) for name in known if name in theirs]
        if not shared:
            raise UsageError(
                f"{first_label} ({', '.join(known)}) and {label} ({', '.join(theirs)}) share no arm's name; "
                "say which with --arms BEFORE,AFTER",
                code="E_COMPARE_ARMS",
            )
        found += [(_side(runs[0], before), _side((label, other), after)) for before, after in shared]
    return found


def check_judges(before: Side, after: Side) -> None:
    """UsageError E_COMPARE_JUDGE with what differs, if the sides were not read by one and the same judge."""
    changes = changed(_judge(before), _judge(after))
    if changes:
        raise UsageError(
            f"{before.label} and {after.label} were read by different judges: {'; '.join(changes[:3])}. "
            "Their readings cannot be compared: audit one of them again with the other's judge",
            code="E_COMPARE_JUDGE",
        )


def changed(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """`key: old -> new` for each key that differs."""
    return [
        f"{key}: {old.get(key)!r:.60} -> {new.get(key)!r:.60}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def asked_of(side: Side) -> tuple[list[Asked], list[str]]:
    """The questions of a side's run that have a target for each prompt, and the others, each with why."""
    plan = side.plan
    found: dict[tuple[object, ...], Asked] = {}
    items: list[ClaimItem | ReachItem] = [*plan.claims, *plan.reachability]
    for item in items:
        for asked in _asked(item, side.arm):
            found.setdefault(asked.key, asked)
    left = [
        f"{item.where}: {joint_name(item.attributes)} is held against another prompt, not against shares"
        for item in plan.claims
        if item.target is None
    ]
    left += [f"{item.where}: a disparity is a comparison already" for item in plan.disparities]
    left += [f"{item.where}: a drift is a comparison already" for item in plan.drifts]
    return list(found.values()), list(dict.fromkeys(left))


def _asked(item: ClaimItem | ReachItem, arm: str) -> list[Asked]:
    if isinstance(item, ReachItem):
        # Not obeyed is far from what was asked for, read or not.
        kept = tuple(v for v in item.values if (v in item.counted) != (item.negative is not None))
        return [
            Asked(
                kind="reachability",
                prompt=item.prompt,
                attributes=item.attributes,
                values=(OBEYED, NOT_OBEYED),
                target=(1.0, 0.0),
                held_out=item.held_out,
                arm=item.arm(arm),
                counted=kept,
                negative=item.negative[1] if item.negative else "",
            )
        ]
    if item.target is None:
        return []
    target = tuple(item.target[value] for value in item.values)
    return [
        Asked("claim", prompt, item.attributes, item.values, target, held_out=item.held_out, arm=arm)
        for prompt in item.prompts
    ]


def table_of(sides: tuple[Side, Side], asked: tuple[Asked, Asked]) -> tuple[Table, int]:
    """The pairs of a question on the seeds that both drew, and how many are the same picture by bytes."""
    read, files = [], []
    for side, question in zip(sides, asked, strict=True):
        read.append(_values(side, question))
        pictures = side.evidence.pictures(question.arm, question.prompt)
        files.append({picture.cell.seed: picture.pixels for picture in pictures})
    shared = sorted(read[0].keys() & read[1].keys())
    pairs: dict[tuple[str | None, str | None], int] = {}
    for seed in shared:
        pair = (read[0][seed], read[1][seed])
        pairs[pair] = pairs.get(pair, 0) + 1
    same = sum(files[0].get(seed) == files[1].get(seed) is not None for seed in shared)
    return Table(asked[0].values, asked[0].target, pairs), same


def _values(side: Side, asked: Asked) -> dict[int, str | None]:
    """seed -> the value of the attributes together; None where any was not read."""
    read = [side.evidence.readings(asked.arm, asked.prompt, name) for name in asked.attributes]
    found: dict[int, str | None] = {}
    for seed in read[0]:
        row = [of[seed].value for of in read]
        known = [value for value in row if value is not None]
        value = joint_name(known) if len(known) == len(row) else None
        if asked.counted:
            value = OBEYED if value in asked.counted else NOT_OBEYED
        found[seed] = value
    return found


def _side(run: tuple[str, Evidence], arm: str) -> Side:
    label, evidence = run
    known = plain_arms(evidence)
    if arm not in known:
        raise UsageError(f"{label} has no arm {arm!r:.80}; {nearest(arm, known)}", code="E_COMPARE_ARMS")
    return Side(f"{label}: {arm}", evidence, arm)


def _judge(side: Side) -> dict[str, object]:
    judge = side.evidence.identity["measurer"]
    assert isinstance(judge, dict)
    return dict(judge)
