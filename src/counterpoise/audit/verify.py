"""Does a run still say what it said when it was made? Every digest recomputed from rows and files.

In: a run folder, read only. Out: findings, one a line: rows edited, removed or foreign; pictures edited,
missing or extra; a seal or a results.json that tell of another state. What this proves and what it cannot is
in docs/evidence.md.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoise.audit import database, digest, schema
from counterpoise.audit.folder import read_run
from counterpoise.audit.pictures import IMAGES, intact, picture_file
from counterpoise.audit.rows import Finding, row_findings
from counterpoise.audit.store import SEAL
from counterpoise.errors import RefusedInputError

RESULTS = "results.json"


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify_run` found. root: of the rows. sealed: all is drawn and the root was stored."""

    root: str
    sealed: bool
    batches: int
    drawn: int
    pictures: int
    findings: tuple[Finding, ...]


def verify_run(folder: Path | str) -> Verdict:
    """Recompute every digest of a run and compare; nothing is changed, and a run at work may be verified.

    UsageError if the folder holds no run, RefusedInputError if its file is damaged beyond reading.
    """
    folder = Path(folder)
    # Before the rows: a file that is there now has its cell in any later state of the plan.
    files = sorted((folder / IMAGES).rglob("*"))
    with read_run(folder) as evidence:
        connection = evidence.connection
        try:
            with database.snapshot(connection):
                found = [*_file_findings(connection), *row_findings(connection)]
                found += _picture_findings(connection, folder)
                found += _strangers(connection, folder, files)
                found += _seal_findings(connection, folder)
                return _verdict(connection, found)
        except sqlite3.DatabaseError as error:
            raise RefusedInputError(
                f"{folder}/{database.FILE} is damaged ({error}); restore a copy",
                code="E_RUN_DAMAGED",
                file=str(folder),
            ) from None


def _verdict(connection: sqlite3.Connection, found: list[Finding]) -> Verdict:
    batches, drawn = connection.execute("SELECT count(*), count(digest) FROM batch").fetchone()
    pictures = connection.execute("SELECT count(*) FROM picture").fetchone()[0]
    sealed = connection.execute("SELECT 1 FROM run WHERE key = ?", (SEAL,)).fetchone() is not None
    return Verdict(digest.root_of(connection), sealed, batches, drawn, pictures, tuple(found))


def _file_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    """The SQLite file itself: whole, of our tables and nothing else (a trigger could rewrite answers)."""
    for (line,) in connection.execute("PRAGMA integrity_check(20)"):
        if line != "ok":
            yield Finding("damaged file", str(line))
    for table, row, *_ in connection.execute("PRAGMA foreign_key_check"):
        yield Finding("foreign row", f"table {table}, row {row}: what it refers to is missing")
    expected = sqlite3.connect(":memory:", isolation_level=None)
    for statement in schema.statements():
        expected.execute(statement)
    query = "SELECT type || ' ' || name, sql FROM sqlite_master"
    ours, theirs = dict(expected.execute(query)), dict(connection.execute(query))
    expected.close()
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield Finding("changed schema", name)


def _picture_findings(connection: sqlite3.Connection, folder: Path) -> Iterator[Finding]:
    rows = connection.execute(
        "SELECT arm.id, arm.name, prompt.id, prompt.text, seed, picture.file, picture.size, sha256"
        " FROM picture JOIN cell ON cell.id = picture.cell JOIN arm ON arm.id = cell.arm"
        " JOIN prompt ON prompt.id = cell.prompt ORDER BY arm.id, prompt.id, seed"
    )
    for a, arm, p, prompt, seed, file, size, sha256 in rows:
        name = picture_file((a, arm), (p, str(prompt)), seed)
        where = f"{name} (arm {arm}, prompt {prompt!r:.60}, seed {seed})"
        if file != name:
            yield Finding("edited row", f"{where}: its file is given as {file!r:.80}")
        elif (folder / name).is_symlink():
            yield Finding("edited picture", f"{where}: it is a link")
        elif not (folder / name).is_file():
            yield Finding("missing picture", where)
        elif not intact(folder / name, size, sha256):
            yield Finding("edited picture", where)


def _strangers(connection: sqlite3.Connection, folder: Path, files: Sequence[Path]) -> Iterator[Finding]:
    """Files of no planned cell. One whose cell is not drawn is being drawn, or left by a kill: drawn over."""
    rows = connection.execute(
        "SELECT arm.id, arm.name, prompt.id, prompt.text, seed, picture.cell FROM cell"
        " JOIN arm ON arm.id = cell.arm JOIN prompt ON prompt.id = cell.prompt"
        " LEFT JOIN picture ON picture.cell = cell.id"
    )
    known = set()
    for a, arm, p, prompt, seed, drawn in rows:
        name = picture_file((a, arm), (p, str(prompt)), seed)
        known.update([name] if drawn is not None else [name, f"{name}.tmp"])
    for path in files:
        name = path.relative_to(folder).as_posix()
        if name not in known and (path.is_symlink() or not path.is_dir()):
            yield Finding("extra picture", f"{name!r:.200}")


def _seal_findings(connection: sqlite3.Connection, folder: Path) -> Iterator[Finding]:
    """The root as stored, and as told in results.json, against the rows'."""
    root = digest.root_of(connection)
    row = connection.execute("SELECT value FROM run WHERE key = ?", (SEAL,)).fetchone()
    if row and row[0] != root:
        yield Finding("changed run", f"its seal is {row[0]!r:.70}, its rows amount to {root}")
    told = _told(folder / RESULTS)
    # An unfinished run may have grown since its results were told.
    if row and told is not None and told != root:
        yield Finding(
            "changed run", f"{RESULTS} was told from evidence {told!r:.70}, the rows amount to {root}"
        )


def _told(path: Path) -> object:
    """The root in a results.json; None without one."""
    try:
        said = json.loads(path.read_bytes())["evidence"]["root"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return said
