"""Killed at every point where the disk changes, by one process or three, a run resumes to the very bytes of
an undisturbed one."""

from __future__ import annotations

import os
import random
import resource
import time
from pathlib import Path

import pytest
from audit_crashes import (
    ARMS,
    LONGER,
    SPEC,
    audit,
    contents,
    doomed,
    end,
    in_child,
    kill_at_random,
    look_twice,
    rows,
    start,
    state,
)
from audit_toys import Judge, draw, entering

from counterpoise.audit import open_run, read_run, run_audit, verify_run
from counterpoise.audit.run import Limits
from counterpoise.errors import EnvironmentLackError, IncompleteError


@pytest.fixture(autouse=True)
def _no_sync_of_the_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoise.audit.folder.settle", lambda: None)


def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    arms = ARMS[:1]
    audit(tmp_path / "undisturbed", arms)
    expected = state(tmp_path / "undisturbed")
    deaths = 0
    for point in range(1, 10_000):
        folder = tmp_path / str(point)
        code = in_child(doomed(lambda folder=folder: audit(folder, arms), point))
        if code == 0:
            break
        assert code == -9
        deaths += 1
        audit(folder, arms)
        assert state(folder) == expected, f"killed at step {point}"
    assert deaths > 100


def test_killed_again_and_again_it_still_arrives(tmp_path: Path) -> None:
    audit(tmp_path / "undisturbed")
    points = random.Random(3)
    deaths = 0
    while in_child(doomed(lambda: audit(tmp_path / "run"), points.randrange(60, 160))):
        deaths += 1
        assert deaths < 60
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")
    assert deaths > 1


@pytest.mark.parametrize(("workers", "least"), [(1, 50), (2, 20), (3, 20)])
def test_kill_9_many_times_and_a_stop_rule_end_in_the_same_bytes(
    tmp_path: Path, workers: int, least: int
) -> None:
    def work() -> None:
        audit(tmp_path / "run", spec=LONGER, wanted=look_twice)

    audit(tmp_path / "undisturbed", spec=LONGER, wanted=look_twice)
    deaths = kill_at_random(work, workers=workers, seed=workers)
    work()
    assert deaths >= least
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")
    assert not verify_run(tmp_path / "run").findings
    assert verify_run(tmp_path / "run").sealed


def test_three_processes_draw_every_batch_once_and_tell_the_same(tmp_path: Path) -> None:
    def logged(prompts, seeds):
        with open(tmp_path / f"log-{os.getpid()}", "a") as log:
            log.write(f"{prompts[0]} {seeds[0]}\n")
        time.sleep(0.02)
        return draw(prompts, seeds)

    audit(tmp_path / "undisturbed", spec=LONGER, wanted=look_twice)
    pids = [
        start(lambda: audit(tmp_path / "run", spec=LONGER, wanted=look_twice, drawer=logged))
        for _ in range(3)
    ]
    assert [end(pid) for pid in pids] == [0, 0, 0]
    logs = [path.read_text().splitlines() for path in sorted(tmp_path.glob("log-*"))]
    assert len(logs) > 1, "one process drew it all"
    assert sum(map(len, logs)) == len(rows(tmp_path / "undisturbed")["batch"])
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")


def test_who_opens_a_run_leaves_alone_what_another_is_writing(tmp_path: Path) -> None:
    """Opening writes and deletes a file where the longest-named picture will lie, here with a rest between."""
    audit(tmp_path / "undisturbed")
    begun, probing = tmp_path / "begun", tmp_path / "probing"

    def second() -> None:
        unlink = os.unlink

        def resting(file, *args, **kwargs):
            if str(file).endswith(".png.tmp"):
                probing.touch()
                time.sleep(0.5)
            unlink(file, *args, **kwargs)

        os.unlink = resting
        wait_for(begun)
        audit(tmp_path / "run")

    def slow(prompts, seeds):
        begun.touch()
        wait_for(probing)
        return draw(prompts, seeds)

    other = start(second)
    audit(tmp_path / "run", drawer=slow)
    assert end(other) == 0
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.005)


