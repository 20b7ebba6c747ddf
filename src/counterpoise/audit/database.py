"""The SQLite file of a run: how it is opened, to write and to read, and what the disk's refusals become.

WAL with synchronous=FULL: a committed transaction survives a kill and a power cut. Opening to write is one
process's business at a time (`locked`); working is not: see lease.py. Every lock here and there is an open
exclusive transaction on an empty SQLite file: the operating system lets go of it when its holder dies in
whatever way, so there is no stale lock to detect, no pid that another program may have been given, and no
clock to trust.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from counterpoise.audit import schema
from counterpoise.errors import EnvironmentLackError, RefusedInputError, StateError, UsageError

FILE, LOCK = "evidence.sqlite", "run.lock"
_OPENING_SECONDS = 600.0  # another process may be checking 100,000 pictures
_BUSY_SECONDS = 60.0  # a transaction writes a batch of files at most


@contextlib.contextmanager
def locked(folder: Path, *, seconds: float = _OPENING_SECONDS) -> Iterator[None]:
    """Be the one process that opens the run for writing; waits for others, StateError after `seconds`."""
    with contextlib.ExitStack() as held:
        with store_errors(folder):
            give_up = time.monotonic() + seconds
            while (lock := take_lock(folder / LOCK, make=True)) is None:
                if time.monotonic() > give_up:
                    raise StateError(
                        f"{folder} has been kept by another process that opens it for {seconds:g} s; wait "
                        "for it, stop it, or use another folder",
                        code="E_RUN_BUSY",
                        file=str(folder),
                    )
                time.sleep(0.02)
        held.enter_context(contextlib.closing(lock))
        yield


def take_lock(file: Path, *, make: bool) -> sqlite3.Connection | None:
    """Hold `file` until the connection is closed or this process ends; None if another holds it.

    make: whether to make a file that is not there; without, sqlite3.OperationalError if it is missing.
    """
    mode = "rwc" if make else "rw"
    lock = connect(f"{file.absolute().as_uri()}?mode={mode}", seconds=0)
    try:
        lock.execute("PRAGMA journal_mode=MEMORY")  # nothing is written: no second file beside the lock
        lock.execute("BEGIN EXCLUSIVE")
    except BaseException as error:
        lock.close()
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return None
        raise
    return lock


def open_writer(folder: Path) -> sqlite3.Connection:
    """The evidence of a locked folder, made if it is not there. The caller closes it."""
    path = folder / FILE
    connection = connect(str(path), seconds=_BUSY_SECONDS)
    try:
        check_kind(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if pragma(connection, "user_version") == 0:
            with transaction(connection):
                for statement in schema.statements():
                    connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(folder: Path) -> sqlite3.Connection:
    """The evidence of a run, for reading only; works while others write to it. The caller closes it."""
    path = (folder / FILE).absolute()
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no run (no {FILE}); name a run's folder", code="E_RUN_MISSING", file=str(folder)
        )
    # WAL needs to write its index beside the file; on a read-only disk a closed run is read as it lies.
    wal = path.with_name(path.name + "-wal")
    frozen = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
    with store_errors(folder):
        options = "?mode=ro" + ("&immutable=1" if frozen else "")
        connection = connect(path.as_uri() + options, seconds=_BUSY_SECONDS)
        try:
            check_kind(connection, path)
            if pragma(connection, "user_version") == 0:
                raise UsageError(
                    f"{path} holds no run yet; run the audit first", code="E_RUN_MISSING", file=str(path)
                )
        except BaseException:
            connection.close()
            raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: commits at the end of the block, rolls back when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """One state of the evidence for all that is read in the block, whatever others write meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def store_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses (full, read-only, over quota) into one line with exit code 6."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else error
        raise EnvironmentLackError(
            f"{folder}: cannot write or read the run ({reason}); what is committed is safe: free some space "
            "or check the permissions, then run again to resume",
            code="E_DISK",
            file=str(folder),
        ) from error


def connect(database: str, *, seconds: float) -> sqlite3.Connection:
    """A connection (a path, or a file: URI) that waits up to `seconds` for others' transactions."""
    # isolation_level=None: transactions begin and end only where this code says so.
    return sqlite3.connect(database, timeout=seconds, isolation_level=None, uri=database.startswith("file:"))


def pragma(connection: sqlite3.Connection, name: str) -> int:
    """The value of a numeric pragma."""
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def check_kind(connection: sqlite3.Connection, path: Path) -> None:
    """RefusedInputError unless the file is empty or an evidence file of a version known here."""
    try:
        version, kind = pragma(connection, "user_version"), pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise RefusedInputError(
            f"{path} is damaged or no SQLite file ({error}); restore a copy or use a new folder",
            code="E_RUN_DAMAGED",
            file=str(path),
        ) from None
    if tables and kind != schema.APPLICATION_ID:
        raise RefusedInputError(
            f"{path} is another program's SQLite file; use a new folder", code="E_RUN_DAMAGED", file=str(path)
        )
    if version > schema.VERSION:
        raise RefusedInputError(
            f"{path} has schema version {version}, newer than {schema.VERSION}, the newest known here; "
            "update counterpoise to read it",
            code="E_RUN_VERSION",
            file=str(path),
        )
