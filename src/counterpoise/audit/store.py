"""Storing what was drawn: the files of a batch and every row of it in one transaction of its worker."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from counterpoise.audit import database
from counterpoise.audit.digest import close_batches, picture_digest, root_of
from counterpoise.audit.evidence import Drawn, Planned
from counterpoise.audit.lease import Worker
from counterpoise.audit.pictures import sha256, write_pictures

SEAL = "root"


def store_batch(
    connection: sqlite3.Connection,
    planned: Sequence[Planned],
    drawn: Sequence[Drawn],
    *,
    held: tuple[Path, Worker, int],
    environment: int,
) -> None:
    """Keep a batch for good and give back its lease; cells that are already there are left as they are.

    held: the run folder, the worker and the id of the batch that it holds. The files are written while the
    transaction keeps every other writer out, so a worker that has lost its lease touches nothing, and whoever
    sweeps files sees none without its row but those of the dead. A kill in between leaves files without rows,
    which are drawn over; never the reverse.
    """
    folder, worker, batch = held
    new = [(plan, done) for plan, done in zip(planned, drawn, strict=True) if not plan.done]
    with database.store_errors(folder), database.transaction(connection):
        worker.release(batch)
        write_pictures(folder, [(plan.file, done.png) for plan, done in new])
        described = connection.execute(
            "SELECT description FROM environment WHERE id = ?", (environment,)
        ).fetchone()[0]
        rows = []
        for plan, done in new:
            row = (plan.file, len(done.png), sha256(done.png), done.pixels)
            cell = (plan.cell.arm, plan.cell.prompt, plan.cell.seed)
            digest = picture_digest(cell, (*row, described), _observations(done))
            rows.append((plan.id, *row, environment, digest))
        connection.executemany("INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany(
            "INSERT INTO observation(cell, attribute, value, confidence, reason) VALUES (?, ?, ?, ?, ?)",
            [(plan.id, *observation) for plan, done in new for observation in _observations(done)],
        )
        close_batches(connection, [batch])


def seal(connection: sqlite3.Connection) -> None:
    """Store the root of a run all of whose batches are drawn. Inside a transaction."""
    if not connection.execute("SELECT 1 FROM batch WHERE digest IS NULL LIMIT 1").fetchone():
        connection.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (SEAL, root_of(connection)))


def unseal(connection: sqlite3.Connection) -> None:
    """Take the seal off a run that is to be drawn on. Inside a transaction."""
    connection.execute("DELETE FROM run WHERE key = ?", (SEAL,))


def _observations(done: Drawn) -> list[tuple[str, str | None, float, str]]:
    return [
        (attribute, reading.value, float(reading.confidence), reading.reason)
        for attribute, reading in done.readings.items()
    ]
