"""What makes a run folder that run and no other: its spec, its measurer, its arms, as canonical JSON.

A folder is resumed only by the same identity. n may grow (the run is extended); nothing else may change,
since pictures and readings under two identities must never be pooled. What is not of the question but may
change float sums (library versions, processor, threads, batch size) may change if the user allows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from counterpoise.audit.digest import canonical, digest_of
from counterpoise.audit.spec import AuditSpec
from counterpoise.diffusion.arm import Arm
from counterpoise.errors import UsageError
from counterpoise.measure.reading import Measurer

_SHOWN = 3
_ALLOW = ", or allow it (--allow-env-change): pictures then bear the mark of where they were drawn"
_LATER = frozenset({"pushed", "push", "rewrite"})
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


def describe_run(spec: AuditSpec, measurer: Measurer) -> dict[str, object]:
    """The identity of a run apart from its arms, as plain JSON values."""
    attributes = {name: list(values) for name, values in measurer.attributes.items()}
    judge = {"name": measurer.name, "version": measurer.version, "attributes": attributes}
    return {"spec": spec.model_dump(mode="json", by_alias=True), "measurer": judge}


def describe_arm(arm: Arm) -> dict[str, object]:
    """An arm as plain JSON values.

    What arms did not have at first is left out where it says nothing, so that an old arm keeps its digest.
    """
    described: dict[str, object] = json.loads(canonical(asdict(arm)))
    usual = _defaults()
    return {key: value for key, value in described.items() if key not in _LATER or value != usual[key]}


def _defaults() -> dict[str, object]:
    found: dict[str, object] = json.loads(
        canonical({f.name: f.default for f in fields(Arm) if f.default is not MISSING})
    )
    return found


def check_arms(arms: Sequence[Arm]) -> None:
    """UsageError unless the arms' names are distinct and fit to name a folder."""
    for i, arm in enumerate(arms):
        if not _ARM_NAME.fullmatch(arm.name):
            raise UsageError(
                f"arm name {arm.name!r:.80}: expected 1 to 64 letters, digits, dots, dashes, pluses or "
                "underscores, the first a letter or digit; rename it",
                code="E_ARM",
            )
        if arm.batch_size < 1:
            raise UsageError(f"arm {arm.name}: batch_size {arm.batch_size}, expected 1 or more", code="E_ARM")
        if arm.name in {other.name for other in arms[:i]}:
            raise UsageError(f"two arms are named {arm.name}; rename one", code="E_ARM")


def run_digest(run: Mapping[str, object]) -> str:
    """The sha256 of a run's identity apart from n, so that an extension keeps it."""
    return digest_of("identity", _without_n(run))


def arm_digest(arm: Arm) -> str:
    """The sha256 of an arm's identity."""
    return digest_of("arm", describe_arm(arm))


def check_same_run(
    stored: Mapping[str, object], given: Mapping[str, object], folder: Path, *, batch_size_may_change: bool
) -> None:
    """UsageError with a short diff if `given` is not `stored`, grown in n at most."""
    stored = _of_today(stored)
    changes = _changes(_flat(_without_n(stored)), _flat(_without_n(given)))
    resized = [change for change in changes if change.startswith("drawing.batch_size:")]
    if batch_size_may_change:
        changes = [change for change in changes if change not in resized]
    grown = dict(_counts(given))
    changes += [
        f"{path}: {before} -> {grown[path]} (n may only grow)"
        for path, before in _counts(stored)
        if path in grown and grown[path] < before
    ]
    allow = _ALLOW if changes == resized else ""
    _refuse(changes, f"{folder} holds a run of another spec", folder, allow)


def check_same_arm(
    stored: Mapping[str, object], given: Mapping[str, object], folder: Path, *, batch_size_may_change: bool
) -> None:
    """UsageError with a short diff if an arm of that name has been drawn otherwise."""
    usual = _defaults()
    changes = _changes(_flat({**usual, **stored}), _flat({**usual, **given}))
    resized = [change for change in changes if change.startswith("batch_size:")]
    if batch_size_may_change:
        changes = [change for change in changes if change not in resized]
    allow = _ALLOW if changes == resized else ""
    _refuse(changes, f'{folder} holds another arm "{given["name"]}"', folder, allow)


def check_same_environment(stored: Sequence[str], given: str, folder: Path) -> None:
    """UsageError with a short diff if pictures were drawn in other environments (as canonical JSON) only."""
    if stored and given not in stored:
        changes = _changes(_flat(json.loads(stored[-1])), _flat(json.loads(given)))
        _refuse(changes, f"{folder} was drawn in another environment", folder, _ALLOW)


def _refuse(changes: Sequence[str], what: str, folder: Path, allow: str = "") -> None:
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        shown = "; ".join(changes[:_SHOWN])
        raise UsageError(
            f"{what}: {shown}{more}. Use a new folder, or undo the change to resume{allow}",
            code="E_RUN_CHANGED",
            file=str(folder),
        )


def _changes(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    paths = [*old, *(path for path in new if path not in old)]
    return [
        f"{path}: {_shown(old, path)} -> {_shown(new, path)}"
        for path in paths
        if path not in old or path not in new or old[path] != new[path]
    ]


def _shown(side: Mapping[str, object], path: str) -> str:
    return f"{side[path]!r:.60}" if path in side else "absent"


def _flat(value: object, path: str = "") -> dict[str, object]:
    """Leaves by their path ("claim[0].prompts[2]"); empty containers are leaves."""
    if isinstance(value, Mapping) and value:
        parts = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and value:
        parts = [(f"{path}[{i}]", item) for i, item in enumerate(value)]
    else:
        return {path.removeprefix("spec."): value}
    return {leaf: item for where, part in parts for leaf, item in _flat(part, where).items()}


def _of_today(run: Mapping[str, object]) -> dict[str, object]:
    """A stored identity with today's defaults for what its version did not know yet."""
    try:
        spec = AuditSpec.model_validate(run["spec"]).model_dump(mode="json", by_alias=True)
    except ValidationError:
        return dict(run)
    return {**run, "spec": spec}


def _without_n(run: Mapping[str, object]) -> dict[str, object]:
    return {**run, "spec": _stripped(json.loads(canonical(run["spec"])))}


def _stripped(value: object) -> object:
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if isinstance(value, dict):
        return {key: _stripped(item) for key, item in value.items() if key != "n"}
    return value


def _counts(run: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """The n that each question really has: its own, else the spec's."""
    spec: dict[str, Any] = json.loads(canonical(run["spec"]))
    for path, n in _flat(spec).items():
        if path.rpartition(".")[2] == "n":
            yield path, spec["n"] if n is None else int(str(n))
