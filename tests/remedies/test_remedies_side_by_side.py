"""Remedies side by side on a tiny pipeline: one audit for all, one rule of verdict, one page, resumable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from remedy_toys import GOAL, Hue, goal

from counterpoise.audit import Finding
from counterpoise.audit.arms import Ways
from counterpoise.audit.results import Measured
from counterpoise.audit.spec import Drawing
from counterpoise.diffusion.load import load_pipeline
from counterpoise.errors import UsageError
from counterpoise.lora import Host
from counterpoise.remedies.questions import Extent, questions_of
from counterpoise.remedies.side_by_side import side_by_side
from counterpoise.remedies.side_by_side.judge import idle, judged
from counterpoise.remedies.side_by_side.run import Contest, folder_name
from counterpoise.remedies.side_by_side.trials import smaller
from counterpoise.report.remedies import sentence, write_remedies

DRAWING = Drawing(guidance=2.0, steps=2, batch_size=4)
EXTENT = Extent(n=8, seen=8, explicit=4, kept=1)


def spec(**changes: Any) -> Any:
    judge = Hue()
    given = {"judges": [judge.name], "attributes": judge.attributes, "drawing": DRAWING, "extent": EXTENT}
    return questions_of(GOAL, **{**given, **changes})


def test_a_goal_asks_of_seen_and_of_held_out_templates() -> None:
    asked = spec()
    assert [(claim.prompts, claim.held_out) for claim in asked.claims] == [
        (("of a woman",), True),
        (("a portrait of a woman",), False),
    ]
    assert {claim.tolerance for claim in asked.claims} == {0.10}
    assert [case.prompt for case in asked.reachability[0].cases] == ["of a red woman", "of a green woman"]
    assert asked.reachability[1].negative.prompt == "red"
    assert asked.reachability[1].negative.value == "red"
    assert asked.drifts[0].prompts == ("of portrait",)


def test_an_edited_prompt_s_other_attributes_are_in_the_ledger() -> None:
    asked = spec(attributes={"hue": ("green", "red"), "size": ("big", "small")})
    assert (("of a woman",), ("size",)) in [(drift.prompts, drift.attributes) for drift in asked.drifts]


def test_another_spec_s_questions_are_asked_too() -> None:
    from counterpoise.audit import make_spec

    groups = {
        "template": "of a {group} woman",
        "groups": ["red", "green"],
        "attribute": "hue",
        "value": "red",
    }
    also = make_spec({"name": "x", "measurer": "hue", "n": 8, "disparity": [groups]})
    assert len(spec(also=also).disparities) == 1


def test_nothing_can_be_compared_without_held_out_templates() -> None:
    with pytest.raises(UsageError, match="holds no template out"):
        questions_of(
            goal(held_out=[]), judges=["hue"], attributes=Hue.attributes, drawing=DRAWING, extent=EXTENT
        )


def test_remedies_are_made_drawn_judged_and_found_again(tiny_model: Path, tmp_path: Path) -> None:
    host = Host(load_pipeline(tiny_model))
    before = host.fingerprint()
    contest = Contest(Ways(host, DRAWING, model="tiny"), Hue(), GOAL, spec(), tmp_path, rounds=1)
    found = side_by_side(contest, ["planner", "negative", "planner+negative"])
    assert [own.name for own in found.outcomes] == ["base", "planner", "negative", "planner+negative"]
    assert host.fingerprint() == before
    for own in found.outcomes[1:]:
        assert own.timing is not None
        assert own.timing.low <= own.timing.ratio <= own.timing.high
        assert own.on_target.asked == 2
        assert own.verdict in ("repaired", "not shown", "got worse")
    page = write_remedies(found, commands=["counterpoise compare"])
    text = page.read_text("utf-8")
    assert "Remedies side by side" in text
    assert "planner+negative" in text
    again = side_by_side(contest, ["planner", "negative", "planner+negative"])
    assert [own.cost for own in again.outcomes] == [own.cost for own in found.outcomes]
    assert [own.timing for own in again.outcomes] == [own.timing for own in found.outcomes]
    assert sentence(again) == sentence(found)


def test_a_remedy_that_refuses_is_shown_with_its_reason(tiny_model: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    contest = Contest(
        Ways(Host(load_pipeline(tiny_model)), DRAWING, model="tiny"), Hue(), GOAL, spec(), tmp_path, rounds=0
    )
    found = side_by_side(contest, ["planner", f"own:{missing}"])
    assert list(found.refused) == [f"own:{missing}"]
    assert "could not be made" in sentence(found)
    with pytest.raises(UsageError, match="no remedy could be made"):
        side_by_side(replace(contest, folder=tmp_path / "b"), [f"own:{missing}"])
    with pytest.raises(UsageError, match="unknown"):
        side_by_side(contest, ["prayer"])


def test_trials_are_half_as_long_as_the_comparison() -> None:
    asked = smaller(spec(extent=Extent(n=40, seen=30, explicit=20, kept=1)))
    assert [asked.n_of(claim) for claim in asked.claims] == [20, 15]
    assert [asked.n_of(question) for question in asked.reachability] == [10]
    assert not asked.drifts


def test_names_of_folders_hold_no_path(tmp_path: Path) -> None:
    assert folder_name("own:some/where/my style.safetensors") == "own-my-style"
    assert folder_name("planner+negative") == "planner+negative"
    assert folder_name("planner+own:some/where/style.safetensors=0.5") == "planner+own-style-0.5"


@pytest.mark.parametrize("joined", ["", "planner+"])
def test_two_files_of_one_name_are_refused_before_anything_is_made(
    tiny_model: Path, tmp_path: Path, joined: str
) -> None:
    contest = Contest(
        Ways(Host(load_pipeline(tiny_model)), DRAWING, model="tiny"), Hue(), GOAL, spec(), tmp_path
    )
    with pytest.raises(UsageError, match=r"would both be called .*own-style-0.5; rename a file"):
        side_by_side(contest, [f"{joined}own:{folder}/style.safetensors=0.5" for folder in ("a", "b")])
    assert not any(tmp_path.iterdir())


def finding(id_: str, arm: str, decision: str, **changes: Any) -> Finding:
    given: dict[str, Any] = {
        "id": f"{id_}/{arm}", "kind": "claim", "where": id_, "arm": arm, "against": "uniform",
        "prompts": ("a woman",), "attribute": "hue", "value": "", "group": None, "reference": None,
        "scope": "prompt", "held_out": True, "tolerance": 0.1, "n": 10, "abstained": 0,
        "effect_name": "total variation", "effect": Measured(0.2, 0.1, 0.3, 10, "m"), "log_e_biased": 1.0,
        "log_e_fair": 1.0, "alone": decision, "decision": decision, "path": (), "method": "m",
    }  # fmt: skip
    return Finding(**{**given, **changes})


class Changes:
    """Stands for a Comparison: only its rows' answers are looked at."""

    def __init__(self, *answers: str) -> None:
        row = {"kind": "reachability", "prompt": "a boss", "attribute": "hue = man"}
        self.changes = [type("Row", (), {**row, "answer": answer})() for answer in answers]

    def count(self, answer: str) -> int:
        return sum(row.answer == answer for row in self.changes)


