"""The digests that make an edited row show: of a picture with its readings, of a batch, of a round's plan,
and of the whole run, its root.

Each is the sha256 of canonical JSON in an order that the plan fixed, so the root does not depend on who drew
what first, on kills or on when. Pictures enter by the sha256 of their files. What is proved and what is not:
docs/evidence.md.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

_PLANNED = (
    "SELECT arm.name, batch.number, batch.size, cell.slot, prompt.text, cell.seed FROM cell"
    " JOIN batch ON batch.id = cell.batch JOIN arm ON arm.id = batch.arm"
    " JOIN prompt ON prompt.id = cell.prompt WHERE batch.round = ?"
    " ORDER BY batch.arm, batch.number, cell.slot"
)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces, ASCII; ValueError on nan and inf."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(kind: str, content: object) -> str:
    """The sha256 of a kind of thing and its content; the kind keeps one thing from passing for another."""
    try:
        text = canonical(content)
    except (TypeError, ValueError):
        # Only a row edited by hand holds a blob or an infinity: it has a digest too, and the wrong one.
        text = repr(content)
    return hashlib.sha256(f"counterpoise {kind} 2\n{text}".encode("utf-8", "backslashreplace")).hexdigest()


def picture_digest(
    cell: Sequence[object], picture: Sequence[object], observations: Iterable[Sequence[object]]
) -> str:
    """cell: arm name, prompt, seed. picture: file, size, sha256, pixels, environment's description.

    observations: attribute, value, confidence, reason, in any order.
    """
    read = sorted((list(row) for row in observations), key=lambda row: str(row[0]))
    return digest_of("picture", [list(cell), list(picture), read])


def batch_digest(arm: str, number: int, pictures: Sequence[str]) -> str:
    """A batch by its arm, its number in it, and its pictures' digests by slot."""
    return digest_of("batch", [arm, number, list(pictures)])


def round_digest(connection: sqlite3.Connection, round_id: int) -> str:
    """What a round planned: every cell in its place."""
    return digest_of("round", [list(row) for row in connection.execute(_PLANNED, (round_id,))])


def close_batches(connection: sqlite3.Connection, batches: Iterable[int]) -> None:
    """Give each of these batches its digest if all its pictures are there. Inside a transaction."""
    for batch in batches:
        pictures = connection.execute(
            "SELECT picture.digest FROM cell LEFT JOIN picture ON picture.cell = cell.id"
            " WHERE cell.batch = ? ORDER BY slot",
            (batch,),
        ).fetchall()
        if pictures and all(digest for (digest,) in pictures):
            arm, number = connection.execute(
                "SELECT arm.name, number FROM batch JOIN arm ON arm.id = batch.arm WHERE batch.id = ?",
                (batch,),
            ).fetchone()
            digest = batch_digest(arm, number, [digest for (digest,) in pictures])
            connection.execute("UPDATE batch SET digest = ? WHERE id = ?", (digest, batch))


def root_of(connection: sqlite3.Connection) -> str:
    """One digest of all that a run's file says, from the digests in it; unfinished batches count as null."""
    parts: Mapping[str, object] = {
        "identity": _one(connection, "SELECT value FROM run WHERE key = 'identity'"),
        "arms": _all(connection, "SELECT id, name, identity FROM arm ORDER BY id"),
        "rounds": _all(connection, "SELECT digest FROM round ORDER BY id"),
        "batches": _all(connection, "SELECT digest FROM batch ORDER BY arm, number"),
    }
    return digest_of("run", parts)


def _all(connection: sqlite3.Connection, query: str) -> list[list[object]]:
    return [list(row) for row in connection.execute(query)]


def _one(connection: sqlite3.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return row[0] if row else None
