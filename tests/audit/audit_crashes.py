"""Runs that die: an audit in forked processes that a real SIGKILL ends at a chosen step on the disk."""

from __future__ import annotations

import builtins
import os
import random
import signal
import sqlite3
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from audit_toys import Judge, draw, entering, toy_arm, toy_spec

from counterpoise.audit import Evidence, read_run, results_json, run_audit
from counterpoise.diffusion.arm import Arm

SPEC = toy_spec(n=3, claim=[{"prompts": ["a woman"], "attribute": "skin"}], disparity=[])
ARMS = (toy_arm(batch_size=2), toy_arm("repaired", batch_size=2))
LONGER = toy_spec(n=9, claim=[{"prompts": ["a woman", "a tan woman"], "attribute": "skin"}], disparity=[])


def audit(folder: Path, arms: Sequence[Arm] = ARMS, *, spec=SPEC, wanted=None, drawer=draw) -> None:
    """A whole audit, results.json included."""
    ways = [(arm, entering(drawer)) for arm in arms]
    findings = run_audit(spec, ways, measurer=Judge(), folder=folder, wanted=wanted)
    with read_run(folder) as evidence:
        results_json(folder / "results.json", findings, evidence)


def look_twice(evidence: Evidence) -> Mapping[tuple[str, str], int]:
    """A stop rule: three of everything, then four more of what shows a tan or dark face among them."""
    counts = {}
    for arm in evidence.arms:
        for prompt in LONGER.claims[0].prompts:
            cells = (str(arm["name"]), prompt)
            shown = evidence.tally(cells, "skin", range(7, 10))
            counts[cells] = 7 if shown.keys() - {"pale", None} else 3
    return counts


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that a user sees; the database is compared by its rows."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(("evidence.", "run.lock"))}


def rows(folder: Path) -> dict[str, list[tuple]]:
    """All rows of all tables, in the order of their keys."""
    with sqlite3.connect(f"file:{folder}/evidence.sqlite?mode=ro", uri=True) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        found = {name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for (name,) in names}
    db.close()
    return found


def state(folder: Path) -> tuple[dict[str, bytes], dict[str, list[tuple]]]:
    return contents(folder), rows(folder)


def start(work: Callable[[], None]) -> int:
    """Fork a process that does `work` and ends without any clean-up: 0, or 70 if it raised. Its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside BLAS threads
        pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(getattr(error, "exit_code", 70))
        os._exit(0)
    return pid


def end(pid: int) -> int:
    """Wait for a process; its exit code, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(work: Callable[[], None]) -> int:
    return end(start(work))


def doomed(work: Callable[[], None], point: int) -> Callable[[], None]:
    """`work`, killed just before its `point`-th step on the disk."""

    def die() -> None:
        steps = iter(range(1, 100_000))

        def counted(call: Callable) -> Callable:
            def step(*args, **kwargs):
                if next(steps) == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return step

        class Connection(sqlite3.Connection):
            execute = counted(sqlite3.Connection.execute)
            executemany = counted(sqlite3.Connection.executemany)

        connect = sqlite3.connect
        sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)
        os.replace, os.fsync, os.unlink, os.mkdir = map(counted, (os.replace, os.fsync, os.unlink, os.mkdir))
        builtins.open = counted(open)
        work()

    return die


def kill_at_random(work: Callable[[], None], *, workers: int, seed: int) -> int:
    """Keep so many processes at `work`, each killed at a random step, until one of them gets to the end.

    Then let those that are left end; returns how many died.
    """
    points, deaths = random.Random(seed), 0
    alive = {start(doomed(work, points.randrange(30, 95))) for _ in range(workers)}
    while True:
        pid, status = os.wait()
        alive.discard(pid)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        deaths += 1
        alive.add(start(doomed(work, points.randrange(30, 95 + deaths // 2))))
    assert {end(pid) for pid in alive} <= {0, -signal.SIGKILL}
    return deaths
