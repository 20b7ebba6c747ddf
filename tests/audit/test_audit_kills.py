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
        assert code == 9
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


@pytest.mark.parametrize("workers", [1, 3])
def test_fifty_sigkills_and_a_stop_rule_end_in_the_same_bytes(tmp_path: Path, workers: int) -> None:
    def slow(prompts, seeds):
        time.sleep(0.004)
        return draw(prompts, seeds)

    def work() -> None:
        audit(tmp_path / "run", spec=LONGER, wanted=look_twice, drawer=slow)

    audit(tmp_path / "undisturbed", spec=LONGER, wanted=look_twice)
    deaths = kill_at_random(work, kills=50 if workers == 1 else 30, workers=workers, seed=workers)
    assert deaths >= 20
    assert state(tmp_path / "run") == state(tmp_path / "undisturbed")
    assert not verify_run(tmp_path / "run").findings
    assert verify_run(tmp_path / "run").sealed
