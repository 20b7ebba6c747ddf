"""The page as a whole: nothing from outside, every number there, same bytes, sound structure."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from report_samples import disparity

from counterpoise.audit.results import Claim
from counterpoise.errors import EnvironmentLackError, RefusedInputError, UsageError
from counterpoise.report import Picture, ReportData, report_html, write_report

EMPTY = ReportData(title="Nothing yet", verdict="Nothing was measured.")


class Outline(HTMLParser):
    """Tags with their attributes in order, and the heading levels among them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def levels(self) -> list[int]:
        return [int(tag[1]) for tag, _ in self.tags if re.fullmatch(r"h[1-6]", tag)]


@pytest.fixture(scope="module")
def page(plausible: ReportData) -> str:
    return report_html(plausible)


def test_page_asks_nothing_of_any_network(page: str) -> None:
    outline = Outline(page)
    assert not re.search(r"https?:|//\w+\.\w", re.sub(r'src="data:[^"]*"', "", page))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {t for t, _ in outline.tags}
    assert not [a for _, attrs in outline.tags for a in attrs if a.startswith("on") or a == "style"]
    assert all(re.match("data:image/(png|webp);base64,", a["src"] or "") for a in outline.named("img"))
    assert all((a["href"] or "").startswith("#") for a in outline.named("a"))
    policy = next(a["content"] for a in outline.named("meta") if "Content-Security-Policy" in a.values())
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_same_data_give_the_same_bytes(plausible: ReportData, page: str) -> None:
    assert report_html(plausible) == page


def test_every_number_of_every_claim_and_rate_stands_in_the_page(plausible: ReportData, page: str) -> None:
    for claim in plausible.claims:
        for value, share in claim.shares.items():
            assert f"{100 * share:.1f}\u00a0%" in page
            assert f"[{100 * claim.low[value]:.1f}, {100 * claim.high[value]:.1f}]" in page
        for figure in (claim.tv, claim.tv_floor, claim.tv_corrected):
            assert f"{figure:.3f}" in page
        assert f"[{claim.tv_low:.3f}, {claim.tv_high:.3f}]" in page
        assert f">{claim.n}<" in page
        assert claim.method in page
    for rate in plausible.rates:
        assert f"{100 * rate.rate:.1f}\u00a0%" in page
        assert f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]" in page


def test_disparities_and_coverage_stand_in_the_page(plausible: ReportData, page: str) -> None:
    for found in plausible.disparities:
        assert f"{found.ratio:.1f} times as often [{found.low:.1f}, {found.high:.1f}]" in page
        assert found.method in page
    assert "a portrait of a … woman" in page
    for row in plausible.coverage:
        cells = zip(
            ("planned", "drawn", "blank", "judge failed", "duplicates"),
            (row.planned, row.drawn, row.blank, row.failed, row.duplicates),
            strict=True,
        )
        said = "".join(
            f'<td role="cell" data-label="{name}"><bdi class="main">{figure}</bdi></td>'
            for name, figure in cells
        )
        assert said in page


def test_a_ratio_to_nothing_has_no_number_made_up(plausible: ReportData) -> None:
    only, none = disparity("base", 0.5, 0.0), disparity("repaired", 0.0, 0.0)
    text = report_html(dataclasses.replace(EMPTY, rates=plausible.rates, disparities=[only, none]))
    assert "drawn so for one group only [37.5, no upper limit]" in text
    assert "drawn so for no group" in text
    assert text.count("<strong>not measured</strong>") == 2


def test_groups_of_one_template_share_a_chart_without_a_disparity(plausible: ReportData) -> None:
    rates = [r if r.group != "tan" else dataclasses.replace(r, group="olive") for r in plausible.rates]
    rates = [dataclasses.replace(r, prompt=r.prompt.replace("a tan", "an olive")) for r in rates]
    text = report_html(dataclasses.replace(EMPTY, rates=rates))
    shown = text.partition('<h2 id="groups">')[2].partition("</section>")[0]
    assert shown.count("a portrait of … woman") == 1


def test_page_without_its_pictures_is_small(page: str) -> None:
    assert len(re.sub(r'src="data:[^"]*"', "", page).encode()) < 400_000


