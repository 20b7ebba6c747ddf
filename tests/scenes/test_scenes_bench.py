"""The benchmark's own parts: frozen sets, rivals' words, what its placebo expects, what its bars say."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from benchmarks.scenes.arms import ARMS, derangement
from benchmarks.scenes.bars import Row, bars, placebo_figures
from benchmarks.scenes.cells import Cell
from benchmarks.scenes.sets import KINDS, everybody, make_set

from counterpoise.scenes.auditing.figures import Figure
from counterpoise.scenes.auditing.quotas import prefix_deviation
from counterpoise.scenes.auditing.seen import Seen
from counterpoise.stats import Estimate


def test_sets_are_the_same_each_time_and_their_first_pictures_do_not_depend_on_how_many() -> None:
    for kind in KINDS:
        whole, few = make_set(kind, 5), make_set(kind, 5, 3)
        assert whole.plans[:3] == few.plans
        assert len({plan.render.seed for plan in whole.plans}) == len(whole.plans) == KINDS[kind].n
    assert len(make_set("mixed", 2).plans) == 200
    assert len(make_set("team", 5).plans) == 100


def test_the_mixed_set_has_every_combination_alike_and_pictures_that_differ() -> None:
    own = make_set("mixed", 5)
    people = [tuple(person.attributes.items()) for plan in own.plans for person in plan.people]
    counts = Counter(people).values()
    assert (len(counts), max(counts) - min(counts)) == (60, 1)
    tones = Counter(len({person.attributes["skin"] for person in plan.people}) for plan in own.plans)
    assert tones[5] < 100  # else no leak of skin could be told from an error


def test_the_association_is_planned_in_exact_shares_whatever_the_group() -> None:
    own = make_set("women", 5)
    cells = Counter(
        (p.attributes["skin"], p.attributes["exposure"]) for plan in own.plans for p in plan.people
    )
    assert set(cells.values()) == {100}
    assert prefix_deviation(make_set("team", 5).plans, "skin") < 1


def test_the_rival_lists_everybody_as_the_worlds_captions_do() -> None:
    plan = make_set("mixed", 2).plans[0]
    words = everybody(plan)
    assert words.startswith("a picture of two people side by side: a ")
    assert words.count(" and a ") == 1
    for person in plan.people:
        assert person.prompt.removeprefix("a picture of ") in words
    assert "female basketball player" in everybody(make_set("team", 5, 1).plans[0])


def test_a_placebo_leaves_nobody_in_place_and_expects_what_plans_share() -> None:
    for seed in range(20):
        assert all(i != j for i, j in enumerate(derangement(4, seed)))
    own = make_set("mixed", 3, 40)
    drawn = []
    for plan in own.plans:
        order = derangement(3, plan.render.seed)
        drawn.append(Seen("", plan, tuple(dict(plan.people[j].attributes) for j in order)))
    cell = Cell(drawn, drawn, np.zeros((120, 2)), 1, 0, 0.0, [])
    found = {figure.of: figure.estimate for figure in placebo_figures(own, cell)}
    assert all(found.values())
    permuted, above = found["against the permuted plan"], found["above expected"]
    assert permuted is not None
    assert above is not None
    assert (permuted.value, above.value) == (1.0, pytest.approx(0.0, abs=1e-12))


def test_bars_are_met_by_their_figures_and_what_was_not_drawn_is_not_measured() -> None:
    rows = {row.name: row for row in bars({}, {})}
    assert all(row.passed is None for row in rows.values())
    figure = Figure("correct", "", Estimate(0.91, 0.88, 0.93, 200, ""))
    rows = {row.name: row for row in bars({"ours mixed-5": {"reader": [figure]}}, {})}
    assert rows["per-box all correct, N = 5, without repair"].passed is True
    assert Row("", 0.9, Figure("correct", "", Estimate(0.89, 0.8, 0.95, 9, "")), least=True).passed is False
    assert set(ARMS) >= {
        "plain",
        "everybody",
        "concatenated",
        "blended",
        "ours",
        "ours+repair",
        "alone",
        "placebo",
    }
