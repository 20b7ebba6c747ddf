"""The evidence of a run: planned cells, pictures and observations, stored as rows and never as counters.

The plan is made of rows too: every cell has its batch and slot from the moment it is planned. So a resumed
run draws the very batches that an undisturbed one would, and an extension appends batches.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..diffusion.arm import Cell
from ..measure.reading import Reading
from . import database
from .pictures import picture_file, sha256, write_pictures
from .spec import AuditSpec


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """A stored picture: its cell, its PNG file and the sha256 of that file's bytes."""

    cell: Cell
    file: Path
    sha256: str


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """A cell in its place: row id, and the file (relative to the run folder) that its picture goes to."""

    id: int
    cell: Cell
    file: str
    done: bool


@final
class Evidence:
    """An open run folder. Made by `folder.open_run` (to write) or `folder.read_run` (to read)."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = connection

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

    def missing(self, arm: str) -> list[int]:
        """The batches of an arm of which any picture is missing, in order."""
        rows = self._db.execute(
            "SELECT DISTINCT batch FROM cell LEFT JOIN picture ON picture.cell = cell.id"
            " WHERE picture.cell IS NULL AND arm = (SELECT id FROM arm WHERE name = ?) ORDER BY batch",
            (arm,),
        )
        return [row[0] for row in rows]

    def batch(self, arm: str, batch: int) -> list[Planned]:
        """The cells of a batch in the order of their slots."""
        rows = self._db.execute(
            "SELECT cell.id, arm.id, prompt.id, prompt.text, seed, picture.cell FROM cell"
            " JOIN arm ON arm.id = cell.arm JOIN prompt ON prompt.id = cell.prompt"
            " LEFT JOIN picture ON picture.cell = cell.id WHERE arm.name = ? AND batch = ? ORDER BY slot",
            (arm, batch),
        )
        return [
            Planned(cell, Cell(arm, text, seed), picture_file((a, arm), (p, text), seed), done is not None)
            for cell, a, p, text, seed, done in rows
        ]

    def store(
        self, planned: Sequence[Planned], pngs: Sequence[bytes], readings: Sequence[Mapping[str, Reading]]
    ) -> None:
        """Keep a batch for good: the files first, then every row of it in one transaction.

        A kill in between leaves files without rows, which the next open sweeps; never the reverse. Cells
        that are already there are left as they are.
        """
        new = [
            (plan, png, read)
            for plan, png, read in zip(planned, pngs, readings, strict=True)
            if not plan.done
        ]
        with database.store_errors(self.folder):
            write_pictures(self.folder, [(plan.file, png) for plan, png, _ in new])
            with database.transaction(self._db):
                self._db.executemany(
                    "INSERT INTO picture(cell, file, size, sha256) VALUES (?, ?, ?, ?)",
                    [(plan.id, plan.file, len(png), sha256(png)) for plan, png, _ in new],
                )
                self._db.executemany(
                    "INSERT INTO observation(cell, attribute, value, confidence, reason)"
                    " VALUES (?, ?, ?, ?, ?)",
                    [
                        (plan.id, attribute, reading.value, reading.confidence, reading.reason)
                        for plan, _, read in new
                        for attribute, reading in read.items()
                    ],
                )

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
            "SELECT seed, file, sha256 FROM cell JOIN picture ON picture.cell = cell.id"
            " WHERE arm = (SELECT id FROM arm WHERE name = ?)"
            " AND prompt = (SELECT id FROM prompt WHERE text = ?) ORDER BY seed LIMIT ?",
            (arm, prompt, limit),
        )
        return [Picture(Cell(arm, prompt, seed), self.folder / file, digest) for seed, file, digest in rows]

    def progress(self) -> list[tuple[str, int, int, int]]:
        """For each arm, in order: its name, cells planned, pictures stored, and distinct ones a prompt."""
        rows = self._db.execute(
            "SELECT arm.name, count(*), count(picture.cell), count(DISTINCT prompt || ' ' || sha256)"
            " FROM arm JOIN cell ON cell.arm = arm.id LEFT JOIN picture ON picture.cell = cell.id"
            " GROUP BY arm.id ORDER BY arm.id"
        )
        return rows.fetchall()

    def count_reason(self, arm: str, prefix: str) -> int:
        """Pictures of an arm for which some attribute was given no value for a reason that begins so."""
        row = self._db.execute(
            "SELECT count(DISTINCT cell.id) FROM cell JOIN observation ON observation.cell = cell.id"
            " WHERE value IS NULL AND substr(reason, 1, ?) = ?"
            " AND arm = (SELECT id FROM arm WHERE name = ?)",
            (len(prefix), prefix, arm),
        ).fetchone()
        return int(row[0])
