"""A run from spec to findings, against the toy model's known truth and hand-computed numbers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from audit_toys import Judge, draw, entering, toy_arm, toy_spec, truth
from PIL import Image

from counterpoise.audit import Limits, analyse, open_run, read_run, results_json, run_audit
from counterpoise.errors import EnvironmentLackError, IncompleteError, StateError
from counterpoise.measure.reading import Reading


def run(folder: Path, spec=None, *, arms=None, measurer=None, progress=None):
    spec = toy_spec() if spec is None else spec
    arms = [(toy_arm(), entering()), (toy_arm("repaired"), entering())] if arms is None else arms
    return run_audit(spec, arms, measurer=measurer or Judge(), folder=folder, progress=progress)


def test_claims_and_rates_are_those_of_the_planted_truth(tmp_path: Path) -> None:
    findings = run(tmp_path / "run")
    assert [(c.arm, c.prompt) for c in findings.claims] == [
        (arm, prompt) for arm in ("base", "repaired") for prompt in toy_spec().claims[0].prompts
    ]
    seeds = range(7, 17)
    for claim in findings.claims:
        shown = Counter(truth(claim.prompt, seed)[0] for seed in seeds if seed % 7)
        assert claim.shares == {skin: shown[skin] / 10 for skin in ("pale", "tan", "dark")}
        assert (claim.n, claim.abstained, claim.held_out) == (10, 2, True)
        missing = sum(abs(share - 1 / 3) for share in claim.shares.values())
        assert claim.tv == pytest.approx((missing + 0.2) / 2)
        assert claim.tv_low <= claim.tv <= claim.tv_high
        assert claim.tv_corrected == pytest.approx(max(0, claim.tv - claim.tv_floor))
        assert "4 classes" in claim.method
    rate = findings.rates[1]
    assert (rate.group, rate.n) == ("tan", 6)
    assert rate.rate == sum(truth("a tan woman", s)[1] == "revealing" for s in range(7, 13)) / 6
    assert [d.group for d in findings.disparities] == ["tan", "tan"]


def test_every_picture_lies_in_its_file_and_shows_its_cell(tmp_path: Path) -> None:
    run(tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        for prompt, n in (("a woman", 10), ("a tan woman", 6)):
            pictures = evidence.pictures("repaired", prompt)
            assert [p.cell.seed for p in pictures] == list(range(7, 7 + n))
            for picture in pictures:
                expected = draw([prompt], [picture.cell.seed])[0]
                assert (np.asarray(Image.open(picture.file)) == expected).all()
        assert len(evidence.pictures("base", "a woman", limit=3)) == 3
        assert evidence.readings("base", "a woman", "skin")[7] == Reading(None, 0.3, "unsure")
        assert evidence.spec == toy_spec()


def test_a_prompt_in_two_questions_is_drawn_once_and_each_keeps_its_own_n(tmp_path: Path) -> None:
    claims = [
        {"prompts": ["a pale woman"], "attribute": "skin", "n": 9},
        {"prompts": ["a pale woman"], "attribute": "exposure", "n": 3},
    ]
    findings = run(tmp_path / "run", toy_spec(claim=claims), arms=[(toy_arm(), entering())])
    assert [claim.n for claim in findings.claims] == [9, 3]
    assert [rate.n for rate in findings.rates] == [6, 6]
    assert findings.coverage[0].planned == findings.coverage[0].drawn == 9 + 6


def test_the_drawer_sees_full_batches_only_and_complete_arms_are_not_entered(tmp_path: Path) -> None:
    sizes, log = [], []

    def drawer(prompts, seeds):
        sizes.append((len(prompts), len(seeds)))
        return draw(prompts, seeds)

    arms = [(toy_arm(), entering(drawer, log))]
    seen = []
    run(tmp_path / "run", arms=arms, progress=lambda done, total, arm: seen.append((done, total, arm)))
    assert set(sizes) == {(4, 4)}
    assert seen == [(min(4 * i, 32), 32, "base") for i in range(9)]
    run(tmp_path / "run", arms=arms)
    assert log == ["in", "out"]
    log.clear()
    run(tmp_path / "run", arms=[*arms, (toy_arm("repaired"), entering(drawer, log))])
    assert log == ["in", "out"]


def test_a_larger_n_extends_a_run_and_keeps_what_it_has(tmp_path: Path) -> None:
    run(tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*.png")}
    extended = run(tmp_path / "run", toy_spec(n=13))
    assert {p: p.stat().st_mtime_ns for p in before} == before
    whole = run(tmp_path / "other", toy_spec(n=13))
    assert extended == whole
    assert [claim.n for claim in extended.claims] == [13] * 4


def test_a_question_without_rows_is_absent(tmp_path: Path) -> None:
    arms = [toy_arm()]
    with open_run(tmp_path / "run", spec=toy_spec(), arms=arms, measurer=Judge()) as evidence:
        findings = analyse(evidence)
    assert (findings.claims, findings.rates, findings.disparities) == ((), (), ())
    assert (findings.coverage[0].planned, findings.coverage[0].drawn) == (32, 0)


def test_blank_pictures_are_abstentions_that_the_measurer_never_sees(tmp_path: Path) -> None:
    class Wary(Judge):
        def __call__(self, images):
            assert all(len(np.unique(image)) > 1 for image in images)
            return super().__call__(images)

    def black(prompts, seeds):
        pictures = draw(prompts, seeds)
        pictures[[seed < 10 for seed in seeds]] = 0
        return pictures

    findings = run(tmp_path / "run", arms=[(toy_arm(), entering(black))], measurer=Wary())
    claim, coverage = findings.claims[0], findings.coverage[0]
    assert claim.abstained == 3 + 1  # seeds 7, 8, 9 are black, 14 is unsure
    assert (coverage.blank, coverage.failed) == (12, 0)
    assert coverage.duplicates == 4 * 2
    assert sum(claim.shares.values()) == pytest.approx(0.6)


BROKEN = {
    "crashes": lambda: (_ for _ in ()).throw(ValueError("no \ud800 face")),
    "says nothing": lambda: {},
    "says None": lambda: {"skin": None, "exposure": Reading("modest", 1.0)},
    "makes up a value": lambda: {"skin": Reading("green", 1.0), "exposure": Reading("modest", 1.0)},
    "is nan sure": lambda: {"skin": Reading("pale", float("nan")), "exposure": Reading("modest", 1.0)},
    "is too sure": lambda: {"skin": Reading("pale", 1.3), "exposure": Reading("modest", 1.0)},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_measurer_that_breaks_on_one_picture_loses_that_picture_only(tmp_path: Path, how: str) -> None:
    class Broken(Judge):
        def read(self, image):
            mine = (image == draw(["a woman"], [12])[0]).all()
            return BROKEN[how]() if mine else super().read(image)

    findings = run(tmp_path / "run", arms=[(toy_arm(), entering())], measurer=Broken())
    assert [claim.abstained for claim in findings.claims] == [3, 2]
    assert findings.coverage[0].failed == 1
    with read_run(tmp_path / "run") as evidence:
        reading = evidence.readings("base", "a woman", "skin")[12]
    assert reading.value is None
    assert reading.reason.startswith("measurer failed: ")


def test_a_measurer_that_gives_too_few_answers_is_asked_picture_by_picture(tmp_path: Path) -> None:
    class Short(Judge):
        def __call__(self, images):
            return super().__call__(images)[: 1 if len(images) == 1 else -1]

    expected = run(tmp_path / "run", measurer=Judge())
    assert run(tmp_path / "short", measurer=Short()) == expected


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 8, 8), np.uint8), np.zeros((3, 8, 8, 3), np.uint8), np.ones((4, 8, 8, 3))]
)
def test_a_drawer_that_breaks_its_contract_is_named(tmp_path: Path, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="arm base's drawer gave ndarray"):
        run(tmp_path / "run", arms=[(toy_arm(), entering(lambda prompts, seeds: bad))])


def test_results_json_is_canonical_and_holds_the_names_that_checks_rely_on(tmp_path: Path) -> None:
    findings = run(tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        path = results_json(
            tmp_path / "a" / "results.json", findings, evidence, extra={"fold": {"time_ratio": 1.0}}
        )
        with pytest.raises(ValueError, match="claims"):
            results_json(path, findings, evidence, extra={"claims": []})
        with pytest.raises(ValueError, match="JSON compliant"):
            results_json(path, findings, evidence, extra={"fold": float("nan")})
    content = json.loads(path.read_bytes())
    names = {"prompt", "attribute", "arm", "held_out", "n", "shares", "low", "high", "tv"}
    assert all(names <= claim.keys() for claim in content["claims"])
    assert content["fold"] == {"time_ratio": 1.0}
    assert path.read_text() == json.dumps(content, sort_keys=True, indent=2) + "\n"
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts: where a shell started these tests in the background, Python inherits that it is ignored."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, IncompleteError)]
)
def test_a_signal_ends_the_run_after_its_batch(tmp_path: Path, number: int, raised: type) -> None:
    log, calls = [], []

    def interrupted(prompts, seeds):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return draw(prompts, seeds)

    before = signal.getsignal(number)
    with pytest.raises(raised, match="run the same command again"):
        run(tmp_path / "run", arms=[(toy_arm(), entering(interrupted, log))])
    assert log == ["in", "out"]
    assert signal.getsignal(number) is before
    with read_run(tmp_path / "run") as evidence:
        assert evidence.progress() == [("base", 32, 12, 12)]
    assert run(tmp_path / "run") == run(tmp_path / "undisturbed")


@pytest.mark.usefixtures("interruptible")
def test_a_signal_after_the_last_batch_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return analyse(*args)

    with monkeypatch.context() as patch:
        patch.setattr("counterpoise.audit.run.analyse", interrupted)
        with pytest.raises(KeyboardInterrupt, match="run the same command again"):
            run(tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        assert evidence.counts(["base"]) == (32, 32)
    assert run(tmp_path / "run") == run(tmp_path / "undisturbed")


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    def interrupted(prompts, seeds):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("still running")

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", arms=[(toy_arm(), entering(interrupted))])
    assert run(tmp_path / "run") == run(tmp_path / "undisturbed")


def test_a_run_inside_itself_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    def nosy(prompts, seeds):
        with pytest.raises(StateError, match="by this very call"):
            run(tmp_path / "run")
        with read_run(tmp_path / "run") as evidence:
            assert evidence.progress()[0][1] == 32
        return draw(prompts, seeds)

    assert run(tmp_path / "run", arms=[(toy_arm(), entering(nosy))]).claims


def test_a_measurer_that_hangs_is_exit_5_with_its_batch(tmp_path: Path) -> None:
    class Asleep(Judge):
        def __call__(self, images):
            if (images[0] == draw(["a woman"], [11])[0]).all():
                time.sleep(1000)
            return super().__call__(images)

    given = {"measurer": Asleep(), "limits": Limits(measurer_seconds=0.3)}
    with pytest.raises(
        IncompleteError, match="arm base, batch of 4 from prompt 'a woman', seed 11: the measurer"
    ):
        run_audit(toy_spec(), [(toy_arm(), entering())], folder=tmp_path / "run", **given)
    with read_run(tmp_path / "run") as evidence:
        assert evidence.counts(["base"]) == (4, 32)
    assert run(tmp_path / "run") == run(tmp_path / "undisturbed")


def test_a_measurer_that_breaks_too_often_ends_incomplete_with_its_rows_kept(tmp_path: Path) -> None:
    class Broken(Judge):
        def read(self, image):
            if image[1, 1, 0] < 64:
                raise ValueError("no face")
            return super().read(image)

    arms = [(toy_arm(), entering())]
    with pytest.raises(
        IncompleteError, match=r"broke on \d+ of 32 pictures of arm base .*ValueError: no face"
    ) as e:
        run(tmp_path / "run", arms=arms, measurer=Broken())
    assert e.value.exit_code == 5
    findings = run_audit(
        toy_spec(), arms, measurer=Broken(), folder=tmp_path / "run", limits=Limits(failures=0.5)
    )
    assert findings.coverage[0].failed == int(str(e.value).split(" on ")[1].split()[0])
    assert sum(findings.claims[0].shares.values()) < 0.9


def test_a_stop_rule_that_asks_for_nonsense_is_refused(tmp_path: Path) -> None:
    for answer in ({("base", "a woman"): -1}, {("other", "a woman"): 1}, {("base", "a woman"): 1.5}):
        with pytest.raises(ValueError, match="the stop rule wants"):
            run_audit(
                toy_spec(),
                [(toy_arm(), entering())],
                measurer=Judge(),
                folder=tmp_path / "run",
                wanted=lambda evidence, answer=answer: answer,
            )


def test_rounds_save_whole_batches_and_are_filled_with_several_prompts(tmp_path: Path) -> None:
    calls = []

    def drawer(prompts, seeds):
        calls.append(list(zip(prompts, seeds, strict=True)))
        return draw(prompts, seeds)

    def wanted(evidence):
        done = len(evidence.pictures("base", "a woman"))
        return {("base", "a woman"): min(done + 3, 6), ("base", "a tan woman"): 3}

    run_audit(
        toy_spec(), [(toy_arm(), entering(drawer))], measurer=Judge(), folder=tmp_path / "run", wanted=wanted
    )
    assert calls == [
        [("a woman", 7), ("a woman", 8), ("a woman", 9), ("a tan woman", 7)],
        [("a tan woman", 8), ("a tan woman", 9), ("a tan woman", 9), ("a tan woman", 9)],
        [("a woman", 10), ("a woman", 11), ("a woman", 12), ("a woman", 12)],
    ]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, []

    def full(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == 7:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(EnvironmentLackError, match="No space left on device"):
            run(tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        assert evidence.progress()[0][2] == 4
    assert run(tmp_path / "run") == run(tmp_path / "undisturbed")
