"""Who is planned: every prefix within one person, over runs and attributes, none walking in step with another."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.scenes import (
    Plan,
    Planned,
    load_state,
    new_state,
    plan_many,
    position_table,
    save_state,
    scene_request,
)
from counterpoise.scenes.state import QuotaState

SHARES = (
    "skin: dark 2/5, tan 1/5, light 1/5, pale 1/5",
    "hair_color: red 1/2, black 1/2",
    "glasses: yes 1/2, no 1/2",
)


def request(people: int = 5, shares: tuple[str, ...] = SHARES, **more: object) -> object:
    return scene_request("a basketball team", people=people, shares=shares, profile="world", seed=7, **more)


def people_of(plans: tuple[Plan, ...]) -> list[dict[str, str]]:
    return [dict(person.attributes) for plan in plans for person in plan.people]


def furthest(people: list[dict[str, str]], axis: str, shares: dict[str, Fraction]) -> Fraction:
    counts: Counter[str] = Counter()
    most = Fraction(0)
    for n, person in enumerate(people, 1):
        counts[person[axis]] += 1
        most = max(most, *(abs(share * n - counts[value]) for value, share in shares.items()))
    return most


def targets(state: QuotaState) -> dict[str, dict[str, Fraction]]:
    return {axis: {v: Fraction(s) for v, s in shares.items()} for axis, shares in state.targets.items()}


@pytest.fixture(scope="module")
def hundred() -> Planned:
    asked = request()
    return plan_many(asked, 100, state=new_state(asked.units, asked.roles))


def test_a_hundred_pictures_keep_every_prefix_of_every_attribute_within_one_person(hundred: Planned) -> None:
    planned = hundred
    everyone = people_of(planned.plans)
    assert len(everyone) == 500
    for axis, shares in targets(planned.state).items():
        assert furthest(everyone, axis, shares) < 1
    said = max(Fraction(plan.allocation.max_deviation) for plan in planned.plans)
    assert said == max(furthest(everyone, axis, shares) for axis, shares in targets(planned.state).items())


def test_attributes_of_one_stream_are_not_confounded(hundred: Planned) -> None:
    everyone = people_of(hundred.plans)
    for a, b in [("skin", "hair_color"), ("skin", "glasses"), ("hair_color", "glasses")]:
        table = Counter((person[a], person[b]) for person in everyone)
        first, second = Counter(p[a] for p in everyone), Counter(p[b] for p in everyone)
        assert max(abs(table[x, y] - first[x] * second[y] / 500) for x in first for y in second) <= 3


def test_places_are_shared_out_over_groups_and_roles_too(hundred: Planned) -> None:
    groups, places, counts = position_table(hundred.plans, "skin")
    assert places == ["1", "2", "3", "4", "5"]
    table = np.array(counts)
    shares = np.array([{"dark": 0.4}.get(group, 0.2) for group in groups])
    assert np.abs(table - 100 * shares[:, None]).max() <= 2
    with_captain = scene_request(
        "a women basketball team",
        people=5,
        shares=("appearance: Black 2, East Asian 1, White 1, South Asian 1", "role: captain 1"),
    )
    plans = plan_many(with_captain, 50, state=new_state(with_captain.units, with_captain.roles)).plans
    captains = Counter(
        p.attributes["appearance"] for plan in plans for p in plan.people if "role" in p.attributes
    )
    assert sum(captains.values()) == 50
    assert all(abs(captains[group] - 10 * (2 if group == "Black" else 1)) <= 1 for group in captains)
    assert all(plan.allocation.counts["role"] == {"captain": 1} for plan in plans)


@pytest.mark.parametrize("seed", [7, 1234])
def test_tomorrow_goes_on_where_today_ended(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "state" / "quota.json"
    asked = request(people=3)
    later = scene_request("a basketball team", people=3, shares=SHARES, profile="world", seed=seed)
    everyone: list[dict[str, str]] = []
    for day in [asked, later, asked, later]:
        before = load_state(path, day.units, day.roles)
        planned = plan_many(day, 2, state=before)
        save_state(path, planned.state, before=before)
        assert planned.plans[0].allocation.start_index == len(everyone)
        everyone += people_of(planned.plans)
    for axis, shares in targets(before).items():
        assert furthest(everyone, axis, shares) < 1
    if seed == asked.seed:
        whole = plan_many(asked, 8, state=new_state(asked.units, asked.roles))
        assert everyone == people_of(whole.plans)


def test_a_state_of_other_targets_or_that_moved_on_or_was_edited_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "quota.json"
    asked = request(shares=SHARES[:1])
    before = load_state(path, asked.units, asked.roles)
    planned = plan_many(asked, 1, state=before)
    save_state(path, planned.state, before=before)
    other = request(shares=("skin: dark 1/2, tan 1/2",))
    with pytest.raises(UsageError, match="other targets") as refused:
        load_state(path, other.units, other.roles)
    assert refused.value.code == "E_SCENE_STATE"
    with pytest.raises(UsageError, match="another planner"):
        save_state(path, planned.state, before=before)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "counts": [[9, 9, 9, 9]]}))
    with pytest.raises(UsageError, match="do not add up"):
        load_state(path, asked.units, asked.roles)
    path.write_text("{")
    with pytest.raises(RefusedInputError):
        load_state(path, asked.units, asked.roles)
    path.write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(RefusedInputError, match="version"):
        load_state(path, asked.units, asked.roles)


def test_a_batch_is_rounded_as_a_whole_and_spread() -> None:
    asked = request()
    plans = plan_many(asked, 4).plans
    everyone = people_of(plans)
    cells = Counter((p["skin"], p["hair_color"], p["glasses"]) for p in everyone)
    for (skin, _, _), count in cells.items():
        assert abs(count - 20 * (Fraction(2, 5) if skin == "dark" else Fraction(1, 5)) / 4) < 1
    assert plans[0].allocation.method == "controlled_rounding"
    assert Counter(p["skin"] for p in everyone) == {"dark": 8, "tan": 4, "light": 4, "pale": 4}
    one = plan_many(request(shares=SHARES[:1]), 1).plans[0]
    assert one.allocation.method == "largest_remainder"
    assert one.allocation.counts["skin"] == {"dark": 2, "tan": 1, "light": 1, "pale": 1}


def test_a_joint_table_is_kept_jointly() -> None:
    joint = ("skin + hair_color: dark + red 2/5, tan + black 2/5, pale + black 1/5",)
    asked = request(shares=joint)
    for planned in (plan_many(asked, 6), plan_many(asked, 6, state=new_state(asked.units, asked.roles))):
        found = Counter((p["skin"], p["hair_color"]) for p in people_of(planned.plans))
        assert found == {("dark", "red"): 12, ("tan", "black"): 12, ("pale", "black"): 6}


def test_every_picture_can_show_every_value_without_breaking_the_quota() -> None:
    shares = ("skin: dark 3/5, tan 1/5, pale 1/5",)
    asked = request(shares=shares, each=True)
    planned = plan_many(asked, 40, state=new_state(asked.units, asked.roles))
    assert all(len(plan.allocation.counts["skin"]) == 3 for plan in planned.plans)
    assert furthest(people_of(planned.plans), "skin", targets(planned.state)["skin"]) < 1
    assert len(plan_many(asked, 1).plans[0].allocation.counts["skin"]) == 3


@pytest.mark.parametrize(
    ("people", "shares", "pictures", "said"),
    [
        (2, "skin: mixed", 1, "2 people cannot show 5 values"),
        (5, "skin: dark 9/10, tan 1/10", 2, "cannot be in every picture"),
    ],
)
def test_infeasible_wishes_are_refused(people: int, shares: str, pictures: int, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        plan_many(request(people, (shares,), each=True), pictures)
    assert refused.value.code == "E_SCENE_EACH"


@pytest.mark.parametrize("count", [0, -1, True, 10**9])
def test_numbers_of_pictures_that_are_none_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match="pictures"):
        plan_many(request(), count)


def test_a_plan_depends_on_its_request_alone() -> None:
    asked = request()
    assert plan_many(asked, 3).plans == plan_many(request(), 3).plans
    layouts = [[p.box for p in plan.people] for plan in plan_many(asked, 6).plans]
    assert any(a != b for a, b in pairwise(layouts))


def test_a_joint_tables_attributes_come_in_turn_too() -> None:
    """Cells taken in their order showed one presentation in every picture of five."""
    tones = ("pale", "light", "tan", "brown", "dark")
    cells = ", ".join(f"{who} + {tone} 1/10" for who in ("woman", "man") for tone in tones)
    asked = scene_request(
        "a group of people", people=5, shares=(f"presentation + skin: {cells}",), profile="world", seed=7
    )
    plans = plan_many(asked, 30, state=new_state(asked.units, asked.roles)).plans
    people = people_of(plans)
    assert furthest(people, "presentation", dict.fromkeys(("woman", "man"), Fraction(1, 2))) <= 1
    assert furthest(people, "skin", dict.fromkeys(tones, Fraction(1, 5))) <= 1
    assert all(len({person.attributes["presentation"] for person in plan.people}) == 2 for plan in plans)
    pairs = Counter((person["presentation"], person["skin"]) for person in people)
    assert set(pairs.values()) == {15}
