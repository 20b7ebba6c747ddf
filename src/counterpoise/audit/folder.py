"""A run folder, opened: its identity checked, its missing cells planned, its files and rows made to agree.

FOLDER/evidence.sqlite   what was planned, drawn and read
FOLDER/images/           ARM/PROMPT/SEED.png
FOLDER/run.lock          held by the one process that may write
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..diffusion.arm import Arm
from ..measure.reading import Measurer
from . import database
from .cells import cells_of
from .evidence import Evidence
from .identity import canonical, check_arms, check_same_arm, check_same_run, describe_arm, describe_run
from .pictures import intact, settle, sweep
from .spec import AuditSpec


@contextlib.contextmanager
def open_run(
    folder: Path | str, *, spec: AuditSpec, arms: Sequence[Arm], measurer: Measurer
) -> Iterator[Evidence]:
    """Open a run folder to write (made if absent), plan what is missing, and hold it against others.

    UsageError if the folder holds another spec, measurer or arm of the same name (n may grow, arms may be
    added); StateError if another process writes to it; EnvironmentLackError if the disk refuses.
    """
    folder = Path(folder)
    check_arms(arms)
    with database.store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with database.locked(folder), contextlib.ExitStack() as opened:
        with database.store_errors(folder):
            connection = opened.enter_context(contextlib.closing(database.open_writer(folder)))
            with database.transaction(connection):
                _register(connection, describe_run(spec, measurer), folder)
                for arm in arms:
                    _plan(connection, spec, arm, folder)
            _reconcile(connection, folder)
        opened.callback(settle)
        yield Evidence(folder, connection)


@contextlib.contextmanager
def read_run(folder: Path | str) -> Iterator[Evidence]:
    """Open a run folder to read, also while a run writes to it; UsageError if it holds no run."""
    folder = Path(folder)
    with contextlib.closing(database.open_reader(folder)) as connection:
        yield Evidence(folder, connection)


def _register(connection: sqlite3.Connection, identity: Mapping[str, object], folder: Path) -> None:
    row = connection.execute("SELECT value FROM run WHERE key = 'identity'").fetchone()
    if row:
        check_same_run(json.loads(row[0]), identity, folder)
    connection.execute("INSERT OR REPLACE INTO run VALUES ('identity', ?)", (canonical(identity),))


def _plan(connection: sqlite3.Connection, spec: AuditSpec, arm: Arm, folder: Path) -> None:
    """Give every cell that an arm lacks its place: whole batches after the last planned one."""
    row = connection.execute("SELECT id, identity FROM arm WHERE name = ?", (arm.name,)).fetchone()
    if row:
        check_same_arm(json.loads(row[1]), describe_arm(arm), folder)
        arm_id = row[0]
    else:
        insert = "INSERT INTO arm(name, identity) VALUES (?, ?)"
        arm_id = connection.execute(insert, (arm.name, canonical(describe_arm(arm)))).lastrowid
    planned = set(
        connection.execute(
            "SELECT text, seed FROM cell JOIN prompt ON prompt.id = prompt WHERE arm = ?", (arm_id,)
        )
    )
    new = [cell for cell in cells_of(spec, arm.name) if (cell.prompt, cell.seed) not in planned]
    prompts = {cell.prompt: None for cell in new}
    connection.executemany("INSERT OR IGNORE INTO prompt(text) VALUES (?)", [(p,) for p in prompts])
    ids = {text: i for i, text in connection.execute("SELECT id, text FROM prompt")}
    last = connection.execute("SELECT max(batch) FROM cell WHERE arm = ?", (arm_id,)).fetchone()[0]
    first = 0 if last is None else last + 1
    connection.executemany(
        "INSERT INTO cell(arm, prompt, seed, batch, slot) VALUES (?, ?, ?, ?, ?)",
        [
            (arm_id, ids[cell.prompt], cell.seed, first + i // arm.batch_size, i % arm.batch_size)
            for i, cell in enumerate(new)
        ],
    )


def _reconcile(connection: sqlite3.Connection, folder: Path) -> None:
    """Make files and rows agree: pictures that are gone or altered are drawn again, orphans are swept."""
    rows = connection.execute("SELECT cell, file, size, sha256 FROM picture").fetchall()
    lost = [(cell,) for cell, file, size, digest in rows if not intact(folder / file, size, digest)]
    with database.transaction(connection):
        connection.executemany("DELETE FROM observation WHERE cell = ?", lost)
        connection.executemany("DELETE FROM picture WHERE cell = ?", lost)
    gone = {cell for (cell,) in lost}
    sweep(folder, {file for cell, file, _, _ in rows if cell not in gone})
