"""Hostile text is shown literally and does nothing, wherever it enters."""

from __future__ import annotations

import dataclasses
import unicodedata

import pytest
from report_samples import PROMPTS, TONES, claim, contrast, disparity, drift, finding, path, rate, reached

from counterpoise.audit.results import Coverage
from counterpoise.report import Judge, Picture, Proof, ReportData, report_html
from counterpoise.report.palette import ARM_COLOURS
from counterpoise.report.text import clip, distinct, number, percent, visible

HOSTILE = {
    "<script>alert(1)</script>": "&lt;script&gt;alert(1)&lt;/script&gt;",
    '"><img src=x onerror=alert(1)>': "&#34;&gt;&lt;img src=x onerror=alert(1)&gt;",
    "[/foo] [red]": "[/foo] [red]",
    "{{ 7 * 7 }}": "{{ 7 * 7 }}",
    "\x1b[31mred\x1b]8;;x\x07": "⟨ESC⟩[31mred⟨ESC⟩]8;;x⟨BEL⟩",
    "one\r\ntwo\x00\x7f": "one⟨CR⟩⟨LF⟩two⟨NUL⟩⟨U+007F⟩",
    "user \u202etxt.exe\u2066": "user ⟨U+202E⟩txt.exe⟨U+2066⟩",
    "zero\u200bwidth\ufeff\u2028": "zero⟨U+200B⟩width⟨U+FEFF⟩⟨U+2028⟩",
    "half \ud800 pair": "half ⟨U+D800⟩ pair",
    "]]></style></svg>": "]]&gt;&lt;/style&gt;&lt;/svg&gt;",
}


def everywhere(text: str, png: bytes) -> ReportData:
    base = claim(next(iter(PROMPTS)), "base", dict.fromkeys(TONES, 96))
    shares = {text: 0.5, "other": 0.5}
    odd = dataclasses.replace(
        base,
        prompt=text,
        attribute=text,
        arm=text,
        method=text,
        target=shares,
        shares=shares,
        low=shares,
        high=shares,
    )
    odd_rate = dataclasses.replace(
        rate("tan", "base", 0.5), prompt=text, group=text, value=text, attribute=text, arm=text
    )
    odd_ratio = dataclasses.replace(
        disparity("base", 0.5, 0.1), template=text, group=text, value=text, attribute=text, arm=text
    )
    odd_finding = finding(
        where=text,
        arm=text,
        against=text,
        prompts=(text,),
        attribute=text,
        value=text,
        group=text,
        reference=text,
        method=text,
        path=path(0.1, n=20),
    )
    odd_pair = dataclasses.replace(
        contrast(), template=text, attribute=text, value=text, arm=text, group=text, reference=text
    )
    odd_reached = dataclasses.replace(
        reached(), prompt=text, attribute=text, value=text, negative=text, arm=text
    )
    odd_drift = dataclasses.replace(
        drift(), prompts=(text,), attribute=text, arm=text, baseline=text, shares={text: 1.0, "other": 0.0}
    )
    return ReportData(
        findings=[odd_finding],
        contrasts=[odd_pair],
        reached=[odd_reached],
        drifts=[odd_drift],
        judges=[Judge(text, text, {text: (text,)})],
        targets={"claim[0]": text},
        commands=[text],
        dated=text,
        multiplicity=text,
        stopping=text,
        title=text,
        verdict=text,
        intro=[text],
        claims=[odd],
        rates=[odd_rate],
        disparities=[odd_ratio],
        coverage=[Coverage(text, 1, 1, 0, 0, 0)],
        pictures=[Picture(text, text, 1, png)],
        proofs=[Proof(text, text, False, {text: text})],
        facts={text: text},
        limits=[text],
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_shown_literally(text: str, plausible: ReportData) -> None:
    page = report_html(everywhere(text, plausible.pictures[0].png))
    body = page.partition("<body>")[2]
    assert body.count(HOSTILE[text]) >= 40
    assert "<script" not in body
    assert "onerror=alert(1)>" not in body.replace("onerror=alert(1)&gt;", "")
    hidden = {c for c in page if unicodedata.category(c) in {"Cc", "Cf", "Cs"}} - {"\n"}
    assert not hidden
    page.encode("utf-8")


def test_a_very_long_prompt_stays_readable(plausible: ReportData) -> None:
    page = report_html(everywhere("x" * 10_000, plausible.pictures[0].png))
    assert "The whole prompt (10000 characters)" in page
    assert len(page) < 300_000


def test_labels_stay_distinct_after_clipping() -> None:
    labels = distinct(["a" * 50 + "1", "a" * 50 + "2", "", "short"], 20)
    assert len(set(labels.values())) == 4
    assert all(0 < len(label) <= 20 for label in labels.values())


def test_numbers_in_words() -> None:
    assert percent(0.2034) == "20.3\u00a0%"
    assert percent(float("nan")) == number(float("inf")) == "not measured"
    assert clip("abcdef", 4) == "abc…"
    assert visible("ärger 東京 🙂") == "ärger 東京 🙂"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("light", "dark"), ARM_COLOURS)
def test_arm_colours_stand_out_from_their_ground(light: str, dark: str) -> None:
    assert 1.05 / (luminance(light) + 0.05) >= 3
    assert (luminance(dark) + 0.05) / (luminance("#14171b") + 0.05) >= 3
