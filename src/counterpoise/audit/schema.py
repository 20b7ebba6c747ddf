"""The tables of a run's SQLite file, as of VERSION. Every number shown anywhere is counted from these rows.

run         what the run belongs to (identity), and its seal once it is complete
round       one planning: which cells were asked for, cut into batches in one transaction
batch       the cells drawn in one call; digest is set when all of them are stored
worker      processes at work now; each holds the lock file of its token
lease       which worker draws which batch
"""

from __future__ import annotations

VERSION = 2
APPLICATION_ID = 0x43507365  # "CPse": tells our file from any other SQLite file

TABLES = """
CREATE TABLE run(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE environment(id INTEGER PRIMARY KEY, description TEXT NOT NULL UNIQUE);
CREATE TABLE arm(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, identity TEXT NOT NULL);
CREATE TABLE prompt(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE round(id INTEGER PRIMARY KEY, digest TEXT NOT NULL);
CREATE TABLE batch(
    id INTEGER PRIMARY KEY,
    round INTEGER NOT NULL REFERENCES round,
    arm INTEGER NOT NULL REFERENCES arm,
    number INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest TEXT,
    UNIQUE(arm, number));
CREATE TABLE cell(
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL REFERENCES batch,
    slot INTEGER NOT NULL,
    arm INTEGER NOT NULL REFERENCES arm,
    prompt INTEGER NOT NULL REFERENCES prompt,
    seed INTEGER NOT NULL,
    UNIQUE(arm, prompt, seed),
    UNIQUE(batch, slot));
CREATE TABLE picture(
    cell INTEGER PRIMARY KEY REFERENCES cell,
    file TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    pixels TEXT NOT NULL,
    environment INTEGER NOT NULL REFERENCES environment,
    digest TEXT NOT NULL);
CREATE TABLE observation(
    cell INTEGER NOT NULL REFERENCES picture,
    attribute TEXT NOT NULL,
    value TEXT,
    confidence REAL NOT NULL CHECK(confidence BETWEEN 0 AND 1),
    reason TEXT NOT NULL CHECK(value IS NOT NULL OR reason <> ''),
    PRIMARY KEY(cell, attribute)) WITHOUT ROWID;
CREATE TABLE worker(token TEXT PRIMARY KEY, pid INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease(
    batch INTEGER PRIMARY KEY REFERENCES batch,
    worker TEXT NOT NULL REFERENCES worker ON DELETE CASCADE);
"""


def statements() -> list[str]:
    """What makes an empty file ours, one statement each; to be run in one transaction."""
    tables = [part.strip() for part in TABLES.split(";\n") if part.strip()]
    return [*tables, f"PRAGMA application_id={APPLICATION_ID}", f"PRAGMA user_version={VERSION}"]
