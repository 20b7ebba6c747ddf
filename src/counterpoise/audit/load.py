"""A spec file in, an `AuditSpec` out; or one line that names the key, the value seen and the next step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from counterpoise.audit.refusals import refusal
from counterpoise.audit.spec import KINDS, AuditSpec
from counterpoise.audit.text import beside, read_bytes, read_prompts, read_toml
from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest

__all__ = ["drift_spec", "load_spec", "make_spec", "nearest", "with_n"]

_OTHER_FORMATS = {".yaml": "YAML", ".yml": "YAML", ".json": "JSON"}


def load_spec(path: Path | str) -> AuditSpec:
    """Read a TOML spec (UTF-8, or UTF-16/32 with a byte order mark; LF or CRLF) and the files that it names.

    Raises UsageError, one line, for a missing or unreadable file, bad TOML (with its line) or a bad value.
    """
    path = Path(path)
    if path.suffix.lower() in _OTHER_FORMATS:
        raise UsageError(
            f"{path}: specs are TOML only, not {_OTHER_FORMATS[path.suffix.lower()]}: write it as TOML (see "
            "docs/spec.md) and name it .toml",
            code="E_SPEC_FORMAT",
            file=str(path),
        )
    content = read_toml(path, "spec", docs="docs/spec.md", code="E_SPEC_TOML")
    return make_spec(content, file=str(path))


def make_spec(content: Mapping[str, object], *, file: str | None = None) -> AuditSpec:
    """The spec that a mapping (laid out as the TOML file is) describes; UsageError where it is wrong.

    file: where it was read from: files that it names are looked for beside that, and only if it is given.
    """
    try:
        table = dict(content) if file is None else _with_files(content, Path(file))
        return AuditSpec.model_validate(table)
    except ValidationError as error:
        raise refusal(error, file=file) from None


def drift_spec() -> AuditSpec:
    """What `audit --adapter` asks without a spec: what moves, on prompts that no adapter is meant for."""
    return load_spec(Path(str(files("counterpoise.audit").joinpath("drift.toml"))))


def with_n(spec: AuditSpec, n: int) -> AuditSpec:
    """The same questions, each with n pictures a prompt; UsageError unless n is a count."""
    content = spec.model_dump(mode="json", by_alias=True)
    for table in (table for kind in KINDS for table in content[kind]):
        table["n"] = None
    return make_spec({**content, "n": n})


def _with_files(content: Mapping[str, object], file: Path) -> dict[str, object]:
    """The content with the prompts of prompts_file, and with each confusion card's digest beside its name."""
    made = dict(content)
    for kind in KINDS:
        tables = made.get(kind)
        if isinstance(tables, list):
            made[kind] = [_with_prompts(table, f"{kind}[{i}]", file) for i, table in enumerate(tables)]
    if isinstance(cards := made.get("confusion"), list):
        made["confusion"] = [_card(name, f"confusion[{i}]", file) for i, name in enumerate(cards)]
    return made


def _with_prompts(table: Any, path: str, file: Path) -> Any:
    name = table.get("prompts_file") if isinstance(table, dict) else None
    # Anything but a name alone is left to the validation, which says what is wrong with it.
    if not isinstance(name, str) or not name.strip() or {"prompts", "template", "groups"} & set(table):
        return table
    found = beside(file.parent, name, f"{file}: {path}.prompts_file")
    rest = {key: value for key, value in table.items() if key != "prompts_file"}
    return {**rest, "prompts": read_prompts(found)}


def _card(name: Any, path: str, file: Path) -> Any:
    if not isinstance(name, str):
        raise UsageError(
            f"{file}: {path} is {name!r:.60}: expected the name of a confusion card beside the spec",
            code="E_SPEC_VALUE",
            file=str(file),
        )
    raw = read_bytes(beside(file.parent, name, f"{file}: {path}"), "confusion card")
    return {"file": name, "sha256": hashlib.sha256(raw).hexdigest()}
