"""Observations as tables for other programs: one row a picture and attribute, in the plan's order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from counterpoise.audit.database import store_errors
from counterpoise.audit.digest import digest_of
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.pictures import write_atomically
from counterpoise.errors import EnvironmentLackError

COLUMNS = (
    "arm", "prompt", "seed", "attribute", "value", "confidence", "reason",
    "file", "sha256", "pixels_sha256", "batch", "batch_size", "environment",
)  # fmt: skip
_QUERY = (
    "SELECT arm.name, prompt.text, seed, attribute, value, confidence, reason, file, sha256, pixels,"
    " batch.number, batch.size, description FROM observation JOIN cell ON cell.id = observation.cell"
    " JOIN picture ON picture.cell = cell.id JOIN environment ON environment.id = picture.environment"
    " JOIN batch ON batch.id = cell.batch JOIN arm ON arm.id = cell.arm JOIN prompt"
    " ON prompt.id = cell.prompt ORDER BY arm.id, prompt.id, seed, attribute"
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def observations_csv(path: Path | str, evidence: Evidence, *, for_spreadsheet: bool = False) -> Path:
    """Write every observation as CSV (UTF-8, RFC 4180, text always quoted; without a value, empty).

    Text is kept to the letter, so that reading the file gives back the evidence. A spreadsheet program
    takes text that begins with = + - or @ for a formula even when quoted: for_spreadsheet puts an apostrophe
    before such text. EnvironmentLackError if the disk refuses.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in _rows(evidence):
        told = [_disarmed(field) for field in row] if for_spreadsheet else list(row)
        writer.writerow(told)
    return _write(Path(path), stream.getvalue().encode("utf-8"))


def observations_parquet(path: Path | str, evidence: Evidence) -> Path:
    """Write every observation as Parquet, the columns of `observations_csv` with value null where abstained.

    EnvironmentLackError without pyarrow, or if the disk refuses.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise EnvironmentLackError(
            "Parquet needs pyarrow: pip install 'counterpoise[parquet]'", code="E_EXTRA"
        ) from None
    types = {"seed": pa.int64(), "confidence": pa.float64(), "batch": pa.int64(), "batch_size": pa.int64()}
    columns = list(zip(*_rows(evidence), strict=True)) or [()] * len(COLUMNS)
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    table = pa.table([list(column) for column in columns], schema=schema)
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return _write(Path(path), sink.getvalue().to_pybytes())


def _rows(evidence: Evidence) -> Iterator[tuple[object, ...]]:
    for row in evidence.connection.execute(_QUERY):
        yield (*row[:-1], digest_of("environment", row[-1])[:16])


def _disarmed(field: object) -> object:
    return f"'{field}" if isinstance(field, str) and field.startswith(_FORMULA) else field


def _write(path: Path, data: bytes) -> Path:
    with store_errors(path.parent):
        write_atomically(path, data)
    return path
