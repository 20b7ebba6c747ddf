"""A page of any audit: bounded in size, no wider than a phone, whole without scripts, the same every time."""

from __future__ import annotations

import dataclasses
import io
import random
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from PIL import Image, PngImagePlugin
from report_samples import (
    ARMS,
    TONES,
    card,
    claim,
    contrast,
    drift,
    finding,
    path,
    plausible_data,
    rate,
    reached,
)

from counterpoise.errors import RefusedInputError
from counterpoise.report import Picture, ReportData, report_html
from counterpoise.report.evidence import evidence_chart
from counterpoise.report.thumbs import SIDE, thumbnail


def huge() -> ReportData:
    """A thousand prompts, two arms: more than a page has room for."""
    chance = random.Random(3)
    claims, found, values = [], [], [f"value {i}" for i in range(16)]
    for i in range(1000):
        for arm in ARMS[:2]:
            counts = {tone: chance.randrange(1, 28) for tone in values}
            prompt = f"prompt {i}, " + "with quite a lot of words " * 6
            made = dataclasses.replace(claim(prompt, arm, counts), tv_low=i / 1000)
            claims.append(made)
            found.append(finding(id=f"claim[0]/{i}/{arm}", arm=arm, prompts=(prompt,), path=path(0.1, n=60)))
    return ReportData(
        title="Huge",
        claims=claims,
        findings=found,
        rates=[rate(f"group {i}", "base", 0.3) for i in range(60)],
        contrasts=[dataclasses.replace(contrast(), group=f"group {i}") for i in range(1770)],
        reached=[reached()] * 1000,
        drifts=[drift()] * 1000,
    )


def test_a_thousand_prompts_stay_under_two_megabytes_and_the_worst_are_shown() -> None:
    page = report_html(huge())
    assert len(page.encode()) < 2_000_000
    assert "prompt 999, with" in page.partition('<h2 id="prompts">')[2].partition('<h2 id="groups">')[0]
    assert re.search(r"\d+ more prompts, nearer to their targets, are in results.json", page)
    assert "1750 more rows are in results.json" in page  # of 2,000 findings


def test_thumbnails_are_small_and_carry_nothing_but_pixels() -> None:
    chance = random.Random(1)
    noise = Image.frombytes("RGB", (640, 320), chance.randbytes(640 * 320 * 3))
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("parameters", "a secret prompt")
    noise.save(file, "PNG", pnginfo=info)
    picture = Picture("p", "base", 1, file.getvalue())
    shown = thumbnail(picture)
    assert (shown.width, shown.height) == (SIDE, SIDE // 2)
    assert len(shown.source) < 20_000
    assert b"secret" in picture.png
    assert b"secret" not in __import__("base64").b64decode(shown.source.partition(",")[2])
    assert thumbnail(picture) == shown


def test_a_torn_picture_is_refused() -> None:
    whole = plausible_data().pictures[0].png
    with pytest.raises(RefusedInputError, match="cannot be decoded"):
        thumbnail(Picture("p", "base", 1, whole[: len(whole) // 2]))


class Structure(HTMLParser):
    """For each table: whether it has a caption, and whether it lies in a box that scrolls."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[dict[str, object]] = []
        self.open: list[tuple[str, str]] = []
        self.void = {"meta", "img", "link", "br", "path", "circle"}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = dict(attrs).get("class") or ""
        if tag == "table":
            scrolls = any(c == "scroll" for _, c in self.open)
            self.tables.append({"class": classes, "scrolls": scrolls, "caption": False})
        if tag == "caption":
            self.tables[-1]["caption"] = True
        if tag not in self.void:
            self.open.append((tag, classes))

    def handle_endtag(self, tag: str) -> None:
        while self.open and tag not in self.void:
            if self.open.pop()[0] == tag:
                return


def test_text_fits_a_phone_and_only_rows_of_pictures_scroll() -> None:
    structure = Structure(report_html(plausible_data()))
    assert all(t["caption"] for t in structure.tables)
    assert {t["class"] for t in structure.tables} == {"stack", "pictures"}
    assert all(t["scrolls"] == (t["class"] == "pictures") for t in structure.tables)
    css = files("counterpoise.report").joinpath("templates", "style.css").read_text("utf-8")
    always = re.sub(r"@media \(min-width[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", "", css)
    widths = re.findall(r"(?<![-\w])(?:min-)?width:\s*([\d.]+)(px|rem)", always)
    assert widths
    assert all(float(size) * (16 if unit == "rem" else 1) <= 320 for size, unit in widths)
    assert "details::details-content" in css.partition("@media print")[2]


def test_evidence_is_drawn_and_told_where_it_crosses_and_ends() -> None:
    # log10 e: 1 at picture 10, 2 at 20; 1/alpha = 20 is 1.30, crossed first by the point at 20.
    line = ((0, 0.0), (10, 2.302586), (20, 4.605171), (30, 3.0))
    chart = evidence_chart(
        [finding(path=line), finding(arm="repaired", path=((1, -1.0),))],
        confidence=0.95,
        arms=["base", "repaired"],
        subject="[/foo] <b>",
    )
    assert chart is not None
    assert [line.words for line in chart.lines] == [
        "above 20 by picture 20; 20.1 after 30 pictures",
        "never above 20; 0.368 after 1 pictures",
    ]
    assert "&lt;b&gt;" in chart.drawing
    assert chart.lines[0].pattern != chart.lines[1].pattern
    assert evidence_chart([finding()], confidence=0.95, arms=["base"], subject="x") is None


def test_corrected_intervals_stand_beside_the_raw_ones() -> None:
    first = claim("p", "base", dict.fromkeys(TONES, 90))
    page = report_html(ReportData(title="x", claims=[first]))
    low, high = first.corrected["light"]
    assert f"with the judge&#39;s error [{100 * low:.1f}, {100 * high:.1f}]" in page
    page = report_html(ReportData(title="x", claims=[dataclasses.replace(first, corrected={})]))
    assert "The judge&#39;s error is not in these figures" in page


def test_a_target_that_differs_by_arm_is_shown_by_arm() -> None:
    one = claim("p", "base", dict.fromkeys(TONES, 90))
    other = dataclasses.replace(one, arm="repaired", target={"light": 0.6, "dark": 0.4})
    page = report_html(ReportData(title="x", claims=[one, other]))
    assert "target 60.0\u00a0%" in page
    assert page.count("<h4>Perceived") == 1


def test_the_judge_is_shown_by_what_it_read_of_labelled_pictures() -> None:
    page = report_html(ReportData(title="x", cards=[card()]))
    part = page.partition('<h2 id="judge">')[2].partition("</section>")[0]
    assert "world on 60 labelled pictures: skin tone, group avatars" in part
    assert "83.3\u00a0%" in part  # 25 of 30
    assert "two raters" in part
