"""From an audit's records to what the template shows: prompts in order, tables as text, charts as SVG."""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.audit.results import Claim, Rate
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.report import text
from counterpoise.report.charts import Bar, Distance, Drawing, bars, distances
from counterpoise.report.data import Picture, ReportData

PICTURES_A_ROW = 8
_PNG = b"\x89PNG\r\n\x1a\n"


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table: the estimate and, smaller, its interval or a remark."""

    main: str
    note: str = ""


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its name, a cell an arm, and the target where the row has one."""

    name: str
    cells: Sequence[Cell]
    target: str = ""


@final
@dataclass(frozen=True, slots=True)
class Ratio:
    """The group drawn most often so, against the others, in words; method is empty where none was used."""

    headline: str
    detail: str = ""
    method: str = ""


@final
@dataclass(frozen=True, slots=True)
class Panel:
    """A chart with its table: one audited attribute of one prompt, or one rate by group."""

    title: str
    arms: Sequence[str]
    rows: Sequence[Row]
    totals: Sequence[Row]
    method: str
    drawing: Drawing | None
    ratios: Sequence[tuple[str, Ratio]] = ()

    @property
    def ratio_methods(self) -> list[str]:
        """How the ratios' intervals were made, each way once."""
        return list(dict.fromkeys(ratio.method for _, ratio in self.ratios if ratio.method))


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """A picture as the page embeds it."""

    source: str
    width: int
    height: int


@final
@dataclass(frozen=True, slots=True)
class Gallery:
    """The same seeds under each arm: columns are seeds, rows are arms, None where nothing was drawn."""

    seeds: Sequence[int]
    rows: Sequence[tuple[str, Sequence[Shown | None]]]
    omitted: int


@final
@dataclass(frozen=True, slots=True)
class PromptSection:
    """Everything about one prompt."""

    prompt: str
    held_out: bool
    panels: Sequence[Panel]
    gallery: Gallery | None


def arms_of(data: ReportData) -> list[str]:
    """Every arm that the data name, in order of first appearance."""
    rows = (data.claims, data.rates, data.disparities, data.coverage, data.pictures)
    return list(dict.fromkeys(row.arm for kind in rows for row in kind))


def prompt_sections(data: ReportData) -> list[PromptSection]:
    """One section for each prompt that was audited or drawn, in order of first appearance."""
    prompts = dict.fromkeys([*(c.prompt for c in data.claims), *(p.prompt for p in data.pictures)])
    return [_prompt_section(prompt, data) for prompt in prompts]


def _prompt_section(prompt: str, data: ReportData) -> PromptSection:
    claims = [c for c in data.claims if c.prompt == prompt]
    pictures = [p for p in data.pictures if p.prompt == prompt]
    return PromptSection(
        prompt=prompt,
        held_out=any(c.held_out for c in claims),
        panels=[claim_panel(group, data.bar) for group in attribute_groups(claims)],
        gallery=gallery(pictures) if pictures else None,
    )


