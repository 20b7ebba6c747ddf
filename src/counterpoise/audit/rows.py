"""Do the rows of a run agree with the digests that were stored with them? Without looking at any file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import final

from counterpoise.audit import digest
from counterpoise.errors import RefusedInputError

_PICTURES = (
    "SELECT cell.id, arm.name, prompt.text, seed, file, picture.size, sha256, pixels, description,"
    " picture.digest, attribute, value, confidence, reason FROM picture"
    " JOIN cell ON cell.id = picture.cell JOIN arm ON arm.id = cell.arm"
    " JOIN prompt ON prompt.id = cell.prompt JOIN environment ON environment.id = picture.environment"
    " LEFT JOIN observation ON observation.cell = cell.id ORDER BY cell.id, attribute"
)
_BATCHES = (
    "SELECT batch.id, arm.name, number, batch.digest, picture.digest FROM batch"
    " JOIN arm ON arm.id = batch.arm LEFT JOIN cell ON cell.batch = batch.id"
    " LEFT JOIN picture ON picture.cell = cell.id ORDER BY batch.id, slot"
)


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was. kind: "edited row", "missing picture", ...; where: what, in words."""

    kind: str
    where: str

    def line(self) -> str:
        """For a terminal: what cannot be seen is escaped."""
        text = f"{self.kind}: {self.where}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def row_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Every row that its digest contradicts, and every digest that its rows contradict."""
    yield from _pictures(connection)
    yield from _batches(connection)
    for round_id, stored in connection.execute("SELECT id, digest FROM round ORDER BY id").fetchall():
        if digest.round_digest(connection, round_id) != stored:
            yield Finding("edited plan", f"round {round_id}: its cells or batches are not those planned")
    yield from _strangers(connection)


def refuse_edited(connection: sqlite3.Connection, folder: Path) -> None:
    """RefusedInputError if rows were edited: what is drawn on top of them would be sealed with them."""
    first = next(row_findings(connection), None)
    if first is not None:
        raise RefusedInputError(
            f"{folder} was changed since it was drawn ({first.line():.300}); see all with `counterpoise "
            f"verify {folder}`; restore a copy or use a new folder",
            code="E_RUN_EDITED",
            file=str(folder),
        )


def _pictures(connection: sqlite3.Connection) -> Iterator[Finding]:
    for _, rows in groupby(connection.execute(_PICTURES), key=lambda row: row[0]):
        found = list(rows)
        _, arm, prompt, seed, *picture, stored = found[0][:10]
        observations = [row[10:] for row in found if row[10] is not None]
        if digest.picture_digest((arm, prompt, seed), picture, observations) != stored:
            yield Finding(
                "edited row",
                f"arm {arm}, prompt {prompt!r:.60}, seed {seed}: the picture's row or its observations",
            )


def _batches(connection: sqlite3.Connection) -> Iterator[Finding]:
    for _, rows in groupby(connection.execute(_BATCHES), key=lambda row: row[0]):
        found = list(rows)
        _, arm, number, stored, _ = found[0]
        pictures = [row[4] for row in found]
        if stored is not None and (None in pictures or digest.batch_digest(arm, number, pictures) != stored):
            yield Finding("edited batch", f"arm {arm}, batch {number}: rows are gone, added or exchanged")


def _strangers(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Observations that no measurer of this run could have made."""
    row = connection.execute("SELECT value FROM run WHERE key = 'identity'").fetchone()
    if row is None and not connection.execute("SELECT 1 FROM arm LIMIT 1").fetchone():
        return  # just made
    try:
        attributes = dict(json.loads(row[0])["measurer"]["attributes"])
    except (ValueError, TypeError, KeyError, RecursionError):
        yield Finding("edited row", "the run's identity cannot be read")
        return
    query = "SELECT cell, attribute, value FROM observation ORDER BY cell, attribute"
    for cell, attribute, value in connection.execute(query):
        if attribute not in attributes or (value is not None and value not in attributes[attribute]):
            yield Finding("foreign row", f"observation of cell {cell}: {attribute!r:.60} = {value!r:.60}")
