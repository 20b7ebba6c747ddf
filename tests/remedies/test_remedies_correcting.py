"""Corrections of edits that err alike: what they share in full, what is one's own as far as it is no luck."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from counterpoise.measure.reading import Measurer
from counterpoise.remedies.correcting import TOGETHER, alike, believed, corrected, corrected_together
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.lessons import goal_shares
from counterpoise.remedies.observing import RARE, RAREST, pictures, rates

JOBS = [f"job {i}" for i in range(12)]
GOAL = Goal.model_validate(
    {
        "templates": ["{}"],
        "slots": {"job": JOBS, "who": ["woman", "man"], "tone": ["pale", "tan", "dark"]},
        "edit": [
            {"neutral": "a {job}", "attribute": ["who", "tone"], "phrase": "a {who} {job} with {tone} skin"},
            {"neutral": "one", "attribute": ["who"], "phrase": "a {who}"},
        ],
    }
)
COUNT = 90
TRUTH = np.array([0.24, 0.10, 0.16, 0.24, 0.10, 0.16])  # what all jobs draw: too few tan


def read(rng: np.random.Generator, odd: float = 0.0) -> list[list[float]]:
    """What COUNT pictures of each edit show; the first job draws `odd` more women."""
    found = []
    for i in range(len(JOBS)):
        truth = TRUTH + (i == 0) * odd * np.array([1, 1, 1, -1, -1, -1]) / 3
        found.append((rng.multinomial(COUNT, truth) / COUNT).tolist())
    return [*found, [0.5, 0.5]]


def test_together_a_common_error_is_found_more_sharply_than_alone() -> None:
    rng = np.random.default_rng(1)
    shares = goal_shares(GOAL)
    ideal = np.array(shares[0]) * (1 / 6) / TRUTH
    ideal /= ideal.sum()
    errors: dict[str, list[float]] = {"alone": [], "together": []}
    for _ in range(20):
        seen = read(rng)
        both = {
            "alone": corrected(GOAL, shares, seen),
            "together": corrected_together(GOAL, shares, seen, [COUNT] * 13),
        }
        for name, found in both.items():
            errors[name] += [float(np.abs(np.array(own) - ideal).sum() / 2) for own in found[: len(JOBS)]]
    assert np.mean(errors["together"]) < 0.6 * np.mean(errors["alone"])
    assert np.mean(errors["together"]) < 0.05


def test_what_stands_out_of_luck_is_corrected_for_its_edit_alone() -> None:
    seen = read(np.random.default_rng(2), odd=0.27)
    found = corrected_together(GOAL, goal_shares(GOAL), seen, [COUNT] * 13)
    women = [sum(own[:3]) for own in found[: len(JOBS)]]
    assert women[0] < 0.36
    assert all(0.4 < own < 0.62 for own in women[1:])
    assert [sum(own) for own in found] == pytest.approx([1.0] * 13)


def test_edits_on_target_and_edits_alone_of_their_kind_keep_their_shares() -> None:
    seen = [[1 / 6] * 6] * len(JOBS) + [[0.5, 0.5]]
    assert corrected_together(GOAL, goal_shares(GOAL), seen, [COUNT] * 13) == [
        pytest.approx(own) for own in goal_shares(GOAL)
    ]


def test_no_reading_runs_away() -> None:
    seen = [[0.0, 0.5, 0.0, 0.5, 0.0, 0.0]] * len(JOBS) + [[0.0, 1.0]]
    for own in corrected_together(GOAL, goal_shares(GOAL), seen, [COUNT] * 13):
        assert all(0 < share < 1 for share in own)
        assert sum(own) == pytest.approx(1)


def test_what_is_believed_of_edits_alike_is_nearer_to_what_they_draw_than_what_was_read() -> None:
    rng = np.random.default_rng(3)
    errors: dict[str, list[float]] = {"read": [], "believed": []}
    for _ in range(20):
        seen = read(rng)
        for name, found in (("read", seen), ("believed", believed(GOAL, seen, [COUNT] * 13))):
            errors[name] += [float(np.abs(np.array(own) - TRUTH).sum() / 2) for own in found[: len(JOBS)]]
        assert believed(GOAL, seen, [COUNT] * 13)[-1] == seen[-1]  # alone of its kind
    assert np.mean(errors["believed"]) < 0.5 * np.mean(errors["read"])


def test_edits_of_the_same_cells_are_together() -> None:
    assert alike(GOAL) == [list(range(len(JOBS))), [len(JOBS)]]


def test_a_rare_value_is_expected_often_enough_together_with_edits_alike() -> None:
    class Judge:
        attributes = {"who": ("woman", "man"), "light": ("dim", "bright")}  # noqa: RUF012

    def edits(count: int, rare: float) -> Goal:
        cells = [
            ("woman", "dim", rare),
            ("woman", "bright", 0.5 - rare),
            ("man", "dim", 0),
            ("man", "bright", 0.5),
        ]
        variants = [
            {"phrase": f"a {light} {who}", "reads": {"who": who, "light": light}, "share": share}
            for who, light, share in cells
            if share
        ]
        edit = {"attribute": ["who", "light"], "variants": variants}
        return Goal.model_validate(
            {"templates": ["{}"], "edit": [{**edit, "neutral": f"subject {i}"} for i in range(count)]}
        )

    def read_of(count: int, rare: float) -> list[int]:
        return pictures(cast(Measurer, Judge()), edits(count, rare), 8)

    assert read_of(1, 0.25) == [8 * RARE * 4]
    assert read_of(6, 0.25) == [8 * RARE * 4 / 2] * 6
    assert read_of(60, 0.25) == [8 * 3] * 60  # never below what each of its cells is read for
    assert read_of(1, 1e-6) == [round(8 * RARE / RAREST)]


def test_groups_are_compared_by_the_rate_of_a_value_that_is_to_be_rare() -> None:
    def rated(count: int, *shares: float) -> list[int]:
        variants = [
            {"phrase": f"a {v} one", "reads": {"light": str(v)}, "share": s} for v, s in enumerate(shares)
        ]
        edit = {"attribute": "light", "variants": variants}
        edits = [{**edit, "neutral": f"subject {i}"} for i in range(count)]
        alone = {**edit, "neutral": "alone", "variants": [{**v, "share": 0.5} for v in variants[:2]]}
        return rates(Goal.model_validate({"templates": ["{}"], "edit": [alone, *edits]}))

    assert rated(TOGETHER, 0.1, 0.9) == [1 + i for i in range(TOGETHER)]
    assert rated(TOGETHER, 0.25, 0.75) == [1 + i for i in range(TOGETHER)]
    assert rated(TOGETHER, 0.3, 0.7) == []
    assert rated(TOGETHER, *[0.2] * 5) == []  # as rare as the others
    assert rated(TOGETHER - 1, 0.1, 0.9) == []  # no groups
    assert rates(GOAL) == []  # jobs by two attributes at once
