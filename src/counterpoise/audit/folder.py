"""A run folder, opened: its identity checked, its missing cells planned, its files and rows made to agree.

FOLDER/evidence.sqlite   what was planned, drawn and read
FOLDER/images/           ARM/PROMPT/SEED.png
FOLDER/environment.json  the environments that drew it
FOLDER/workers/          a lock file for each process at work now
FOLDER/run.lock          held by the one process that opens the run
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from counterpoise.audit import database, schema
from counterpoise.audit.digest import canonical
from counterpoise.audit.environment import describe_environment, write_environments
from counterpoise.audit.evidence import Evidence
from counterpoise.audit.identity import check_arms, check_same_arm, check_same_run, describe_arm, describe_run
from counterpoise.audit.lease import working
from counterpoise.audit.migrate import migrate, migrated_copy
from counterpoise.audit.pictures import intact, probe, settle, sweep, sweep_temporaries
from counterpoise.audit.place import check_place
from counterpoise.audit.rounds import plan_fixed, refuse_resizing_beside, resize_batches
from counterpoise.audit.rows import refuse_edited
from counterpoise.audit.spec import AuditSpec
from counterpoise.audit.store import unseal
from counterpoise.audit.writer import Writer
from counterpoise.diffusion.arm import Arm
from counterpoise.measure.reading import Measurer


@contextlib.contextmanager
def open_run(
    folder: Path | str,
    *,
    spec: AuditSpec,
    arms: Sequence[Arm],
    measurer: Measurer,
    allow_env_change: bool = False,
) -> Iterator[Evidence]:
    """Open a run folder (made if absent) and plan all that the spec's n asks for; what it holds, to read.

    Errors: those of `work_on`.
    """
    with work_on(
        folder, spec=spec, arms=arms, measurer=measurer, allow_env_change=allow_env_change
    ) as writer:
        yield writer.evidence


@contextlib.contextmanager
def work_on(
    folder: Path | str,
    *,
    spec: AuditSpec,
    arms: Sequence[Arm],
    measurer: Measurer,
    fixed: bool = True,
    environment: Mapping[str, object] | None = None,
    allow_env_change: bool = False,
) -> Iterator[Writer]:
    """Open a run folder (made if absent) and be one of its workers for the length of the block.

    fixed: plan all that the spec's n asks for; without, the caller plans rounds. environment: what describes
    this process (default: `describe_environment`).
    UsageError if the folder is no place for a run, or holds another spec, measurer or arm of the same name (n
    may grow, arms may be added; environment and batch size may change with allow_env_change);
    EnvironmentLackError if the disk refuses; RefusedInputError if rows were edited.
    """
    folder = Path(folder)
    check_arms(arms)
    check_place(folder)
    described = canonical(dict(environment or describe_environment()))
    with database.store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as opened:
        with database.locked(folder), database.store_errors(folder):
            migrate(folder)
            connection = opened.enter_context(contextlib.closing(database.open_writer(folder)))
            worker = opened.enter_context(working(folder, connection))
            evidence = Evidence(folder, connection)
            writer = Writer(evidence, connection, worker, described, allow_env_change)
            with database.transaction(connection):
                alone = not worker.others()
            if alone:
                refuse_edited(connection, folder)
                _reconcile(connection, folder)
                sweep_temporaries(folder)
            with database.transaction(connection):
                _register(writer, describe_run(spec, measurer), arms)
                unseal(connection)
                if fixed:
                    plan_fixed(connection, spec, arms)
                if not writer.finished([arm.name for arm in arms]):
                    writer.admit()
            if not writer.finished([arm.name for arm in arms]):
                # Writers hold a transaction too: none is in the middle of that very picture.
                with database.transaction(connection):
                    probe(folder, writer.longest_file())
            write_environments(folder, evidence.environments)
        opened.callback(lambda: settle() if writer.kept else None)
        yield writer


@contextlib.contextmanager
def read_run(folder: Path | str) -> Iterator[Evidence]:
    """Open a run folder to read, also while others write to it; UsageError if it holds no run.

    A run of an older version is read from a migrated copy; the folder stays as it is.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(contextlib.closing(database.open_reader(folder)))
        if database.pragma(connection, "user_version") < schema.VERSION:
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / database.FILE
            migrated_copy(connection, copy, folder)
            connection = stack.enter_context(contextlib.closing(database.connect(str(copy), seconds=0)))
        yield Evidence(folder, connection)


def _register(writer: Writer, identity: Mapping[str, object], arms: Sequence[Arm]) -> None:
    """Hold spec, measurer and arms against what the folder knows, and make them known. In a transaction."""
    connection, folder, lax = writer.connection, writer.folder, writer.env_may_change
    row = connection.execute("SELECT value FROM run WHERE key = 'identity'").fetchone()
    if row:
        check_same_run(json.loads(row[0]), identity, folder, batch_size_may_change=lax)
    connection.execute("INSERT OR REPLACE INTO run VALUES ('identity', ?)", (canonical(identity),))
    for arm in arms:
        described = canonical(describe_arm(arm))
        row = connection.execute("SELECT identity FROM arm WHERE name = ?", (arm.name,)).fetchone()
        if row is None:
            connection.execute("INSERT INTO arm(name, identity) VALUES (?, ?)", (arm.name, described))
        elif row[0] != described:
            check_same_arm(json.loads(row[0]), describe_arm(arm), folder, batch_size_may_change=lax)
            if json.loads(row[0])["batch_size"] != arm.batch_size:
                refuse_resizing_beside(writer.worker.others(), arm.name)
                resize_batches(connection, arm.name, arm.batch_size)
            connection.execute("UPDATE arm SET identity = ? WHERE name = ?", (described, arm.name))


def _reconcile(connection: sqlite3.Connection, folder: Path) -> None:
    """Make files and rows agree: pictures that are gone or altered are drawn again, orphans are swept.

    Only while no other worker lives: it would be told that its batch is whole while a file of it is gone.
    """
    rows = connection.execute("SELECT cell, file, size, sha256 FROM picture").fetchall()
    lost = [(cell,) for cell, file, size, digest in rows if not intact(folder / file, size, digest)]
    with database.transaction(connection):
        connection.executemany(
            "UPDATE batch SET digest = NULL WHERE id = (SELECT batch FROM cell WHERE id = ?)", lost
        )
        connection.executemany("DELETE FROM observation WHERE cell = ?", lost)
        connection.executemany("DELETE FROM picture WHERE cell = ?", lost)
    gone = {cell for (cell,) in lost}
    sweep(folder, {file for cell, file, _, _ in rows if cell not in gone})
