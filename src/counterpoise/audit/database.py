"""The SQLite file of a run: its schema, how it is opened, and the lock that keeps a second writer out.

WAL with synchronous=FULL: a committed transaction survives a kill and a power cut. The lock is an exclusive
transaction on a second, empty SQLite file: the operating system lets go of it when its holder dies in
whatever way, so there is no stale lock to detect, no pid that another program may have been given, and no
clock to trust.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..errors import EnvironmentLackError, RefusedInputError, StateError, UsageError

VERSION = 1
APPLICATION_ID = 0x43507365  # "CPse": tells our file from any other SQLite file
FILE, LOCK = "evidence.sqlite", "run.lock"

_SCHEMA = """
CREATE TABLE run(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE arm(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, identity TEXT NOT NULL);
CREATE TABLE prompt(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE cell(
    id INTEGER PRIMARY KEY,
    arm INTEGER NOT NULL REFERENCES arm,
    prompt INTEGER NOT NULL REFERENCES prompt,
    seed INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    UNIQUE(arm, prompt, seed),
    UNIQUE(arm, batch, slot));
CREATE TABLE picture(
    cell INTEGER PRIMARY KEY REFERENCES cell,
    file TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL);
CREATE TABLE observation(
    cell INTEGER NOT NULL REFERENCES picture,
    attribute TEXT NOT NULL,
    value TEXT,
    confidence REAL NOT NULL CHECK(confidence BETWEEN 0 AND 1),
    reason TEXT NOT NULL CHECK(value IS NOT NULL OR reason <> ''),
    PRIMARY KEY(cell, attribute)) WITHOUT ROWID;
"""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for writing; StateError at once if another process (or thread) holds it."""
    with contextlib.ExitStack() as held:
        with store_errors(folder):
            lock = held.enter_context(contextlib.closing(_connect(str(folder / LOCK), timeout=0)))
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                raise StateError(
                    f"{folder} is in use by another process that writes to it; wait for it, stop it, or "
                    "use another folder",
                    code="E_RUN_BUSY",
                    file=str(folder),
                ) from None
        yield


def open_writer(folder: Path) -> sqlite3.Connection:
    """The evidence of a locked folder, made if it is not there. The caller closes it."""
    path = folder / FILE
    if not path.exists() and (folder / "images").exists():
        raise UsageError(
            f"{folder} has an images folder but no {FILE}: it is not a run; choose a new folder",
            code="E_RUN_FOLDER",
            file=str(folder),
        )
    connection = _connect(str(path), timeout=30)
    try:
        _check_kind(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        if _pragma(connection, "user_version") == 0:
            with transaction(connection):
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(folder: Path) -> sqlite3.Connection:
    """The evidence of a run, for reading only; works while a run writes to it. The caller closes it."""
    path = (folder / FILE).absolute()
    if not path.is_file():
        raise UsageError(
            f"{folder} holds no run (no {FILE}); name a run's folder", code="E_RUN_MISSING", file=str(folder)
        )
    # WAL needs to write its index beside the file; on a read-only disk a closed run is read as it lies.
    wal = path.with_name(path.name + "-wal")
    frozen = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
    with store_errors(folder):
        connection = _connect(path.as_uri() + "?mode=ro" + ("&immutable=1" if frozen else ""), timeout=30)
        try:
            _check_kind(connection, path)
            if _pragma(connection, "user_version") == 0:
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


def _connect(database: str, *, timeout: float) -> sqlite3.Connection:
    # isolation_level=None: transactions begin and end only where this code says so.
    return sqlite3.connect(database, timeout=timeout, isolation_level=None, uri=database.startswith("file:"))


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _check_kind(connection: sqlite3.Connection, path: Path) -> None:
    """RefusedInputError unless the file is empty or an evidence file of a version known here."""
    try:
        version, kind = _pragma(connection, "user_version"), _pragma(connection, "application_id")
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        raise RefusedInputError(
            f"{path} is damaged or no SQLite file ({error}); restore a copy or use a new folder",
            code="E_RUN_DAMAGED",
            file=str(path),
        ) from None
    if tables and kind != APPLICATION_ID:
        raise RefusedInputError(
            f"{path} is another program's SQLite file; use a new folder", code="E_RUN_DAMAGED", file=str(path)
        )
    if version > VERSION:
        raise RefusedInputError(
            f"{path} has schema version {version}, newer than {VERSION}, the newest known here; update "
            "counterpoise to read it",
            code="E_RUN_VERSION",
            file=str(path),
        )