def test_a_dead_workers_batch_is_taken_over_at_once_and_a_living_ones_never(tmp_path: Path) -> None:
    """Whatever the clock says: the lease is the lock, so a pid that lives on means nothing either."""

    def stuck(prompts, seeds):
        (tmp_path / "in").touch()
        time.sleep(100)

    holder = start(lambda: audit(tmp_path / "run", ARMS[:1], drawer=stuck))
    while not (tmp_path / "in").exists():
        time.sleep(0.01)
    with pytest.raises(IncompleteError, match=rf"waited 0.2 s for batch 0 of arm base \(process {holder}\)"):
        run_audit(
            SPEC,
            [(ARMS[0], entering())],
            measurer=Judge(),
            folder=tmp_path / "run",
            limits=Limits(waiting_seconds=0.2),
        )
    os.kill(holder, 9)
    assert end(holder) == -9
    audit(tmp_path / "run", ARMS[:1])
    audit(tmp_path / "undisturbed", ARMS[:1])
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")


def test_leases_ask_no_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock an hour ahead, then a day back, then broken: nothing stored or decided knows of it."""
    audit(tmp_path / "undisturbed")
    now = time.time
    moved = iter([3600.0, -86400.0] * 500)
    monkeypatch.setattr(time, "time", lambda: now() + next(moved))
    assert in_child(doomed(lambda: audit(tmp_path / "run"), 120)) == -9
    monkeypatch.setattr(time, "time", lambda: float("nan"))
    audit(tmp_path / "run")
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")


def test_a_worker_whose_lock_file_was_deleted_touches_nothing_any_more(tmp_path: Path) -> None:
    def take_over() -> None:
        while not (tmp_path / "robbed").exists():
            time.sleep(0.01)
        audit(tmp_path / "run")

    def robbed(prompts, seeds):
        for lock in (tmp_path / "run" / "workers").iterdir():
            lock.unlink()
        (tmp_path / "robbed").touch()
        assert end(other) == 0
        return 255 - draw(prompts, seeds)

    other = start(take_over)

    with pytest.raises(IncompleteError, match=r"lock file .* was removed"):
        audit(tmp_path / "run", drawer=robbed)
    audit(tmp_path / "undisturbed")
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")


@pytest.mark.parametrize("limit", [200, 500, 4000, 30_000, 60_000, 100_000, 140_000, 9_000_000])
def test_a_disk_that_refuses_is_exit_6_and_loses_nothing(tmp_path: Path, limit: int) -> None:
    """The kernel refuses to write any file beyond so many bytes: pictures, the database or its log."""

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        audit(tmp_path / "run", spec=LONGER)

    code = in_child(work)
    assert code == (EnvironmentLackError.exit_code if limit < 9_000_000 else 0)
    audit(tmp_path / "run", spec=LONGER)
    audit(tmp_path / "undisturbed", spec=LONGER)
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")


def test_lost_cut_and_altered_pictures_are_drawn_again_and_strangers_kept(tmp_path: Path) -> None:
    audit(tmp_path / "run")
    before = contents(tmp_path / "run")
    pictures = sorted((tmp_path / "run").rglob("*.png"))
    pictures[0].unlink()
    pictures[4].write_bytes(pictures[4].read_bytes()[:20])
    pictures[5].write_bytes(pictures[5].read_bytes()[:-1] + b"?")
    (pictures[0].parent / "99.png").write_bytes(b"an orphan")
    (pictures[0].parent / "8.png.tmp").write_bytes(b"a leftover")
    (tmp_path / "run" / "results.json.0123abcd.tmp").write_bytes(b"a leftover")
    (pictures[0].parent / "notes.txt").write_bytes(b"mine")
    audit(tmp_path / "run")
    after = contents(tmp_path / "run")
    assert [after.pop(name) for name in after.keys() - before.keys()] == [b"mine"]
    assert after == before


def test_what_a_caller_raises_inside_an_open_run_passes_through(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="the drawer's own"),
        open_run(tmp_path / "run", spec=SPEC, arms=ARMS, measurer=Judge()),
    ):
        raise OSError("the drawer's own")
    with read_run(tmp_path / "run") as evidence:
        assert len(evidence.missing("base")) == 2
