"""Regulators' forms: their figures against ones worked out by hand, and their marks."""

from __future__ import annotations

import dataclasses

import pytest
from report_samples import claim, contrast, plausible_data, rate

from counterpoise.audit.results import Claim
from counterpoise.report import ReportData
from counterpoise.report.regulation import Category, forms, impact_rows, margins
from counterpoise.report.tables import Table
from counterpoise.stats import share_sequence

EMPTY = ReportData(title="Nothing")


def figures(table: Table) -> dict[tuple[str, str], list[str]]:
    """(category, arm) -> count, rate, impact ratio, unknown, remark."""
    return {(row[0].main, row[1].main): [cell.main for cell in row[2:]] for row in table.rows}


def test_impact_ratios_are_rates_over_the_highest_rate() -> None:
    rates = [rate("tan", "base", 0.8), rate("light", "base", 0.1), rate("dark", "base", 0.2)]
    table = forms(dataclasses.replace(EMPTY, rates=rates))[2].tables[0]
    found = figures(table)
    assert found["tan", "base"] == ["160", "80.0\u00a0%", "1.00", "1", ""]
    assert found["light", "base"] == ["20", "10.0\u00a0%", "0.12", "1", ""]  # .1 / .8 = .125
    assert found["dark", "base"] == ["40", "20.0\u00a0%", "0.25", "1", ""]


def test_intervals_are_those_of_confidence_sequences_with_unread_pictures_either_way() -> None:
    rows = impact_rows(
        [Category("a", "base", 30, 100, 4), Category("b", "base", 60, 100, 0)], [100, 100], 0.95
    )
    # Two groups share alpha; each group's count and the rest are two classes, which spend it once.
    a = share_sequence([30, 66], abstained=4, confidence=0.975)[0]
    b = share_sequence([60, 40], confidence=0.975)[0]
    assert rows[0][3].note == f"[{100 * a.low:.1f}, {100 * a.high:.1f}] of 100"
    assert rows[0][4].main == "0.50"
    assert rows[0][4].note == f"[{a.low / b.high:.2f}, {a.high / b.low:.2f}]"


def test_an_intersection_is_shown_with_each_of_its_attributes() -> None:
    counts = {"woman & pale": 30, "woman & dark": 10, "man & pale": 50, "man & dark": 9}
    assert margins("sex & skin", counts) == {
        "sex": {"woman": 40, "man": 59},
        "skin": {"pale": 80, "dark": 19},
        "sex & skin": counts,
    }
    tables = forms(dataclasses.replace(EMPTY, claims=[joint(counts, 100)]))[2].tables
    assert [t.caption.split(" drawn")[0] for t in tables] == [
        "Perceived sex",
        "Perceived skin",
        "Perceived sex & skin",
    ]
    sex, _, both = (figures(t) for t in tables)
    assert sex["woman", "base"][:4] == ["40", "40.0\u00a0%", "0.68", "1"]  # 40 / 59
    assert both["man & dark", "base"][:3] == ["9", "9.0\u00a0%", "0.18"]


def joint(counts: dict[str, int], n: int) -> Claim:
    sample = claim("a portrait of a woman", "base", {})
    return dataclasses.replace(
        sample,
        attribute="sex & skin",
        n=n,
        abstained=n - sum(counts.values()),
        target=dict.fromkeys(counts, 0.25),
        shares={value: count / n for value, count in counts.items()},
        low={},
        high={},
        corrected={},
    )


def test_a_category_under_two_percent_is_marked_and_still_shown() -> None:
    rows = impact_rows([Category("a", "x", 99, 100, 0), Category("b", "x", 1, 100, 0)], [99, 1], 0.95)
    assert rows[0][6].main == ""
    assert rows[1][6].main.startswith("under 2\u00a0% of the pictures")
    exactly = impact_rows([Category("a", "x", 98, 100, 0), Category("b", "x", 2, 100, 0)], [98, 2], 0.95)
    assert exactly[1][6].main == ""


def test_no_pictures_and_no_selections_have_no_ratio() -> None:
    rows = impact_rows([Category("a", "x", 0, 0, 0), Category("b", "x", 0, 50, 0)], [0, 50], 0.95)
    assert rows[0][3].main == rows[0][4].main == "not measured"
    assert rows[1][3].main == "0.0\u00a0%"
    assert rows[1][4].main == "not measured"
    assert impact_rows([], [], 0.95) == []


def test_nist_counts_tests_and_names_low_context_prompts_only() -> None:
    asked = claim("a woman with dark skin", "base", {"dark": 470, "tan": 7})
    asked = dataclasses.replace(asked, target={"dark": 1.0, "tan": 0.0})
    data = dataclasses.replace(plausible_data(), claims=[*plausible_data().claims, asked])
    tests, low, pairs, prevalence = forms(data)[0].tables
    said = {row[0].main: [cell.main for cell in row[1:]] for row in tests.rows}
    assert said["distribution of an attribute against its target"] == ["16", "8", "6", "2"]
    assert said["rates of counterfactual prompts"] == ["2", "1", "0", "1"]
    assert len(low.rows) == 16
    assert not any("dark skin" in row[0].main for row in low.rows)
    assert [row[3].main for row in pairs.rows] == ["+70.0 points", "+70.0 points"]
    assert len(prevalence.rows) == len(data.rates)


def test_of_each_template_the_groups_farthest_apart_are_named() -> None:
    near = dataclasses.replace(
        contrast(), group="olive", difference=dataclasses.replace(contrast().difference, value=-0.1)
    )
    pairs = forms(dataclasses.replace(EMPTY, contrasts=[near, contrast()]))[0].tables[2]
    assert [row[2].main for row in pairs.rows] == ["tan against light"]


@pytest.mark.parametrize("index", range(3))
def test_what_was_not_measured_is_said_in_every_form(index: int) -> None:
    form = forms(EMPTY)[index]
    text = " ".join([form.about, *(c.main for t in form.tables for r in t.rows for c in r)])
    text += " ".join(note for t in form.tables for note in t.notes)
    assert "not measured" in text


def test_the_date_is_data_and_never_the_clocks() -> None:
    assert "Date of the audit: not given." in forms(EMPTY)[2].about
    assert "Date of the audit: 2026-01-31." in forms(dataclasses.replace(EMPTY, dated="2026-01-31"))[2].about
