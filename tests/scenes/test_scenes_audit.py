"""Figures of audited scenes against planted truth: what is right, what leaked, who stands where, what is tied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, final

import numpy as np
import pytest
from scene_plans import plan_of, seen
from scipy.stats import chi2_contingency

from counterpoise.errors import UsageError
from counterpoise.measure.reading import Reading
from counterpoise.scenes import Plan, new_state, plan_many, scene_request
from counterpoise.scenes.auditing.audit import Audit, audit_scenes, decide
from counterpoise.scenes.auditing.boxes import box_figures, count_figure, wrong_of
from counterpoise.scenes.auditing.disparities import Rate, disparity_figures, rate_of
from counterpoise.scenes.auditing.figures import Figure, jackknifed
from counterpoise.scenes.auditing.leaks import leak_figures
from counterpoise.scenes.auditing.places import places_of
from counterpoise.scenes.auditing.quotas import prefix_deviation, quota_figures
from counterpoise.scenes.auditing.seen import Seen, read_boxes
from counterpoise.scenes.auditing.timing import time_figures
from counterpoise.scenes.planner import reading_order
from counterpoise.scenes.records import Record, Way
from counterpoise.scenes.rendering import scene_of
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.hold import regional
from counterpoise.scenes.sampler.rivals.blending import blended
from counterpoise.stats import Estimate

JUDGED = {"skin": ("pale", "tan", "dark"), "kit": ("red", "blue")}


@final
class Says:
    """A judge that reads what it is told to; its readings are never asked for here."""

    name, version, attributes = "says", "1", JUDGED

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        raise AssertionError(images.shape)


def figure(figures: Any, kind: str, of: str = "") -> Figure:
    return next(each for each in figures if (each.kind, each.of) == (kind, of))


def value(figures: Any, kind: str, of: str = "") -> float:
    estimate = figure(figures, kind, of).estimate
    assert estimate is not None
    assert estimate.low <= estimate.value <= estimate.high
    return estimate.value


def test_a_box_is_right_if_all_that_can_be_judged_is() -> None:
    plan = plan_of({"skin": "pale", "kit": "red", "role": "captain"}, {"skin": "tan", "kit": "red"})
    right, half = {"skin": "pale", "kit": "red"}, {"skin": "tan", "kit": "blue"}
    rows = [seen(plan, right, half, people=2), seen(plan, right, {"skin": None, "kit": "red"}, people=3)]
    figures = list(box_figures(rows, JUDGED))
    assert value(figures, "correct") == 0.5
    assert value(figures, "correct", "skin") == 0.75
    assert value(figures, "correct", "kit") == 0.75
    assert value(figures, "unread") == pytest.approx(1 / 8)
    assert value(figures, "count") == 0.5
    assert figure(figures, "correct", "role").estimate is None
    assert "does not read role" in figure(figures, "correct", "role").note
    assert wrong_of(rows[1], JUDGED) == ["p2: skin unread for tan"]
    assert count_figure([seen(plan, right, half)]).estimate is None


def random_scenes(rng: np.random.Generator, n: int, *, leak: float, error: float) -> list[Seen]:
    """Plans of three people by lot; a reading is another's value with `leak`, else any wrong one with `error`."""
    values = JUDGED["skin"]
    rows = []
    for _ in range(n):
        own = [values[i] for i in rng.integers(3, size=3)]
        read = []
        for i, mine in enumerate(own):
            others = [v for j, v in enumerate(own) if j != i and v != mine]
            now = mine
            if others and rng.random() < leak:
                now = others[rng.integers(len(others))]
            elif rng.random() < error:
                now = [v for v in values if v != mine][rng.integers(2)]
            read.append({"skin": now})
        rows.append(seen(plan_of(*({"skin": v} for v in own)), *read))
    return rows


def test_errors_are_no_leak_and_a_leak_is_found_at_its_size() -> None:
    rng = np.random.default_rng(1)
    assert (
        abs(value(leak_figures(random_scenes(rng, 800, leak=0.0, error=0.3), JUDGED), "leak", "skin")) < 0.04
    )
    figures = leak_figures(random_scenes(rng, 800, leak=0.3, error=0.1), JUDGED)
    # Of two others that differ either may be shown: somebody's value is read 0.3 to 0.15 of the time more.
    assert 0.12 < value(figures, "leak", "skin") < 0.3


def test_the_interval_of_a_leak_covers_none_at_its_rate() -> None:
    covered = 0
    for trial in range(60):
        rows = random_scenes(np.random.default_rng([7, trial]), 40, leak=0.0, error=0.25)
        estimate = figure(leak_figures(rows, JUDGED), "leak", "skin").estimate
        assert estimate is not None
        covered += estimate.low <= 0 <= estimate.high
    assert covered >= 53  # 57 expected at 95 %; fewer than 53 come with p = .02


