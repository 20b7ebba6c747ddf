"""Who draws which batch: several processes work on one run, and every batch has one worker at a time.

A worker holds an operating system's lock (an exclusive transaction on an empty SQLite file named by a random
token) for as long as it lives, and its leases name that token. A lease is over exactly when its holder's
lock can be taken: at once when the holder dies in whatever way, and never before. So nothing here asks a
clock (it may be set back), a pid (another program may have it now) or a heartbeat (a laptop sleeps).

All of it happens inside write transactions on the evidence, of which SQLite lets one run at a time: two
workers never claim, declare dead or clear away at once. A worker that hangs without dying keeps its lease;
the others draw everything else and then give up waiting (run.py).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

from counterpoise.audit import database
from counterpoise.errors import IncompleteError

WORKERS = "workers"


@final
class Worker:
    """One that may draw: made by `working`. token: its name in lease rows and of its lock file."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, token: str) -> None:
        self.token = token
        self._folder = folder
        self._db = connection

    def others(self) -> list[int]:
        """The pids of all other workers that live; what the dead have held is free after this.

        To be called inside a transaction.
        """
        rows = self._db.execute("SELECT token, pid FROM worker WHERE token <> ?", (self.token,)).fetchall()
        alive = [(token, pid) for token, pid in rows if _lives(self._folder, token)]
        dead = {token for token, _ in rows} - {token for token, _ in alive}
        self._db.executemany("DELETE FROM worker WHERE token = ?", [(token,) for token in sorted(dead)])
        for token in dead:
            _lock_file(self._folder, token).unlink(missing_ok=True)
        return [pid for _, pid in alive]

    def claim(self, arm: str) -> int | None:
        """Lease the arm's first batch that is neither drawn nor held by a living worker; None without one."""
        with database.store_errors(self._folder), database.transaction(self._db):
            self.check()
            self.others()
            row = self._db.execute(
                "SELECT batch.id FROM batch LEFT JOIN lease ON lease.batch = batch.id"
                " WHERE batch.arm = (SELECT id FROM arm WHERE name = ?) AND batch.digest IS NULL"
                " AND (lease.batch IS NULL OR lease.worker = ?) ORDER BY batch.number LIMIT 1",
                (arm, self.token),
            ).fetchone()
            if row is None:
                return None
            self._db.execute("INSERT OR REPLACE INTO lease VALUES (?, ?)", (row[0], self.token))
            return int(row[0])

    def release(self, batch: int) -> None:
        """Give a batch back, drawn or not. Inside a transaction; IncompleteError if it was not held."""
        gone = self._db.execute("DELETE FROM lease WHERE batch = ? AND worker = ?", (batch, self.token))
        if gone.rowcount != 1:
            self._lost()

    def check(self) -> None:
        """IncompleteError unless this worker is still known: its lock file may have been deleted."""
        if not self._db.execute("SELECT 1 FROM worker WHERE token = ?", (self.token,)).fetchone():
            self._lost()

    def waits_for(self, arms: Sequence[str]) -> str:
        """The batches of these arms that others hold, in words."""
        rows = self._db.execute(
            "SELECT arm.name, batch.number, worker.pid FROM lease JOIN batch ON batch.id = lease.batch"
            " JOIN arm ON arm.id = batch.arm JOIN worker ON worker.token = lease.worker ORDER BY 1, 2"
        )
        held = [f"batch {n} of arm {arm} (process {pid})" for arm, n, pid in rows if arm in arms]
        return ", ".join(held) or "another process"

    def _lost(self) -> None:
        raise IncompleteError(
            f"{self._folder}: this worker's lock file {WORKERS}/{self.token}.lock was removed while it "
            "worked, so another took over its batch; nothing is lost: run the same command again to go on",
            code="E_LEASE_LOST",
            file=str(self._folder),
        )


@contextlib.contextmanager
def working(folder: Path, connection: sqlite3.Connection) -> Iterator[Worker]:
    """Be a worker of an open run for the length of the block."""
    token = secrets.token_hex(8)
    file = _lock_file(folder, token)
    with contextlib.ExitStack() as stack:
        with database.store_errors(folder):
            file.parent.mkdir(exist_ok=True)
            with database.transaction(connection):
                _sweep(folder, connection)
                lock = database.take_lock(file, make=True)
                assert lock is not None, "a fresh random name"
                stack.callback(file.unlink, missing_ok=True)
                stack.enter_context(contextlib.closing(lock))
                connection.execute("INSERT INTO worker VALUES (?, ?)", (token, os.getpid()))
        worker = Worker(folder, connection, token)
        try:
            yield worker
        finally:
            # If this fails (disk full) the rows stay, and the freed lock tells the next worker all it needs.
            with contextlib.suppress(sqlite3.Error):
                connection.execute("DELETE FROM worker WHERE token = ?", (token,))


def _lives(folder: Path, token: str) -> bool:
    """Whether a worker's lock is held."""
    try:
        lock = database.take_lock(_lock_file(folder, token), make=False)
    except sqlite3.OperationalError:
        if _lock_file(folder, token).exists():
            raise
        return False
    if lock is None:
        return True
    lock.close()
    return False


def _sweep(folder: Path, connection: sqlite3.Connection) -> None:
    """Delete lock files without a row: their workers died on the way in or out."""
    known = {token for (token,) in connection.execute("SELECT token FROM worker")}
    for file in (folder / WORKERS).glob("*.lock"):
        if file.stem not in known:
            file.unlink(missing_ok=True)


def _lock_file(folder: Path, token: str) -> Path:
    return folder / WORKERS / f"{token}.lock"
