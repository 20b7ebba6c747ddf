"""Two arms on shared seeds: bounds that cover, harm and help told apart, and what cannot be compared refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from audit_toys import ATTRIBUTES, SKIN, Judge, draw, entering, toy_arm, toy_spec
from typer.testing import CliRunner

from counterpoise import stats
from counterpoise.audit import read_run, run_audit
from counterpoise.audit.comparing import Comparison, compare, compare_markdown, lines
from counterpoise.audit.comparing.bounds import Table, change_bounds, differences, log_e_change
from counterpoise.cli.app import app
from counterpoise.errors import UsageError
from counterpoise.measure.reading import Reading

VALUES = ("a", "b", "c")
TARGET = (1 / 3, 1 / 3, 1 / 3)


def simulated(joint: np.ndarray, n: int, rng: np.random.Generator, unread: float = 0.0) -> Table:
    """n pairs from a joint distribution [before, after]; each picture is not read with that probability."""
    draws = rng.choice(joint.size, size=n, p=joint.ravel())
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for cell, lost in zip(draws, rng.random((n, 2)) < unread, strict=True):
        read = [VALUES[i] if not gone else None for i, gone in zip(divmod(int(cell), 3), lost, strict=True)]
        pairs[read[0], read[1]] += 1
    return Table(VALUES, TARGET, pairs)


def expected(n: int) -> dict[tuple[str | None, str | None], int]:
    """n pairs in just the proportions of "better"."""
    cells = np.ndenumerate(JOINTS["better"])
    return {(VALUES[i], VALUES[j]): round(share * n) for (i, j), share in cells if share}


def true_change(joint: np.ndarray) -> float:
    sides = [joint.sum(axis=1), joint.sum(axis=0)]
    before, after = (stats.total_variation(list(side), TARGET) for side in sides)
    return after - before


JOINTS = {
    "better": np.array([[0.45, 0.15, 0.15], [0.0, 0.10, 0.0], [0.0, 0.0, 0.15]]),
    "the same shares": np.array([[0.50, 0.10, 0.0], [0.05, 0.10, 0.05], [0.05, 0.0, 0.15]]),
    "on the other side of the target": np.array([[0.10, 0.35, 0.05], [0.0, 0.25, 0.0], [0.0, 0.0, 0.25]]),
}


@pytest.mark.parametrize("unread", [0.0, 0.1])
@pytest.mark.parametrize("name", JOINTS)
def test_the_bounds_cover_the_true_change(name: str, unread: float) -> None:
    rng = np.random.default_rng(3)
    truth = true_change(JOINTS[name])
    ends = [change_bounds(simulated(JOINTS[name], 150, rng, unread), alpha=0.2) for _ in range(20)]
    assert sum(low <= truth <= high for low, high in ends) >= 0.8 * 20


def test_of_what_did_not_move_hardly_any_is_said_to_have_moved() -> None:
    rng = np.random.default_rng(4)
    found = [
        log_e_change(simulated(JOINTS["the same shares"], 80, rng), rate=0.2, panel=1) for _ in range(40)
    ]
    assert sum(log_e > 0.0 for log_e in found) <= 0.2 * 40
    gross = log_e_change(simulated(JOINTS["better"], 400, rng), rate=0.05, panel=10)
    assert gross == pytest.approx(np.log(10 / 0.05))


def test_the_evidence_is_rounded_down() -> None:
    table = Table(VALUES, TARGET, expected(150))
    log_e = log_e_change(table, rate=0.05, panel=100)
    assert np.log(20) <= log_e < np.log(100 / 0.05)
    assert change_bounds(table, alpha=np.exp(-log_e))[1] < 0.0
    assert change_bounds(table, alpha=np.exp(-log_e - 0.3))[1] >= 0.0


def test_where_the_side_is_sure_the_change_is_the_paired_difference() -> None:
    pairs = {("a", "a"): 500, ("a", "b"): 300, ("b", "b"): 200}
    table = Table(("a", "b"), (0.1, 0.9), pairs)
    low, high = change_bounds(table, alpha=0.05)
    assert (low, high) == pytest.approx(differences(table, alpha=0.025)[0], abs=1e-9)


def test_bounds_widen_with_what_was_not_read_and_know_nothing_of_nothing() -> None:
    read = Table(("a", "b"), (0.5, 0.5), {("a", "a"): 240, ("a", "b"): 120, ("b", "b"): 40})
    part = replace(read, pairs={**read.pairs, (None, "a"): 20})
    none = replace(read, pairs={(None, None): 100})
    spans = [change_bounds(table, alpha=0.05) for table in (read, part, none)]
    assert spans[1][0] < spans[0][0]
    assert spans[0][1] < spans[1][1]
    assert spans[2][0] <= -0.5
    assert spans[2][1] >= 0.5


def recoloured(prompts: list[str], seeds: list[int]) -> np.ndarray:
    """As the toy draws, but of "a woman" each skin alike."""
    pictures = draw(prompts, seeds)
    for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True):
        if prompt == "a woman":
            picture[0, 0, 0] = seed % len(SKIN)
    return pictures


class Sure(Judge):
    """The toys' judge without abstentions."""

    def read(self, image: np.ndarray) -> dict[str, Reading]:
        whole = image.copy()
        whole[0, 0, 2] = 1
        return super().read(whole)


