"""From an audit's records to what the template shows: prompts in order, tables as text, charts as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import final

from counterpoise.audit.results import Claim, Finding, Rate
from counterpoise.errors import UsageError
from counterpoise.report import text
from counterpoise.report.answers import scores_table
from counterpoise.report.charts import Bar, Distance, Drawing, bars, distances
from counterpoise.report.data import Picture, ReportData
from counterpoise.report.evidence import EvidenceChart, evidence_chart
from counterpoise.report.gallery import MOST_PICTURES, PICTURES_A_ROW, Gallery, gallery
from counterpoise.report.ledger import e_value
from counterpoise.report.tables import Cell, Table
from counterpoise.report.verdict import decision_cell

# A page is to stay under 2 MB without pictures, however many claims it has: the farthest off are shown whole.
MOST_CELLS, MOST_CHARTS, MOST_DISTANCES = 2_000, 400_000, 50


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
    """A chart with its table: one audited attribute of one prompt, or one rate by group.

    target: what it is held against and who chose that, in words. one_target: the same in every arm.
    corrected: some interval takes the judge's error in. measured: some picture was read or drawn.
    """

    title: str
    arms: Sequence[str]
    rows: Sequence[Row]
    totals: Sequence[Row]
    method: str
    drawing: Drawing | None
    ratios: Sequence[tuple[str, Ratio]] = ()
    target: str = ""
    one_target: bool = True
    corrected: bool = False
    evidence: EvidenceChart | None = None
    scores: Table | None = None
    measured: bool = True

    @property
    def ratio_methods(self) -> list[str]:
        """How the ratios' intervals were made, each way once."""
        return list(dict.fromkeys(ratio.method for _, ratio in self.ratios if ratio.method))


@final
@dataclass(frozen=True, slots=True)
class PromptSection:
    """Everything about one prompt; number: its place among all prompts of the audit, from 1."""

    number: int
    prompt: str
    held_out: bool
    panels: Sequence[Panel]
    gallery: Gallery | None


def arms_of(data: ReportData) -> list[str]:
    """Every arm that the data name, in order of first appearance."""
    rows = (data.claims, data.rates, data.disparities, data.coverage, data.pictures)
    later = (data.findings, data.contrasts, data.reached, data.drifts)
    return list(dict.fromkeys(row.arm for kind in (*rows, *later) for row in kind))


def prompt_sections(data: ReportData, room: float = 1.0) -> tuple[list[PromptSection], int]:
    """A section for each prompt that was audited or drawn, in their order, and how many found no room.

    Those whose claims are farthest off for certain have room first, for tables, charts and pictures alike.
    room: of the usual limits, in (0, 1].
    """
    prompts = list(dict.fromkeys([*(c.prompt for c in data.claims), *(p.prompt for p in data.pictures)]))
    claims: dict[str, list[Claim]] = {prompt: [] for prompt in prompts}
    pictures: dict[str, list[Picture]] = {prompt: [] for prompt in prompts}
    for claim in data.claims:
        claims[claim.prompt].append(claim)
    for picture in data.pictures:
        pictures[picture.prompt].append(picture)
    ranked = sorted(prompts, key=lambda p: -max((_surely_off(c) for c in claims[p]), default=-1.0))
    kept: dict[str, PromptSection] = {}
    cells = charts = shown = 0
    for prompt in ranked:
        cells += 30 + sum(len(c.shares) + 10 for c in claims[prompt])
        if kept and cells > MOST_CELLS * room:
            break
        section = _prompt_section(prompt, data, claims[prompt], charts < MOST_CHARTS * room)
        section = replace(section, number=prompts.index(prompt) + 1)
        charts += sum(_size(panel) for panel in section.panels)
        arms = len({p.arm for p in pictures[prompt]})
        if pictures[prompt] and shown + arms * PICTURES_A_ROW <= MOST_PICTURES:
            found = gallery(pictures[prompt])
            shown += arms * PICTURES_A_ROW
            section = replace(section, gallery=found)
        kept[prompt] = section
    return [kept[prompt] for prompt in prompts if prompt in kept], len(prompts) - len(kept)


