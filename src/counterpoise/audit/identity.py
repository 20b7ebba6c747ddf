"""What makes a run folder that run and no other: its spec, its measurer, its arms, as canonical JSON.

A folder is resumed only by the same identity. n may grow (the run is extended); nothing else may change,
since pictures and readings under two identities must never be pooled.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..diffusion.arm import Arm
from ..errors import UsageError
from ..measure.reading import Measurer
from .spec import AuditSpec

_SHOWN = 3
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces; ValueError on nan and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def describe_run(spec: AuditSpec, measurer: Measurer) -> dict[str, object]:
    """The identity of a run apart from its arms, as plain JSON values."""
    attributes = {name: list(values) for name, values in measurer.attributes.items()}
    judge = {"name": measurer.name, "version": measurer.version, "attributes": attributes}
    return {"spec": spec.model_dump(mode="json", by_alias=True), "measurer": judge}


def describe_arm(arm: Arm) -> dict[str, object]:
    """An arm as plain JSON values."""
    described: dict[str, object] = json.loads(canonical(asdict(arm)))
    return described


def check_arms(arms: Sequence[Arm]) -> None:
    """UsageError unless the arms' names are distinct and fit to name a folder."""
    for i, arm in enumerate(arms):
        if not _ARM_NAME.fullmatch(arm.name):
            raise UsageError(
                f"arm name {arm.name!r:.80}: expected 1 to 64 letters, digits, dots, dashes or underscores, "
                "the first a letter or digit; rename it",
                code="E_ARM",
            )
        if arm.batch_size < 1:
            raise UsageError(f"arm {arm.name}: batch_size {arm.batch_size}, expected 1 or more", code="E_ARM")
        if arm.name in {other.name for other in arms[:i]}:
            raise UsageError(f"two arms are named {arm.name}; rename one", code="E_ARM")


def check_same_run(stored: Mapping[str, object], given: Mapping[str, object], folder: Path) -> None:
    """UsageError with a short diff if `given` is not `stored`, grown in n at most."""
    old, new = _flat(_without_n(stored)), _flat(_without_n(given))
    changes = _changes(old, new)
    changes += [
        f"{path}: {before} -> {after} (n may only grow)"
        for (path, before), after in zip(_counts(stored).items(), _counts(given).values(), strict=False)
        if after < before
    ]
    _refuse(changes, f"{folder} holds a run of another spec", folder)


def check_same_arm(stored: Mapping[str, object], given: Mapping[str, object], folder: Path) -> None:
    """UsageError with a short diff if an arm of that name has been drawn otherwise."""
    changes = _changes(_flat(stored), _flat(given))
    _refuse(changes, f'{folder} holds another arm "{given["name"]}"', folder)


def _refuse(changes: Sequence[str], what: str, folder: Path) -> None:
    if changes:
        more = f"; and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        shown = "; ".join(changes[:_SHOWN])
        raise UsageError(
            f"{what}: {shown}{more}. Use a new folder, or undo the change to resume",
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


def _without_n(run: Mapping[str, object]) -> dict[str, object]:
    copy = json.loads(canonical(run))
    for table in (copy["spec"], *copy["spec"]["claim"], *copy["spec"]["disparity"]):
        table.pop("n")
    return dict(copy)


def _counts(run: Mapping[str, object]) -> dict[str, int]:
    """The n that each question really has: its own, else the spec's."""
    spec = json.loads(canonical(run))["spec"]
    return {
        f"{kind}[{i}].n": spec["n"] if question["n"] is None else question["n"]
        for kind in ("claim", "disparity")
        for i, question in enumerate(spec[kind])
    }