CLAIM = {"prompts": ["a woman", "a boss"], "attribute": "skin"}
CASE = {"prompt": "a tan woman", "attribute": "exposure", "value": "modest"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    root = tmp_path_factory.mktemp("runs")

    def make(folder_name: str, *arms: str, judge: Judge | None = None, **changes: object) -> Path:
        folder = root / folder_name
        if not folder.exists():
            asked: dict[str, object] = {
                "n": 150,
                "claim": [CLAIM],
                "disparity": [],
                "reachability": [{"cases": [CASE]}],
            }
            drawers = {"base": draw, "better": recoloured}
            given = [(toy_arm(arm, batch_size=20), entering(drawers.get(arm, draw))) for arm in arms]
            run_audit(toy_spec(**{**asked, **changes}), given, measurer=judge or Sure(), folder=folder)
        return folder

    return make


def compared(*folders: Path, arms: tuple[str, ...] = ()) -> Comparison:
    with read_run(folders[0]) as first, read_run(folders[-1]) as last:
        named = [(folder.name, evidence) for folder, evidence in zip(folders, (first, last), strict=False)]
        (found,) = compare(named, arms=arms)
    return found


def test_an_improvement_is_shown_where_it_is_and_nowhere_else(run: Callable[..., Path]) -> None:
    found = compared(run("two", "base", "better"))
    answers = {(row.prompt, row.attribute): row.answer for row in found.changes}
    assert answers == {
        ("a woman", "skin"): "improved",
        ("a boss", "skin"): "not shown",
        ("a tan woman", "exposure = modest"): "not shown",
    }
    woman, boss, _ = found.changes
    assert (woman.n, boss.n, woman.missing) == (150, 150, 0)
    assert boss.identical == 150
    assert boss.moved == 0
    assert woman.change.high is not None
    assert woman.change.high < 0.0
    assert woman.before is not None
    assert woman.before > 0.3
    backwards = compared(run("two", "base", "better"), arms=("better", "base"))
    assert backwards.changes[0].answer == "got worse"
    assert backwards.changes[0].change.low == pytest.approx(-woman.change.high, abs=1e-6)


def test_two_runs_are_paired_by_arm_and_seed(run: Callable[..., Path]) -> None:
    found = compared(run("two", "base", "better"), run("later", "base", seed=57, name="t2"))
    assert {row.n for row in found.changes} == {100}
    assert all(row.identical == 100 for row in found.changes)
    assert "seeds begin at 7 and 57" in found.warnings[0]
    assert "one way of drawing" in found.warnings[1]


def test_what_only_one_has_is_listed(run: Callable[..., Path]) -> None:
    claims = [{"prompts": ["a woman", "a man"], "attribute": "skin"}]
    found = compared(run("two", "base", "better"), run("others", "base", claim=claims, n=30))
    assert found.only_before == ("claim: skin of 'a boss'",)
    assert found.only_after == ("claim: skin of 'a man'",)
    assert found.changes[0].n == 30


def test_another_judge_arm_seed_or_target_is_refused(run: Callable[..., Path]) -> None:
    two = run("two", "base", "better")
    with pytest.raises(UsageError, match="version: '1' -> '2'"):
        compared(two, run("judge", "base", judge=Sure(version="2"), n=4))
    with pytest.raises(UsageError, match=r"share no arm's name.*--arms"):
        compared(two, run("names", "other", n=4))
    with pytest.raises(UsageError, match="no seed of them"):
        compared(two, run("seeds", "base", seed=5000, n=4))
    target = [{**CLAIM, "target": {"pale": 0.5, "dark": 0.5}}]
    with pytest.raises(UsageError, match="no question"):
        compared(two, run("target", "base", claim=target, reachability=[], n=4))
    with pytest.raises(UsageError, match="expected two to compare"):
        compared(run("names", "other", n=4))
    with pytest.raises(UsageError, match='did you mean "better"'):
        compared(two, arms=("base", "beter"))


def test_drawing_otherwise_is_a_warning_with_what_differs(run: Callable[..., Path], tmp_path: Path) -> None:
    asked = {"n": 8, "claim": [CLAIM], "disparity": []}
    arms = [
        (toy_arm("base"), entering()),
        (toy_arm("guided", guidance=3.0, adapters=(("x", 1.0),)), entering()),
    ]
    run_audit(toy_spec(**asked), arms, measurer=Judge(attributes=ATTRIBUTES), folder=tmp_path / "r")
    found = compared(tmp_path / "r")
    assert "drawn otherwise: guidance: 1.0 -> 3.0" in found.warnings
    assert any(line.startswith("adapters: ") for line in found.differs)


def test_words_and_the_command(run: Callable[..., Path], tmp_path: Path) -> None:
    two = run("two", "base", "better")
    found = compared(two)
    told = list(lines(found))
    assert told[0] == "two: base -> two: better"
    assert told[1].startswith("improved   skin of 'a woman': distance 0.")
    assert told[-1].startswith("of 3 rows 1 improved, 0 got worse, 2 not shown")
    rows = [line for line in compare_markdown([found]).split("\n") if line.startswith("|")]
    assert len(rows) == 5
    json.dumps(asdict(found), allow_nan=False)
    words = ["compare", str(two), str(two), "--arms", "base,better", "--markdown", str(tmp_path / "m.md")]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["comparisons"][0]["changes"][0]["answer"] == "improved"
    assert "**improved**" in (tmp_path / "m.md").read_text("utf-8")
    with pytest.raises(UsageError, match="two names with a comma"):
        CliRunner().invoke(app, ["compare", str(two), "--arms", "base"], catch_exceptions=False)