def test_a_leak_that_cannot_be_told_from_an_error_is_not_measured() -> None:
    plan = plan_of({"kit": "red"}, {"kit": "blue"})
    found = figure(leak_figures([seen(plan, {"kit": "blue"}, {"kit": "blue"})] * 9, JUDGED), "leak", "kit")
    assert found.estimate is None
    assert "leaks and errors are alike" in found.note


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    x = np.random.default_rng(3).normal(size=25)
    estimate = jackknifed(np.stack([np.ones(25), x], 1), lambda sums: float(sums[1] / sums[0]))
    half = 2.0639 * x.std(ddof=1) / 5
    assert (estimate.value, estimate.low) == (
        pytest.approx(x.mean()),
        pytest.approx(x.mean() - half, rel=1e-3),
    )
    none = jackknifed(np.ones((40, 2)), lambda sums: float(sums[1] / sums[0]))
    assert none.high - none.value == pytest.approx(1 - 0.025 ** (1 / 40))


TEAM = ("skin: dark 2/5, tan 1/5, light 1/5, pale 1/5",)


def team(n: int) -> list[Plan]:
    request = scene_request("a female basketball team", people=5, shares=TEAM, profile="world", seed=3)
    return list(plan_many(request, n, state=new_state(request.units, request.roles)).plans)


def test_deviation_is_the_worst_prefix_counted_by_hand() -> None:
    plans = team(40)
    shares = {"dark": Fraction(2, 5), "tan": Fraction(1, 5), "light": Fraction(1, 5), "pale": Fraction(1, 5)}
    people = [person.attributes["skin"] for plan in plans for person in plan.people]
    worst = max(
        abs(people[:n].count(v) - n * share) for n in range(1, len(people) + 1) for v, share in shares.items()
    )
    assert prefix_deviation(plans[::-1], "skin") == worst <= 1
    assert Fraction(plans[-1].allocation.max_deviation) == worst


def test_shares_as_read_are_those_of_the_boxes_and_abstentions_widen_them() -> None:
    judged = {"skin": ("pale", "light", "tan", "brown", "dark")}
    plans = team(30)
    rows = [seen(plan, *(dict(person.attributes) for person in plan.people)) for plan in plans]
    figures = list(quota_figures(rows, judged))
    assert value(figures, "distance", "skin") < 1e-9
    assert value(figures, "skew", "skin") == pytest.approx(1)
    assert value(figures, "share", "skin: dark") == pytest.approx(0.4)
    brown = [
        seen(p, *({"skin": "brown" if i == 0 else x.attributes["skin"]} for i, x in enumerate(p.people)))
        for p in plans
    ]
    figures = list(quota_figures(brown, judged))
    assert value(figures, "distance", "skin") == pytest.approx(0.2)
    assert figure(figures, "share", "skin: brown").note == "planned 0"
    unsure = [
        seen(p, *({"skin": None if i == 0 else x.attributes["skin"]} for i, x in enumerate(p.people)))
        for p in plans
    ]
    wide, narrow = (figure(quota_figures(r, judged), "share", "skin: dark").estimate for r in (unsure, rows))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low
    assert figure(quota_figures(rows, {"kit": ("red",)}), "distance", "skin").estimate is None


def test_places_of_the_planner_are_even_and_a_kept_front_row_is_seen() -> None:
    plans = team(30)
    table = places_of(plans, "skin")
    assert table.p > 0.5
    assert sum(map(sum, table.counts)) == 150
    assert table.statistic == pytest.approx(
        chi2_contingency(np.array(table.counts), correction=False).statistic
    )
    held = [plan_of({"kit": "red"}, {"kit": "blue"}, {"kit": "blue"}, seed=i) for i in range(20)]
    assert places_of(held, "kit").p < 0.01
    assert [person.id for person in reading_order(held[0])] == ["p1", "p2", "p3"]


def tied(rates: Mapping[str, float], n: int = 400) -> list[Seen]:
    rng = np.random.default_rng(5)
    plan = plan_of(*({"skin": value} for value in rates))
    return [
        seen(
            plan, *({"skin": v, "kit": "red" if rng.random() < rate else "blue"} for v, rate in rates.items())
        )
        for _ in range(n)
    ]


def test_a_disparity_is_the_ratio_of_the_extreme_groups_rates() -> None:
    rate = Rate("kit", "red", "skin")
    figures = list(disparity_figures(tied({"pale": 0.3, "tan": 0.6, "dark": 0.3}), rate))
    assert value(figures, "rate", "kit=red by skin: tan") == pytest.approx(0.6, abs=0.08)
    found = figure(figures, "disparity", "kit=red by skin")
    assert found.estimate is not None
    assert 1.2 < found.estimate.low < 2.0 < found.estimate.high < 3.5
    assert found.note.startswith("tan 0.")
    even = figure(
        disparity_figures(tied({"pale": 0.5, "tan": 0.5}), rate), "disparity", "kit=red by skin"
    ).estimate
    assert even is not None
    assert even.low == 1.0
    never = figure(
        disparity_figures(tied({"pale": 0.0, "tan": 0.5}), rate), "disparity", "kit=red by skin"
    ).estimate
    assert never is not None
    assert (never.value, never.high) == (math.inf, math.inf)
    assert never.low > 5
    always = figure(
        disparity_figures(tied({"pale": 1.0, "tan": 1.0}), rate), "disparity", "kit=red by skin"
    ).estimate
    assert always is not None
    assert 1.0 < always.high < 1.1
    lone = figure(disparity_figures(tied({"pale": 1.0}), rate), "disparity", "kit=red by skin")
    assert lone.estimate is None