FAIR, BIASED, NEITHER = "fair within tolerance", "biased", "undecided"


@pytest.mark.parametrize(
    ("after", "answers", "verdict"),
    [
        (FAIR, ("improved",), "repaired"),
        (NEITHER, ("improved",), "not shown"),
        (BIASED, ("not shown",), "not shown"),
        (FAIR, ("improved", "got worse"), "got worse"),
    ],
)
def test_repaired_means_certified_and_nothing_worse(
    after: str, answers: tuple[str, ...], verdict: str
) -> None:
    base, mine = finding("claim[0]/0", "base", BIASED), finding("claim[0]/0", "lora", after)
    told, _ = judged([mine], [base, mine], Changes(*answers))  # type: ignore[arg-type]
    assert told == verdict


def test_an_explicit_prompt_that_is_lost_is_worse_whatever_else() -> None:
    base, mine = finding("claim[0]/0", "base", BIASED), finding("claim[0]/0", "lora", FAIR)
    held = finding("reachability[0]/0", "base", FAIR, kind="reachability")
    lost = finding("reachability[0]/0", "lora", BIASED, kind="reachability")
    told, reasons = judged([mine, lost], [base, held, mine, lost], Changes("improved"))  # type: ignore[arg-type]
    assert told == "got worse"
    assert any("no longer reached" in reason for reason in reasons)


def test_a_negative_prompt_that_has_nothing_to_forbid_says_nothing() -> None:
    """Base draws one woman of a hundred: that "no women" is obeyed there is not lost where half are women."""

    def found(arm: str, women: float, under_negative: float) -> tuple[Any, ...]:
        shares = {"woman": women, "man": 1 - women}
        claim = type("Claim", (), {"prompt": "a boss", "attribute": "hue", "arm": arm, "shares": shares})()
        row = {
            "finding": f"reachability[1]/0/{arm}",
            "prompt": "a boss",
            "attribute": "hue",
            "value": "woman",
        }
        row |= {"negative": "female", "arm": arm, "min_rate": 0.8}
        decision = FAIR if under_negative <= 0.2 else BIASED
        own = finding("reachability[1]/0", arm, decision, kind="reachability", prompts=("a boss",))
        return claim, type("Reached", (), row)(), own

    def told(
        before: tuple[float, float], after: tuple[float, float], change: str = "improved"
    ) -> tuple[str, int]:
        rows = found("base", *before), found("lora", *after)
        every = type("Findings", (), {"claims": [r[0] for r in rows], "reached": [r[1] for r in rows]})()
        sleeping, changes = idle(every, "base"), Changes(change)  # type: ignore[arg-type]
        verdict, _ = judged([rows[1][2]], [r[2] for r in rows], changes, asleep=sleeping)  # type: ignore[arg-type]
        return verdict, len(sleeping) + len(idle(every, "lora"))  # type: ignore[arg-type]

    assert told((0.01, 0.0), (0.5, 0.5)) == ("not shown", 1)
    assert told((0.01, 0.0), (0.5, 0.5), "got worse") == ("not shown", 1)
    assert told((0.6, 0.1), (0.5, 0.2), "got worse") == ("got worse", 0)
    assert told((0.6, 0.1), (0.5, 0.5)) == ("got worse", 0)
    assert told((0.01, 0.0), (0.05, 0.0)) == ("not shown", 2)


def test_a_base_without_a_wrong_cannot_be_repaired() -> None:
    base, mine = finding("claim[0]/0", "base", FAIR), finding("claim[0]/0", "lora", FAIR)
    assert judged([mine], [base, mine], Changes("not shown"))[0] == "not shown"  # type: ignore[arg-type]


def test_results_are_json(tiny_model: Path, tmp_path: Path) -> None:
    from counterpoise.cli.compare_remedies import told_of

    contest = Contest(
        Ways(Host(load_pipeline(tiny_model)), DRAWING, model="tiny"), Hue(), GOAL, spec(), tmp_path, rounds=0
    )
    told = told_of(side_by_side(contest, ["planner"]))
    assert json.loads(json.dumps(told, allow_nan=False))["outcomes"][1]["name"] == "planner"