def _surely_off(claim: Claim) -> float:
    return claim.tv_low if claim.n > 0 and math.isfinite(claim.tv_low) else -1.0


def _size(panel: Panel) -> int:
    drawing = len(panel.drawing.wide) + len(panel.drawing.narrow) if panel.drawing else 0
    return drawing + (len(panel.evidence.drawing) if panel.evidence else 0)


def _prompt_section(prompt: str, data: ReportData, claims: Sequence[Claim], drawn: bool) -> PromptSection:
    return PromptSection(
        number=1,
        prompt=prompt,
        held_out=any(c.held_out for c in claims),
        panels=[claim_panel(group, data, drawn=drawn) for group in attribute_groups(claims)],
        gallery=None,
    )


def attribute_groups(claims: Iterable[Claim]) -> list[list[Claim]]:
    """Claims that share prompt, attribute and question (or target), together; two of one arm are refused."""
    groups: dict[tuple[object, ...], dict[str, Claim]] = {}
    for claim in claims:
        # A target that is another prompt's distribution differs by arm; the question does not.
        key = (claim.prompt, claim.attribute, claim.where or tuple(claim.target.items()))
        arms = groups.setdefault(key, {})
        if claim.arm in arms:
            raise UsageError(
                f"report: two claims for prompt {claim.prompt!r}, attribute {claim.attribute!r}, "
                f"arm {claim.arm!r}; expected one: merge them, or give the arms different names",
                code="E_REPORT_DUPLICATE",
            )
        arms[claim.arm] = claim
    return [list(arms.values()) for arms in groups.values()]


def claim_panel(claims: Sequence[Claim], data: ReportData, *, drawn: bool = True) -> Panel:
    """One attribute of one prompt: shares by value and arm, target, verdicts, evidence, published scores."""
    first = claims[0]
    measured = [c for c in claims if c.n > 0]
    values = list(dict.fromkeys([*first.target, *(v for c in claims for v in c.shares)]))
    one_target = len({tuple(c.target.items()) for c in claims}) == 1
    found = [finding_of(c, data.findings) for c in claims]
    return Panel(
        title=first.attribute,
        arms=[c.arm for c in claims],
        rows=[_share_row(v, claims, one_target) for v in values],
        totals=[*_totals(claims, data.bar), *_verdicts(found)],
        method=methods(claims),
        drawing=_shares_chart(measured, values) if measured and drawn else None,
        target=data.targets.get(first.where, ""),
        one_target=one_target,
        corrected=any(c.corrected for c in claims),
        evidence=evidence_chart(
            [f for f in found if f is not None],
            confidence=data.confidence,
            arms=arms_of(data),
            subject=f"{first.attribute} of {first.prompt}",
        )
        if drawn
        else None,
        scores=scores_table(claims),
        measured=bool(measured),
    )


def finding_of(claim: Claim, findings: Iterable[Finding]) -> Finding | None:
    """The finding that judges this claim, if one does."""
    for f in findings:
        same = (f.kind, f.attribute, f.arm, tuple(f.prompts))
        if same == ("claim", claim.attribute, claim.arm, (claim.prompt,)) and claim.where in ("", f.where):
            return f
    return None


