"""Evidence of an older schema, brought to today's: on a copy, which takes the old file's place in one step.

Version 1 (one writer, no rounds, no digests): its cells become round 1, its pictures get the digests of what
they say now, and the mark of an environment that was not recorded. The old file stays as evidence.v1.sqlite.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import numpy as np
from PIL import Image

from counterpoise.audit import database, schema
from counterpoise.audit.digest import canonical, close_batches, picture_digest, round_digest
from counterpoise.audit.pictures import intact
from counterpoise.measure.pictures import pixel_digest

UNRECORDED = {"recorded": "no: made by schema version 1"}
_TABLES = ("run", "arm", "prompt", "cell", "picture", "observation")
_PICTURES = (
    "SELECT was.cell, file, was.size, sha256, arm.name, prompt.text, seed FROM was_picture AS was"
    " JOIN cell ON cell.id = was.cell JOIN arm ON arm.id = cell.arm JOIN prompt ON prompt.id = cell.prompt"
)


def migrate(folder: Path) -> None:
    """Bring a locked folder's evidence to today's schema if it is older; a kill leaves the old or the new."""
    path = folder / database.FILE
    if not path.exists():
        return
    with contextlib.closing(database.connect(str(path), seconds=5)) as old:
        database.check_kind(old, path)
        if not 0 < database.pragma(old, "user_version") < schema.VERSION:
            return
        # All that the old file says into the file itself: a leftover log would be applied to the new one.
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if old.execute("PRAGMA journal_mode=DELETE").fetchone()[0] != "delete":
            raise sqlite3.OperationalError("another program has the evidence open; close it")
        copy = path.with_name("evidence.migrating.sqlite")
        copy.unlink(missing_ok=True)
        version = database.pragma(old, "user_version")
        migrated_copy(old, copy, folder)
    kept = path.with_name(f"evidence.v{version}.sqlite")
    kept.unlink(missing_ok=True)
    os.link(path, kept)
    os.replace(copy, path)


def migrated_copy(old: sqlite3.Connection, copy: Path, folder: Path) -> None:
    """Write today's form of an old evidence file to `copy`; its pictures are looked at in `folder`."""
    with contextlib.closing(database.connect(str(copy), seconds=0)) as new:
        new.execute("PRAGMA synchronous=FULL")
        old.backup(new)
        with database.transaction(new):
            for table in _TABLES:
                new.execute(f"ALTER TABLE {table} RENAME TO was_{table}")
            for statement in schema.statements():
                new.execute(statement)
            _plan(new)
            _pictures(new, folder)
            for table in reversed(_TABLES):
                new.execute(f"DROP TABLE was_{table}")


def _plan(new: sqlite3.Connection) -> None:
    """What was to be drawn: one round, the old batches."""
    for table in ("run", "arm", "prompt"):
        new.execute(f"INSERT INTO {table} SELECT * FROM was_{table}")
    new.execute("INSERT INTO round VALUES (1, '')")
    sizes = {i: json.loads(said)["batch_size"] for i, said in new.execute("SELECT id, identity FROM arm")}
    batches = new.execute("SELECT DISTINCT arm, batch FROM was_cell ORDER BY arm, batch").fetchall()
    new.executemany(
        "INSERT INTO batch(round, arm, number, size) VALUES (1, ?, ?, ?)",
        [(arm, number, sizes[arm]) for arm, number in batches],
    )
    new.execute(
        "INSERT INTO cell SELECT was.id, batch.id, slot, was.arm, prompt, seed FROM was_cell AS was"
        " JOIN batch ON batch.arm = was.arm AND batch.number = was.batch"
    )
    new.execute("UPDATE round SET digest = ? WHERE id = 1", (round_digest(new, 1),))


def _pictures(new: sqlite3.Connection, folder: Path) -> None:
    """What was drawn and read; a picture whose file is gone or altered is left out, to be drawn again."""
    described = canonical(UNRECORDED)
    new.execute("INSERT INTO environment VALUES (1, ?)", (described,))
    for cell, file, size, sha256, *about in new.execute(_PICTURES).fetchall():
        if not intact(folder / file, size, sha256):
            continue
        with Image.open(folder / file) as image:
            pixels = pixel_digest(np.asarray(image.convert("RGB")))
        query = "SELECT attribute, value, confidence, reason FROM was_observation WHERE cell = ?"
        observations = new.execute(query, (cell,)).fetchall()
        digest = picture_digest(about, (file, size, sha256, pixels, described), observations)
        new.execute(
            "INSERT INTO picture VALUES (?, ?, ?, ?, ?, 1, ?)", (cell, file, size, sha256, pixels, digest)
        )
        new.executemany(
            "INSERT INTO observation VALUES (?, ?, ?, ?, ?)", [(cell, *row) for row in observations]
        )
    close_batches(new, [batch for (batch,) in new.execute("SELECT id FROM batch").fetchall()])
