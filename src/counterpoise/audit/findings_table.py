"""Findings as a table, a row each: CSV, Parquet, Markdown or JSON, by the file's ending."""

from __future__ import annotations

import csv
import importlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from counterpoise.audit.database import store_errors
from counterpoise.audit.gating.markdown import cell, table
from counterpoise.audit.pictures import write_atomically
from counterpoise.audit.refusals import literal
from counterpoise.audit.results import Finding, Findings
from counterpoise.errors import EnvironmentLackError, UsageError

Row = dict[str, object]
_PLAIN = (
    *(
        "id",
        "kind",
        "where",
        "arm",
        "against",
        "prompts",
        "attribute",
        "value",
        "group",
        "reference",
        "scope",
    ),
    *("held_out", "tolerance", "n", "abstained", "effect_name", "log_e_biased", "log_e_fair", "alone"),
    *("decision", "method"),
)
# What a spreadsheet would take for a formula.
_FORMULA = ("=", "+", "-", "@")


def export_findings(findings: Findings, path: Path | str) -> Path:
    """Write the findings to a .csv, .parquet, .md or .json file, atomically.

    Effects are in the columns effect, low, high (empty: no limit), effect_n, effect_method. UsageError
    E_EXPORT for another ending; EnvironmentLackError if .parquet needs pyarrow, or the disk refuses.
    """
    path = Path(path)
    writers: Mapping[str, Callable[[Sequence[Row]], bytes]] = {
        ".csv": _csv,
        ".json": _json,
        ".md": _markdown,
        ".parquet": _parquet,
    }
    if path.suffix.lower() not in writers:
        raise UsageError(
            f"{path}: expected a name that ends in {', '.join(writers)}; choose one",
            code="E_EXPORT",
            file=str(path),
        )
    data = writers[path.suffix.lower()]([row_of(finding) for finding in findings.findings])
    with store_errors(path.parent):
        write_atomically(path, data)
    return path


def row_of(finding: Finding) -> Row:
    """One finding as a flat row; prompts stay a list."""
    row: Row = {name: getattr(finding, name) for name in _PLAIN}
    effect = finding.effect
    return {
        **row,
        "prompts": list(finding.prompts),
        "effect": effect.value,
        "low": effect.low,
        "high": effect.high,
        "effect_n": effect.n,
        "effect_method": effect.method,
    }


def _csv(rows: Sequence[Row]) -> bytes:
    """UTF-8 with a header; control characters as \\x1b, a text that begins like a formula behind a quote."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_columns())
    for row in rows:
        writer.writerow([_text(value) for value in row.values()])
    return stream.getvalue().encode("utf-8")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else repr(value)
    shown = literal(value)
    return f"'{shown}" if shown.startswith(_FORMULA) else shown


def _json(rows: Sequence[Row]) -> bytes:
    return (json.dumps(rows, indent=2, allow_nan=False) + "\n").encode("ascii")


def _markdown(rows: Sequence[Row]) -> bytes:
    names = (
        "kind",
        "arm",
        "prompts",
        "attribute",
        "value",
        "effect_name",
        "effect",
        "low",
        "high",
        "n",
        "decision",
    )
    shown = [[cell(_short(row[name])) for name in names] for row in rows]
    return (table(names, shown) + "\n").encode("utf-8")


def _short(value: object) -> str:
    return (
        f"{value:.3f}"
        if isinstance(value, float)
        else "; ".join(value)
        if isinstance(value, list)
        else _text(value)
    )


def _parquet(rows: Sequence[Row]) -> bytes:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise EnvironmentLackError(
            f"a .parquet file needs pyarrow ({error}); install it: python -m pip install pyarrow",
            code="E_EXTRA",
        ) from error
    texts, floats = arrow.string(), arrow.float64()
    kinds = {
        "prompts": arrow.list_(texts),
        "held_out": arrow.bool_(),
        **dict.fromkeys(("n", "abstained", "effect_n"), arrow.int64()),
        **dict.fromkeys(("tolerance", "log_e_biased", "log_e_fair", "effect", "low", "high"), floats),
    }
    schema = arrow.schema([(name, kinds.get(name, texts)) for name in _columns()])
    stream = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), stream)
    return stream.getvalue()


def _columns() -> list[str]:
    return [*_PLAIN, "effect", "low", "high", "effect_n", "effect_method"]
