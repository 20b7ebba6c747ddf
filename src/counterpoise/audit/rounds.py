"""Planning: which cells are to be drawn next, each given its batch and slot for good, in one transaction.

A round is what one planning asked for. Its cells lie in one fixed order (arms as first given, prompts as the
spec names them, seeds) and are cut into batches of the arm's size, so that the same rounds come out for any
number of processes and kills. A new round is planned only when every earlier batch is drawn, or when a run
is opened with a larger n or more arms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from counterpoise.audit.cells import cells_of, prompt_counts
from counterpoise.audit.digest import close_batches, round_digest
from counterpoise.audit.fields import MAX_N
from counterpoise.audit.spec import AuditSpec
from counterpoise.diffusion.arm import Arm, Cell
from counterpoise.errors import StateError

if TYPE_CHECKING:
    from counterpoise.audit.evidence import Evidence

Wanted = Callable[["Evidence"], Mapping[tuple[str, str], int]]


def plan_fixed(connection: sqlite3.Connection, spec: AuditSpec, arms: Sequence[Arm]) -> None:
    """Plan all that the spec's n asks for and that has no place yet. Inside a transaction."""
    add_prompts(connection, prompt_counts(spec))
    _add_round(connection, arms, [cell for arm in arms for cell in cells_of(spec, arm.name)])


def plan_wanted(
    connection: sqlite3.Connection,
    spec: AuditSpec,
    arms: Sequence[Arm],
    counts: Mapping[tuple[str, str], int],
) -> bool:
    """Plan up to these many pictures of each (arm, prompt); whether any was new. Inside a transaction.

    ValueError for an arm that was not given, or a count that is no whole number from 0 to MAX_N.
    """
    names = {arm.name for arm in arms}
    for (arm, prompt), n in counts.items():
        if (
            arm not in names
            or not prompt
            or isinstance(n, bool)
            or not isinstance(n, int)
            or not 0 <= n <= MAX_N
        ):
            raise ValueError(
                f"the stop rule wants {n!r} pictures of {prompt!r:.60} in arm {arm!r:.60}: expected 0 to "
                f"{MAX_N} in one of {', '.join(sorted(names))}"
            )
    add_prompts(connection, prompt_counts(spec))
    add_prompts(connection, sorted({prompt for _, prompt in counts}))
    order = {text: i for i, text in connection.execute("SELECT id, text FROM prompt")}
    asked = sorted(counts.items(), key=lambda item: order[item[0][1]])
    cells = [Cell(arm, prompt, spec.seed + i) for (arm, prompt), n in asked for i in range(n)]
    return _add_round(connection, arms, cells)


def add_prompts(connection: sqlite3.Connection, prompts: Iterable[str]) -> None:
    """Give prompts their ids (they name folders) in this order, apart from those that have one."""
    known = {text for (text,) in connection.execute("SELECT text FROM prompt")}
    new = [(text,) for text in dict.fromkeys(prompts) if text not in known]
    connection.executemany("INSERT INTO prompt(text) VALUES (?)", new)


def resize_batches(connection: sqlite3.Connection, arm: str, size: int) -> None:
    """Cut what is undrawn of an arm anew into batches of another size. Inside a transaction."""
    cells = connection.execute(
        "SELECT cell.id, round FROM cell JOIN batch ON batch.id = cell.batch LEFT JOIN picture"
        " ON picture.cell = cell.id WHERE picture.cell IS NULL"
        " AND cell.arm = (SELECT id FROM arm WHERE name = ?) ORDER BY batch.number, slot",
        (arm,),
    ).fetchall()
    rounds = sorted({round_id for _, round_id in cells})
    for round_id in rounds:
        mine = [cell for cell, planned_in in cells if planned_in == round_id]
        # Free slots first: (batch, slot) is unique at every moment.
        places = _new_batches(connection, (round_id, arm, size), len(mine))
        connection.executemany(
            "UPDATE cell SET batch = ?, slot = ? WHERE id = ?",
            [(*place, cell) for place, cell in zip(places, mine, strict=True)],
        )
    kept = connection.execute(
        "SELECT DISTINCT batch FROM cell JOIN batch ON batch.id = batch WHERE digest IS NULL"
    )
    close_batches(connection, [batch for (batch,) in kept.fetchall()])
    empty = "SELECT id FROM batch WHERE NOT EXISTS (SELECT 1 FROM cell WHERE cell.batch = batch.id)"
    connection.execute(f"DELETE FROM lease WHERE batch IN ({empty})")
    connection.execute(f"DELETE FROM batch WHERE id IN ({empty})")
    for round_id in rounds:
        connection.execute(
            "UPDATE round SET digest = ? WHERE id = ?", (round_digest(connection, round_id), round_id)
        )


def refuse_resizing_beside(others: Sequence[int], arm: str) -> None:
    """StateError if other processes draw batches of the size that is to change."""
    if others:
        raise StateError(
            f"arm {arm}'s batch size cannot change while other processes ({', '.join(map(str, others))}) "
            "work on this run; stop them first",
            code="E_RUN_BUSY",
        )


def _add_round(connection: sqlite3.Connection, arms: Sequence[Arm], cells: Sequence[Cell]) -> bool:
    planned = set(
        connection.execute(
            "SELECT arm.name, text, seed FROM cell JOIN arm ON arm.id = cell.arm"
            " JOIN prompt ON prompt.id = cell.prompt"
        )
    )
    new = [cell for cell in cells if (cell.arm, cell.prompt, cell.seed) not in planned]
    if not new:
        return False
    round_id = connection.execute("INSERT INTO round(digest) VALUES ('')").lastrowid
    assert round_id is not None
    ids = {text: i for i, text in connection.execute("SELECT id, text FROM prompt")}
    sizes = {arm.name: arm.batch_size for arm in arms}
    for arm_id, name in connection.execute("SELECT id, name FROM arm ORDER BY id").fetchall():
        mine = [cell for cell in new if cell.arm == name]
        if not mine:
            continue
        places = _new_batches(connection, (round_id, name, sizes[name]), len(mine))
        connection.executemany(
            "INSERT INTO cell(batch, slot, arm, prompt, seed) VALUES (?, ?, ?, ?, ?)",
            [(*place, arm_id, ids[cell.prompt], cell.seed) for place, cell in zip(places, mine, strict=True)],
        )
    connection.execute(
        "UPDATE round SET digest = ? WHERE id = ?", (round_digest(connection, round_id), round_id)
    )
    return True


def _new_batches(
    connection: sqlite3.Connection, where: tuple[int, str, int], cells: int
) -> list[tuple[int, int]]:
    """(batch id, slot) for so many cells, in batches after the arm's last. where: round, arm, batch size."""
    round_id, arm, size = where
    arm_id = connection.execute("SELECT id FROM arm WHERE name = ?", (arm,)).fetchone()[0]
    row = connection.execute("SELECT max(number) FROM batch WHERE arm = ?", (arm_id,)).fetchone()
    first = 0 if row[0] is None else row[0] + 1
    batches = [
        connection.execute(
            "INSERT INTO batch(round, arm, number, size) VALUES (?, ?, ?, ?)",
            (round_id, arm_id, number, size),
        ).lastrowid
        for number in range(first, first + -(-cells // size))
    ]
    return [(int(batches[i // size] or 0), i % size) for i in range(cells)]
