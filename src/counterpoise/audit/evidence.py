"""The evidence of a run: planned cells, pictures and observations, stored as rows and never as counters.

The plan is made of rows too: every cell has its batch and slot from the moment it is planned. So a resumed
run draws the very batches that an undisturbed one would, and an extension appends batches. What is drawn is
stored a whole batch at a time, by the worker that holds its lease.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoise.audit.digest import root_of
from counterpoise.audit.pictures import picture_file
from counterpoise.audit.readings import FAILED
from counterpoise.audit.spec import AuditSpec
from counterpoise.diffusion.arm import Cell
from counterpoise.measure.reading import Reading


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """A stored picture: its cell, its PNG file, and the sha256 of that file's bytes and of its pixels alone.

    Two arms that draw the same have equal pixels; their files differ in the text that names the arm.
    """

    cell: Cell
    file: Path
    sha256: str
    pixels: str


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """A cell in its place: row id, and the file (relative to the run folder) that its picture goes to."""

    id: int
    cell: Cell
    file: str
    done: bool


@final
@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture of a batch to be stored: its PNG file, the digest of its pixels, and what was read of it."""

    png: bytes
    pixels: str
    readings: Mapping[str, Reading]


@final
@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures of an arm came from: an environment, and how many cells were drawn together."""

    arm: str
    environment: Mapping[str, object]
    batch_size: int
    pictures: int


@final
class Evidence:
    """An open run folder, read. Made by `folder.open_run` (to write, see store.py) or `folder.read_run`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = connection

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection to the rows, for this room's own queries."""
        return self._db

    @property
    def identity(self) -> dict[str, object]:
        """The spec and the measurer that this run belongs to, as plain JSON values."""
        row = self._db.execute("SELECT value FROM run WHERE key = 'identity'").fetchone()
        return dict(json.loads(row[0]))

    @property
    def spec(self) -> AuditSpec:
        """The spec that the run was last planned with."""
        return AuditSpec.model_validate(self.identity["spec"])

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """What the measurer reads: attribute -> values."""
        measurer = self.identity["measurer"]
        assert isinstance(measurer, dict)
        return {name: tuple(values) for name, values in measurer["attributes"].items()}

    @property
    def arms(self) -> list[dict[str, object]]:
        """The arms planned so far, in the order in which they were first given."""
        return [json.loads(row[0]) for row in self._db.execute("SELECT identity FROM arm ORDER BY id")]

    @property
    def root(self) -> str:
        """The digest of all that this evidence says: equal roots, equal pictures and readings."""
        return root_of(self._db)

    @property
    def environments(self) -> list[dict[str, object]]:
        """Every environment in which the run was opened to draw, in the order of their coming."""
        rows = self._db.execute("SELECT description FROM environment ORDER BY id")
        return [json.loads(row[0]) for row in rows]

    def sources(self) -> list[Source]:
        """How many pictures of each arm were drawn in which environment and batch size: a report's mix."""
        rows = self._db.execute(
            "SELECT arm.name, description, batch.size, count(*) FROM picture"
            " JOIN environment ON environment.id = picture.environment JOIN cell ON cell.id = picture.cell"
            " JOIN batch ON batch.id = cell.batch JOIN arm ON arm.id = cell.arm"
            " GROUP BY arm.id, environment.id, batch.size ORDER BY arm.id, environment.id, batch.size"
        )
        return [Source(arm, json.loads(text), size, n) for arm, text, size, n in rows]

    def missing(self, arm: str) -> list[int]:
        """The ids of the batches of an arm that are not drawn, in order."""
        rows = self._db.execute(
            "SELECT id FROM batch WHERE digest IS NULL AND arm = (SELECT id FROM arm WHERE name = ?)"
            " ORDER BY number",
            (arm,),
        )
        return [row[0] for row in rows]

    def batch(self, batch: int) -> list[Planned]:
        """The cells of a batch (by its id) in the order of their slots."""
        rows = self._db.execute(
            "SELECT cell.id, arm.id, arm.name, prompt.id, prompt.text, seed, picture.cell FROM cell"
            " JOIN arm ON arm.id = cell.arm JOIN prompt ON prompt.id = cell.prompt"
            " LEFT JOIN picture ON picture.cell = cell.id WHERE cell.batch = ? ORDER BY slot",
            (batch,),
        )
        return [
            Planned(cell, Cell(arm, text, seed), picture_file((a, arm), (p, text), seed), done is not None)
            for cell, a, arm, p, text, seed, done in rows
        ]

    def tally(self, cells: tuple[str, str], attribute: str, seeds: range) -> dict[str | None, int]:
        """value (None: abstained) -> pictures, over an (arm, prompt)'s measured pictures on `seeds`."""
        rows = self._db.execute(
            "SELECT observation.value, count(*) FROM cell JOIN observation ON observation.cell = cell.id"
            " WHERE arm = (SELECT id FROM arm WHERE name = ?)"
            " AND prompt = (SELECT id FROM prompt WHERE text = ?)"
            " AND seed BETWEEN ? AND ? AND attribute = ? GROUP BY observation.value",
            (*cells, seeds.start, seeds.stop - 1, attribute),
        )
        return dict(rows.fetchall())

    def readings(self, arm: str, prompt: str, attribute: str) -> dict[int, Reading]:
        """seed -> what was read of an attribute, for comparisons on shared seeds."""
        rows = self._db.execute(
            "SELECT seed, value, confidence, reason FROM cell JOIN observation ON observation.cell = cell.id"
            " WHERE arm = (SELECT id FROM arm WHERE name = ?)"
            " AND prompt = (SELECT id FROM prompt WHERE text = ?) AND attribute = ? ORDER BY seed",
            (arm, prompt, attribute),
        )
        return {seed: Reading(value, confidence, reason) for seed, value, confidence, reason in rows}

    def pictures(self, arm: str, prompt: str, *, limit: int = -1) -> list[Picture]:
        """The first `limit` (default: all) pictures of a prompt in an arm, by seed."""
        rows = self._db.execute(
            "SELECT seed, file, sha256, pixels FROM cell JOIN picture ON picture.cell = cell.id"
            " WHERE arm = (SELECT id FROM arm WHERE name = ?)"
            " AND prompt = (SELECT id FROM prompt WHERE text = ?) ORDER BY seed LIMIT ?",
            (arm, prompt, limit),
        )
        return [
            Picture(Cell(arm, prompt, seed), self.folder / file, digest, pixels)
            for seed, file, digest, pixels in rows
        ]

    def progress(self) -> list[tuple[str, int, int, int]]:
        """For each arm, in order: its name, cells planned, pictures stored, and distinct ones a prompt."""
        rows = self._db.execute(
            "SELECT arm.name, count(*), count(picture.cell), count(DISTINCT prompt || ' ' || pixels)"
            " FROM arm JOIN cell ON cell.arm = arm.id LEFT JOIN picture ON picture.cell = cell.id"
            " GROUP BY arm.id ORDER BY arm.id"
        )
        return rows.fetchall()

    def counts(self, arms: Sequence[str]) -> tuple[int, int]:
        """Pictures stored and planned, over these arms."""
        rows = self._db.execute(
            "SELECT arm.name, count(*), count(picture.cell) FROM arm JOIN cell ON cell.arm = arm.id"
            " LEFT JOIN picture ON picture.cell = cell.id GROUP BY arm.id"
        )
        mine = [(drawn, planned) for name, planned, drawn in rows if name in arms]
        return sum(drawn for drawn, _ in mine), sum(planned for _, planned in mine)

    def count_reason(self, arm: str, prefix: str) -> int:
        """Pictures of an arm for which some attribute was given no value for a reason that begins so."""
        row = self._db.execute(
            "SELECT count(DISTINCT cell.id) FROM cell JOIN observation ON observation.cell = cell.id"
            " WHERE value IS NULL AND substr(reason, 1, ?) = ?"
            " AND arm = (SELECT id FROM arm WHERE name = ?)",
            (len(prefix), prefix, arm),
        ).fetchone()
        return int(row[0])

    def failures(self, arm: str) -> tuple[int, str]:
        """Pictures of an arm that the measurer broke on, and the first one's reason ("" if none)."""
        row = self._db.execute(
            "SELECT reason FROM cell JOIN observation ON observation.cell = cell.id WHERE value IS NULL"
            " AND substr(reason, 1, ?) = ? AND arm = (SELECT id FROM arm WHERE name = ?)"
            " ORDER BY cell.id, attribute LIMIT 1",
            (len(FAILED), FAILED, arm),
        ).fetchone()
        return self.count_reason(arm, FAILED), row[0] if row else ""


def root_digest(evidence: Evidence) -> str:
    """The digest of all that a run's evidence says; whoever keeps it can tell later if anything changed.

    It depends on the plan, the pictures, the readings, the identity and the environments, not on who drew
    what first. `verify_run` recomputes it from the rows and files.
    """
    return evidence.root
