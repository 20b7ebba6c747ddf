"""Killed at every point where the disk changes, a run resumes to the very bytes of an undisturbed one."""

from __future__ import annotations

import builtins
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from audit_toys import Judge, draw, entering, toy_arm, toy_spec

from counterpoise.audit import open_run, read_run, results_json, run_audit
from counterpoise.diffusion.arm import Arm
from counterpoise.errors import StateError

SPEC = toy_spec(n=3, claim=[{"prompts": ["a woman"], "attribute": "skin"}], disparity=[])
ARMS = [toy_arm(batch_size=2), toy_arm("repaired", batch_size=2)]


def audit(folder: Path, arms: Sequence[Arm] = ARMS) -> None:
    findings = run_audit(SPEC, [(arm, entering()) for arm in arms], measurer=Judge(), folder=folder)
    with read_run(folder) as evidence:
        results_json(folder / "results.json", findings, evidence)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that a user sees; the database is compared by its rows."""
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {
        name: data for name, data in files.items() if not name.startswith(("evidence.sqlite", "run.lock"))
    }


def rows(folder: Path) -> dict[str, list[tuple]]:
    """All rows of all tables, in the order of their keys."""
    with sqlite3.connect(f"file:{folder}/evidence.sqlite?mode=ro", uri=True) as db:
        tables = [
            name
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        ]
        found = {table: sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in tables}
    db.close()
    return found


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process and return its exit code; it ends without any clean-up."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside BLAS threads
        pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            os._exit(70)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def doomed(folder: Path, point: int, arms: Sequence[Arm] = ARMS) -> Callable[[], None]:
    """The audit, in a process that dies just before its `point`-th step on the disk."""

    def work() -> None:
        steps = iter(range(1, 10_000))

        def counted(call: Callable) -> Callable:
            def step(*args, **kwargs):
                if next(steps) == point:
                    os._exit(9)
                return call(*args, **kwargs)

            return step

        class Connection(sqlite3.Connection):
            execute = counted(sqlite3.Connection.execute)
            executemany = counted(sqlite3.Connection.executemany)

        connect = sqlite3.connect
        sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)
        os.replace, os.fsync, os.unlink, os.mkdir = map(counted, (os.replace, os.fsync, os.unlink, os.mkdir))
        builtins.open = counted(open)
        audit(folder, arms)

    return work


def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    arms = ARMS[:1]
    audit(tmp_path / "undisturbed", arms)
    expected = contents(tmp_path / "undisturbed"), rows(tmp_path / "undisturbed")
    deaths = 0
    for point in range(1, 10_000):
        folder = tmp_path / str(point)
        code = in_child(doomed(folder, point, arms))
        if code == 0:
            break
        assert code == 9
        deaths += 1
        audit(folder, arms)
        assert (contents(folder), rows(folder)) == expected, f"killed at step {point}"
    assert deaths > 40


def test_killed_again_and_again_it_still_arrives(tmp_path: Path) -> None:
    audit(tmp_path / "undisturbed")
    points = random.Random(3)
    deaths = 0
    while in_child(doomed(tmp_path / "run", points.randrange(20, 60))):
        deaths += 1
        assert deaths < 60
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")
    assert rows(tmp_path / "run") == rows(tmp_path / "undisturbed")
    assert deaths > 1


def test_real_sigkill_at_random_moments(tmp_path: Path) -> None:
    script = (
        "import sys, time\nsys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nimport test_audit_kills as t\n"
        "def slow(p, s):\n    time.sleep(0.02)\n    return t.draw(p, s)\n"
        "arms = [(arm, t.entering(slow)) for arm in t.ARMS]\n"
        "print('go', flush=True)\n"
        "t.run_audit(t.SPEC, arms, measurer=t.Judge(), folder=Path(sys.argv[1]))\n"
    )
    moments = random.Random(1)
    for _ in range(3):
        command = [sys.executable, "-c", script, str(tmp_path / "run"), str(Path(__file__).parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            time.sleep(moments.uniform(0.0, 0.12))
            process.send_signal(signal.SIGKILL)
    audit(tmp_path / "run")
    audit(tmp_path / "undisturbed")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")
    assert rows(tmp_path / "run") == rows(tmp_path / "undisturbed")


def test_lost_cut_and_altered_pictures_are_drawn_again_and_strangers_kept(tmp_path: Path) -> None:
    audit(tmp_path / "run")
    before = contents(tmp_path / "run")
    pictures = sorted((tmp_path / "run").rglob("*.png"))
    pictures[0].unlink()
    pictures[4].write_bytes(pictures[4].read_bytes()[:20])
    pictures[5].write_bytes(pictures[5].read_bytes()[:-1] + b"?")
    (pictures[0].parent / "99.png").write_bytes(b"an orphan")
    (pictures[0].parent / "8.png.tmp").write_bytes(b"a leftover")
    (pictures[0].parent / "notes.txt").write_bytes(b"mine")
    audit(tmp_path / "run")
    after = contents(tmp_path / "run")
    assert [after.pop(name) for name in after.keys() - before.keys()] == [b"mine"]
    assert after == before


def test_another_process_is_refused_while_one_writes(tmp_path: Path) -> None:
    def intrude() -> None:
        try:
            audit(tmp_path / "run")
        except StateError as error:
            os._exit(error.exit_code)

    def asking(prompts, seeds):
        assert in_child(intrude) == 2
        return draw(prompts, seeds)

    run_audit(SPEC, [(ARMS[0], entering(asking))], measurer=Judge(), folder=tmp_path / "run")
    with open_run(tmp_path / "run", spec=SPEC, arms=ARMS, measurer=Judge()) as evidence:
        assert evidence.missing("base") == []


def test_what_a_caller_raises_inside_an_open_run_passes_through(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="the drawer's own"),
        open_run(tmp_path / "run", spec=SPEC, arms=ARMS, measurer=Judge()),
    ):
        raise OSError("the drawer's own")
