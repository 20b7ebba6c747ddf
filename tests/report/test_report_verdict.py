"""The sentence that opens a report: what it counts, which finding it names, and how."""

from __future__ import annotations

import math
import re

import pytest
from report_samples import claim, counts_for, finding, plausible_data

from counterpoise.audit.results import Finding, Measured
from counterpoise.report import ReportData, report_html, verdict_sentence
from counterpoise.report.ledger import e_value

PROMPT = "a portrait of a woman"


def test_biased_findings_are_counted_and_the_worst_is_named_with_its_share() -> None:
    base = claim(PROMPT, "base", counts_for(PROMPT, "base"))
    findings = [
        finding(),
        finding(decision="fair within tolerance", id="b", attribute="hair"),
        finding(decision="undecided", id="c", attribute="age"),
    ]
    sentence = verdict_sentence(findings, [base])
    share = f"{100 * base.shares['light']:.1f}\u00a0%"
    assert sentence.startswith("1 of 3 findings is biased (1 distribution off its target), 1 fair")
    assert (
        "1 undecided; the worst: with base, “a portrait of a woman” is drawn with skin tone light" in sentence
    )
    assert f"in {share} [" in sentence
    assert "where the target is 20.0\u00a0%" in sentence
    assert len(re.findall(r"\.(?:\s|$)", sentence)) == 1


def test_all_fair_is_said_so() -> None:
    sentence = verdict_sentence(
        [finding(decision="fair within tolerance"), finding(decision="fair within tolerance")]
    )
    assert sentence.startswith(
        "All 2 findings are fair within tolerance; the farthest off, within what was tolerated"
    )


def test_nothing_decided_is_never_called_fair() -> None:
    sentence = verdict_sentence([finding(decision="undecided", tolerance=None)] * 2)
    assert sentence.startswith("Nothing is decided: all 2 findings are undecided (no tolerance was set, so")
    assert "may be chance" in sentence
    assert verdict_sentence([finding(decision="undecided")]).startswith(
        "Nothing is decided: the one finding is"
    )


def test_nothing_measured() -> None:
    assert verdict_sentence([]) == "Nothing was measured."
    unread = finding(decision="undecided", n=0, effect=Measured(None, 0.0, None, 0, ""))
    assert verdict_sentence([unread]) == "Nothing was measured."
    assert "(1 of them without a single reading)" in verdict_sentence([unread, finding()])


def test_the_worst_is_what_is_surely_off_not_what_a_few_pictures_say() -> None:
    loud = finding(id="loud", attribute="hair", n=5, effect=Measured(0.9, 0.05, 1.0, 5, ""))
    sure = finding(id="sure", attribute="skin", effect=Measured(0.5, 0.45, 0.55, 480, ""))
    assert "in skin, 480 pictures" in verdict_sentence([loud, sure])
    undecided = finding(
        id="far", decision="undecided", attribute="age", effect=Measured(0.9, 0.8, 1.0, 480, "")
    )
    assert "in skin, 480 pictures" in verdict_sentence([undecided, sure])


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (
            {
                "kind": "disparity",
                "value": "revealing",
                "attribute": "clothing",
                "group": "tan",
                "reference": "light",
                "effect_name": "ratio of rates",
                "effect": Measured(8.0, 4.9, None, 200, ""),
                "prompts": ("a {group} woman",),
            },
            "“a … woman” draws revealing clothing 8.00 times [4.90, no upper limit] as often: tan against light",
        ),
        (
            {
                "kind": "reachability",
                "value": "dark",
                "against": "at least 0.8",
                "effect_name": "rate",
                "effect": Measured(0.42, 0.3, 0.5, 100, ""),
                "n": 100,
            },
            "gives dark skin tone in 42.0\u00a0% [30.0, 50.0] of 100 pictures, at least 0.8 was asked",
        ),
        (
            {"kind": "drift", "arm": "style", "against": "arm base", "prompts": ("a", "b")},
            "style moves skin tone of “a” and 1 more by 0.600 [0.550, 0.660] (total variation), arm base",
        ),
    ],
    ids=["disparity", "reachability", "drift"],
)
def test_each_kind_has_words_of_its_own(others: dict[str, object], words: str) -> None:
    assert words in verdict_sentence([finding(**others)])


def test_the_page_opens_with_the_sentence_unless_it_is_given_one() -> None:
    data = ReportData(title="x", findings=plausible_data().findings)
    sentence = verdict_sentence(data.findings, data.claims)
    assert sentence.startswith("11 of 20 findings are biased (8 distributions off their targets, 1 disparity")
    opening = report_html(data).partition("</header>")[0]
    assert f'<p class="verdict">{sentence}</p>' in opening
    assert "Nothing was measured." in report_html(ReportData(title="x"))


def test_e_values_are_never_nan_or_infinite_on_the_page() -> None:
    assert e_value(None) == "none"
    assert e_value(math.inf) == e_value(1e6) == "beyond any bound"
    assert e_value(math.nan) == "not measured"
    assert e_value(math.log(20)) == "20"
    assert e_value(math.log(10) * 12 + 1) == "10^12"
    assert e_value(-1e6) == "under 0.001"
    wild = finding(
        log_e_biased=math.inf,
        log_e_fair=-math.inf,
        effect=Measured(math.nan, math.nan, math.inf, 5, ""),
        path=((0, 0.0), (1, math.nan), (2, math.inf), (3, 4.0)),
    )
    body = report_html(ReportData(title="x", findings=[wild])).partition("<body>")[2]
    assert not re.search(r"\b(nan|inf|infinity)\b", body, re.IGNORECASE)


def test_the_page_says_what_biased_means_for_its_questions() -> None:
    tolerant, exact = finding(), finding(id="b", attribute="hair", tolerance=None, log_e_fair=None)
    limited = finding("reachability", id="c", attribute="age", tolerance=None)

    def said(*findings: Finding) -> str:
        return report_html(ReportData(title="x", findings=list(findings)))

    assert "past what is tolerated" in said(tolerant, limited)
    assert "No tolerance was stated" not in said(tolerant, limited)
    assert "No tolerance was stated, so biased: shown to differ" in said(exact)
    assert "past what is tolerated" not in said(exact)
    assert "A question without a tolerance is biased where" in said(tolerant, exact)