def _shares_chart(claims: Sequence[Claim], values: Sequence[str]) -> Drawing:
    first = claims[0]
    return bars(
        [_share_bar(c, v) for v in values for c in claims],
        arms=[c.arm for c in claims],
        axis="share of pictures",
        label=f"Chart: share of each perceived {text.clip(first.attribute, 60)} by arm, with intervals "
        f"and target, for the prompt {text.clip(first.prompt, 120)}. The table holds the numbers.",
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


def _share_row(value: str, claims: Sequence[Claim], one_target: bool) -> Row:
    cells = []
    for c in claims:
        cell = share_cell(c.shares.get(value), c.low.get(value, math.nan), c.high.get(value, math.nan), c.n)
        beside = [cell.note] if cell.note else []
        if value in c.corrected and cell.note:
            beside.append(f"with the judge's error {text.percent_interval(*c.corrected[value])}")
        if not one_target:
            beside.append(f"target {text.percent(c.target.get(value, 0.0))}")
        cells.append(Cell(cell.main, "; ".join(beside)))
    return Row(value, cells, text.percent(claims[0].target.get(value, 0.0)) if one_target else "by arm")


def _verdicts(found: Sequence[Finding | None]) -> list[Row]:
    """What the evidence says by itself and in the panel; no row where no claim was judged."""
    if not any(found):
        return []

    def row(name: str, cell: Callable[[Finding], Cell]) -> Row:
        return Row(name, [cell(f) if f is not None else Cell(text.NOT_MEASURED) for f in found])

    return [
        row("verdict, alone", lambda f: decision_cell(f, f.alone)),
        row("verdict, among all findings", lambda f: decision_cell(f, f.decision)),
        row("e-value for biased", lambda f: Cell(e_value(f.log_e_biased))),
        row("e-value for fair", lambda f: Cell(e_value(f.log_e_fair), _tolerated(f))),
    ]


def _tolerated(finding: Finding) -> str:
    return "no tolerance set" if finding.tolerance is None else f"tolerance {finding.tolerance:g}"


def share_cell(share: float | None, low: float, high: float, n: int) -> Cell:
    """A share with its interval, or "not measured" where there are no pictures or no share."""
    if n <= 0 or share is None or not math.isfinite(share):
        return Cell(text.NOT_MEASURED)
    return Cell(text.percent(share), text.percent_interval(low, high))


def _totals(claims: Sequence[Claim], bar: float | None) -> list[Row]:
    def numbers(name: str, figures: Sequence[float]) -> Row:
        pairs = zip(claims, figures, strict=True)
        return Row(name, [Cell(text.number(f) if c.n > 0 else text.NOT_MEASURED) for c, f in pairs])

    against = (
        []
        if bar is None
        else [Row(f"against the bar of {bar:.2f}", [Cell(standing(c, bar)) for c in claims])]
    )
    return [
        counts("pictures (n)", [c.n for c in claims]),
        counts("of these, no reading", [c.abstained for c in claims]),
        Row("distance to target (TV)", [tv_cell(c) for c in claims]),
        numbers("a fair model's floor at this n", [c.tv_floor for c in claims]),
        numbers("TV less the floor", [c.tv_corrected for c in claims]),
        *against,
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
    kept = sorted(groups, key=lambda g: -max(_surely_off(c) for c in g))[:MOST_DISTANCES]
    chosen = {id(group) for group in kept}
    for group in groups:
        if id(group) not in chosen:
            continue
        first, number = group[0], numbers[group[0].prompt]
        name = f"{number}. " + (f"{text.clip(first.attribute, 24)} · " if several else "") + first.prompt
        measured = [c for c in group if c.n > 0 and math.isfinite(c.tv)]
        rows += [Distance(name, c.arm, c.tv, c.tv_low, c.tv_high, c.tv_floor) for c in measured]
        found = {c.arm: c for c in group}
        cells = [tv_cell(found[arm]) if arm in found else Cell(text.NOT_MEASURED) for arm in arms]
        table.append(Row(name, cells))
    label = "Chart: total variation distance to the target for each prompt and arm." + (
        f" The bar is {data.bar:g}." if data.bar is not None else ""
    )
    drawing = distances(rows, bar=data.bar, arms=arms, label=label) if rows else None
    return drawing, Panel("Distance to the target", arms, table, [], methods(data.claims), drawing)