def test_headings_go_down_one_level_at_a_time(page: str) -> None:
    for text in (page, report_html(EMPTY)):
        levels = Outline(text).levels()
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(below - above <= 1 for above, below in pairwise(levels))


def test_structure_serves_screen_readers_and_keyboards(page: str) -> None:
    outline = Outline(page)
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in outline.tags}
    assert len(outline.named("caption")) == len(outline.named("table"))
    assert all(a.get("scope") in {"row", "col"} for a in outline.named("th"))
    assert all(a.get("alt") for a in outline.named("img"))
    assert all(a.get("role") == "img" and a.get("aria-label") for a in outline.named("svg"))
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = [a["aria-labelledby"] for _, a in outline.tags if "aria-labelledby" in a]
    links = [(a["href"] or "")[1:] for a in outline.named("a")]
    assert set(wanted) | set(links) <= set(ids)
    scrolled = [a for _, a in outline.tags if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["role"] == "region" for a in scrolled)


def test_nothing_measured_is_said_and_no_number_made_up() -> None:
    body = report_html(EMPTY).partition("<body>")[2]
    assert body.count("not measured") >= 5
    assert "<svg" not in body
    assert not re.search(r">\s*0", body)


def test_a_claim_on_no_pictures_is_not_measured(plausible: ReportData) -> None:
    nothing = float("nan")
    claim = dataclasses.replace(
        plausible.claims[0], n=0, abstained=0, shares={}, low={}, high={}, tv=nothing, tv_low=nothing
    )
    text = report_html(dataclasses.replace(EMPTY, claims=[claim]))
    assert "nan" not in text.partition("<main")[2].lower().replace("provenance", "")
    assert ">0.0\u00a0%" not in text
    assert "<svg" not in text


def test_an_arm_that_only_some_prompts_have(plausible: ReportData) -> None:
    text = report_html(dataclasses.replace(EMPTY, claims=plausible.claims[:6]))
    assert text.count(">not measured<") >= 2


def test_losses_that_are_not_numbers_draw_nothing() -> None:
    text = report_html(dataclasses.replace(EMPTY, losses=[(0, float("nan")), (1, 0.5), (2, float("inf"))]))
    assert "<svg" in text


def test_pictures_in_a_row_are_capped_and_gaps_named(plausible: ReportData) -> None:
    png = plausible.pictures[0].png
    many = [Picture("p", "base", seed, png) for seed in range(20)] + [Picture("p", "repaired", 19, png)]
    text = report_html(dataclasses.replace(EMPTY, pictures=many))
    assert text.count("<img") == 9
    assert "seed 19" in text
    assert "12 more seeds not shown" in text
    assert text.count("not drawn") == 7


def test_a_rewritten_prompt_stands_under_its_picture(plausible: ReportData) -> None:
    png = plausible.pictures[0].png
    pair = [Picture("a boss", "base", 1, png), Picture("a boss", "planner", 1, png, "a <female> boss")]
    text = report_html(dataclasses.replace(EMPTY, pictures=pair))
    assert text.count('<span class="drawn">') == 1
    assert '<span class="drawn">a &lt;female&gt; boss</span>' in text
    assert "seed 1: a &lt;female&gt; boss" in text


def test_hashes_are_compared_in_words(plausible: ReportData, page: str) -> None:
    assert "The hashes are equal" in page
    proof = dataclasses.replace(plausible.proofs[0], passed=False, figures={"a": "0" * 64, "b": "1" * 64})
    text = report_html(dataclasses.replace(EMPTY, proofs=[proof]))
    assert "The hashes differ" in text
    assert "✗ fails" in text


def test_two_claims_for_one_place_are_refused(plausible: ReportData) -> None:
    first: Claim = plausible.claims[0]
    with pytest.raises(UsageError, match="two claims"):
        report_html(dataclasses.replace(EMPTY, claims=[first, first]))


def test_a_picture_that_is_no_png_is_refused() -> None:
    with pytest.raises(RefusedInputError, match="not a PNG"):
        report_html(dataclasses.replace(EMPTY, pictures=[Picture("p", "base", 3, b"<svg onload=x>" * 9)]))


def test_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "report.html"
    write_report(EMPTY, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EnvironmentLackError, match="No space left"):
        write_report(dataclasses.replace(EMPTY, title="other"), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_folder_is_no_place_for_the_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        write_report(EMPTY, tmp_path)