def attribute_groups(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Claims that share prompt, attribute and target, together; two of one arm there are refused."""
    groups: dict[tuple[object, ...], dict[str, Claim]] = {}
    for claim in claims:
        key = (claim.prompt, claim.attribute, tuple(claim.target.items()))
        arms = groups.setdefault(key, {})
        if claim.arm in arms:
            raise UsageError(
                f"report: two claims for prompt {claim.prompt!r}, attribute {claim.attribute!r}, "
                f"arm {claim.arm!r}; expected one: merge them, or give the arms different names",
                code="E_REPORT_DUPLICATE",
            )
        arms[claim.arm] = claim
    return [list(arms.values()) for arms in groups.values()]


def claim_panel(claims: Sequence[Claim], bar: float) -> Panel:
    """Chart and table for one attribute of one prompt: shares by value and arm, then the distances."""
    first = claims[0]
    values = list(dict.fromkeys([*first.target, *(v for c in claims for v in c.shares)]))
    drawn = [c for c in claims if c.n > 0]
    drawing = None
    if drawn:
        drawing = bars(
            [_share_bar(c, v) for v in values for c in drawn],
            arms=[c.arm for c in drawn],
            axis="share of pictures",
            label=f"Chart: share of each perceived {text.clip(first.attribute, 60)} by arm, with intervals "
            f"and target, for the prompt {text.clip(first.prompt, 120)}. The table holds the numbers.",
        )
    return Panel(
        title=first.attribute,
        arms=[c.arm for c in claims],
        rows=[_share_row(v, claims) for v in values],
        totals=_totals(claims, bar),
        method=methods(claims),
        drawing=drawing,
    )


def _share_bar(claim: Claim, value: str) -> Bar:
    return Bar(
        place=value,
        arm=claim.arm,
        value=claim.shares.get(value, math.nan),
        low=claim.low.get(value, math.nan),
        high=claim.high.get(value, math.nan),
        target=claim.target.get(value, math.nan),
    )


def _share_row(value: str, claims: Sequence[Claim]) -> Row:
    cells = [
        share_cell(c.shares.get(value), c.low.get(value, math.nan), c.high.get(value, math.nan), c.n)
        for c in claims
    ]
    return Row(value, cells, text.percent(claims[0].target.get(value, 0.0)))


def share_cell(share: float | None, low: float, high: float, n: int) -> Cell:
    """A share with its interval, or "not measured" where there are no pictures or no share."""
    if n <= 0 or share is None or not math.isfinite(share):
        return Cell(text.NOT_MEASURED)
    return Cell(text.percent(share), text.percent_interval(low, high))


def _totals(claims: Sequence[Claim], bar: float) -> list[Row]:
    def numbers(name: str, figures: Sequence[float]) -> Row:
        pairs = zip(claims, figures, strict=True)
        return Row(name, [Cell(text.number(f) if c.n > 0 else text.NOT_MEASURED) for c, f in pairs])

    return [
        counts("pictures (n)", [c.n for c in claims]),
        counts("of these, no reading", [c.abstained for c in claims]),
        Row("distance to target (TV)", [tv_cell(c) for c in claims]),
        numbers("a fair model's floor at this n", [c.tv_floor for c in claims]),
        numbers("TV less the floor", [c.tv_corrected for c in claims]),
        Row(f"against the bar of {bar:.2f}", [Cell(standing(c, bar)) for c in claims]),
    ]


def counts(name: str, figures: Sequence[int]) -> Row:
    """A row of whole numbers."""
    return Row(name, [Cell(str(figure)) for figure in figures])


def tv_cell(claim: Claim) -> Cell:
    """The total variation distance with its interval, or "not measured"."""
    if claim.n <= 0 or not math.isfinite(claim.tv):
        return Cell(text.NOT_MEASURED)
    return Cell(text.number(claim.tv), text.interval(claim.tv_low, claim.tv_high))


def standing(claim: Claim, bar: float) -> str:
    """How the distance stands to the bar, in words: certain only where the whole interval agrees."""
    if claim.n <= 0 or not math.isfinite(claim.tv):
        return text.NOT_MEASURED
    if claim.tv_high < bar:
        return "under"
    if claim.tv_low >= bar:
        return "over"
    side = "under" if claim.tv < bar else "over"
    if side == "over" and claim.tv_corrected < bar:
        side = "over (under less the floor)"
    return f"estimate {side}; interval crosses"


def methods(rows: Iterable[Claim | Rate]) -> str:
    """How the intervals were made, once for each method and confidence among the rows."""
    return "; ".join(dict.fromkeys(f"{r.method} at {100 * r.confidence:g}\u00a0%" for r in rows))


def summary(data: ReportData) -> tuple[Drawing | None, Panel | None]:
    """The chart of every distance to its target, and the same as a table; None where nothing was audited."""
    groups = attribute_groups(data.claims)
    if not groups:
        return None, None
    arms = list(dict.fromkeys(c.arm for c in data.claims))
    several = len({c.attribute for c in data.claims}) > 1
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(c.prompt for c in data.claims), 1)}
    rows, table = [], []
    for group in groups:
        first, number = group[0], numbers[group[0].prompt]
        name = f"{number}. " + (f"{text.clip(first.attribute, 24)} · " if several else "") + first.prompt
        measured = [c for c in group if c.n > 0 and math.isfinite(c.tv)]
        rows += [Distance(name, c.arm, c.tv, c.tv_low, c.tv_high, c.tv_floor) for c in measured]
        found = {c.arm: c for c in group}
        cells = [tv_cell(found[arm]) if arm in found else Cell(text.NOT_MEASURED) for arm in arms]
        table.append(Row(name, cells))
    label = f"Chart: total variation distance to the target for each prompt and arm; the bar is {data.bar:g}."
    drawing = distances(rows, bar=data.bar, arms=arms, label=label) if rows else None
    return drawing, Panel("Distance to the target", arms, table, [], methods(data.claims), drawing)


def gallery(pictures: Sequence[Picture]) -> Gallery:
    """The pictures of one prompt on common seeds: seeds that most arms share first, at most eight."""
    cells: Mapping[tuple[str, int], Picture] = {(p.arm, p.seed): p for p in pictures}
    arms = list(dict.fromkeys(p.arm for p in pictures))
    seeds = sorted({p.seed for p in pictures}, key=lambda s: (-sum((a, s) in cells for a in arms), s))
    kept = sorted(seeds[:PICTURES_A_ROW])
    rows = []
    for arm in arms:
        found = [cells.get((arm, seed)) for seed in kept]
        rows.append((arm, [_shown(p) if p else None for p in found]))
    return Gallery(kept, rows, len(seeds) - len(kept))


def _shown(picture: Picture) -> Shown:
    head = picture.png[:24]
    if len(head) < 24 or head[:8] != _PNG or head[12:16] != b"IHDR":
        raise RefusedInputError(
            f"report: the picture of arm {picture.arm!r}, seed {picture.seed}, is not a PNG file "
            f"(it starts with {picture.png[:8]!r}); encode it as PNG first",
            code="E_REPORT_PICTURE",
        )
    width, height = struct.unpack(">II", head[16:24])
    return Shown(f"data:image/png;base64,{b64encode(picture.png).decode('ascii')}", width, height)