@pytest.mark.parametrize(
    "text", ["kit=red", "kit by skin", "kit=green by skin", "hat=red by skin", "=red by skin"]
)
def test_rates_that_the_judge_cannot_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        rate_of(text, JUDGED)
    assert raised.value.code == "E_SCENE_RATE"
    assert rate_of("kit=red by skin", JUDGED) == Rate("kit", "red", "skin")


@pytest.mark.parametrize(
    ("estimate", "answers"),
    [
        (Estimate(0.95, 0.91, 0.98, 9, ""), ("passed", "failed")),
        (Estimate(0.95, 0.85, 0.98, 9, ""), ("undecided", "failed")),
        (Estimate(0.05, 0.0, 0.1, 9, ""), ("failed", "undecided")),
        (Estimate(0.01, 0.0, 0.03, 9, ""), ("failed", "passed")),
        (None, ("not measured", "not measured")),
    ],
)
def test_a_bar_is_decided_where_the_whole_interval_lies_on_one_side(
    estimate: Estimate | None, answers: tuple[str, str]
) -> None:
    figures = [Figure("correct", "", estimate), Figure("leak", "", estimate)]
    decided = list(decide(figures, {"correct": 0.9, "leak": 0.05}))
    assert tuple(each.answer for each in decided) == answers
    audit = Audit([], "", figures, [], decided, {})
    expected = 1 if "failed" in answers else 3 if {*answers} - {"passed"} else 0
    assert audit.exit_code == expected


def test_an_audit_is_one_object_and_warns_of_a_judge_that_mended() -> None:
    plan = plan_of({"skin": "pale"}, {"skin": "tan"}, quotas={"skin": {"pale": "1/2", "tan": "1/2"}})
    rows = [seen(plan, {"skin": "pale"}, {"skin": "tan"}, name=f"{i}.png") for i in range(12)]
    way = Way(guidance=4.0, steps=2, mended=True, judge="says 1", side=16)
    record = Record(key="", model="tiny", weights="", way=way, adapters={}, calls=20, again=8, tries=())
    found = audit_scenes(rows, Says(), records=[record] * 12, bars={"correct": 0.5})
    told = found.to_dict()
    assert value(found.figures, "calls", "with boxes drawn again") == 1.4
    assert "errors among them" in told["notes"][0]
    assert not audit_scenes(rows, Says(), records=[None] * 12).notes
    assert told["exit_code"] == 0
    assert told["places"][0]["axis"] == "skin"
    assert {row["kind"] for row in told["figures"]} >= {
        "correct",
        "leak",
        "count",
        "deviation",
        "distance",
        "time",
    }
    assert all(row["measured"] or row["note"] for row in told["figures"])


@final
class Colour:
    """A judge that tells red from blue crops."""

    name, version = "colour", "1"
    attributes: Mapping[str, tuple[str, ...]] = {"kit": ("red", "blue")}

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        means = images.mean((1, 2))
        return [{"kit": Reading("red" if mean[0] > mean[2] else "blue", 1.0)} for mean in means]


def test_each_box_is_read_where_it_stands_and_people_are_counted_in_the_world_alone() -> None:
    plan = plan_of({"kit": "red"}, {"kit": "blue"})
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16, 0] = picture[:, 16:, 2] = 255
    one, other = read_boxes([picture, picture[:, ::-1]], [plan, plan], Colour(), side=8)
    assert [own["kit"] for own in one.read] == ["red", "blue"]
    assert [own["kit"] for own in other.read] == ["blue", "red"]
    assert one.people is None
    world = plan_of({"kit": "red"}, {"kit": "blue"}, profile="world")
    assert read_boxes([np.zeros((64, 160, 3), np.uint8)], [world], Colour(), side=8)[0].people == 0


def test_calls_are_those_of_the_plain_picture_and_a_rivals_are_not(sd: Any) -> None:
    scene = scene_of(plan_of({"kit": "red"}, {"kit": "blue"}, {"kit": "red"}))
    painter = ScenePainter(sd, regional(), guidance=2.0, steps=2, batch_size=2)
    time, calls = time_figures(painter, [scene], rounds=2)
    assert value([calls], "calls") == 1.0
    assert 0.2 < value([time], "time") < 5
    assert value(time_figures(painter, [scene], rounds=1, hold=blended())[1:], "calls") == 4.0
