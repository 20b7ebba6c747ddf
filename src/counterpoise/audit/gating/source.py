"""A run in, its findings out: rebuilt from the evidence in its folder, or read from a results.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from counterpoise.audit.analysis import analyse
from counterpoise.audit.database import FILE
from counterpoise.audit.export import SCHEMA
from counterpoise.audit.folder import read_run
from counterpoise.audit.refusals import literal
from counterpoise.audit.results import Findings
from counterpoise.errors import RefusedInputError, UsageError

RESULTS = "results.json"
MAX_BYTES = 500_000_000


def read_findings(run: Path | str) -> Findings:
    """What an audit found: `run` is its folder (evidence first, then results.json) or a results.json.

    UsageError if there is neither; RefusedInputError E_RESULTS for a file that is not what an audit writes.
    """
    path = Path(run)
    if path.is_dir() and ((path / FILE).exists() or not (path / RESULTS).exists()):
        with read_run(path) as evidence:
            return analyse(evidence)
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"{path}: neither a run folder nor a results.json; name what `counterpoise audit --out` made",
            code="E_RUN_MISSING",
            file=str(path),
        )
    return findings_of(_content(file), file=file)


def findings_of(content: Any, *, file: Path | str = RESULTS) -> Findings:
    """The findings in what a results.json holds; RefusedInputError E_RESULTS if it holds none."""
    if not isinstance(content, dict) or "coverage" not in content or "claims" not in content:
        raise _refused(file, "it has no claims and no coverage")
    schema = content.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or not 1 <= schema <= SCHEMA:
        raise _refused(file, f"its schema is {schema!r:.40}, this version reads 1 to {SCHEMA}")
    try:
        found: Findings = TypeAdapter(Findings).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _refused(file, f"{where}: {first['msg']}, found {first['input']!r:.60}") from None
    return found


def _content(file: Path) -> Any:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _refused(file, f"it is larger than {MAX_BYTES} bytes")
        return json.loads(file.read_text("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refused(file, said) from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _refused(file: Path | str, why: str) -> RefusedInputError:
    return RefusedInputError(
        f"{file}: not the results of an audit: {literal(why)}; gate the run's folder, or audit again",
        code="E_RESULTS",
        file=str(file),
    )
