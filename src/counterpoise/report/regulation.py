"""Forms that help to answer NIST AI 600-1 MS-2.11, the EU AI Act's Annex XI and NYC Local Law 144.

They are made from the same records as the rest of the report, and they are not legal advice. What an audit
of drawn pictures cannot answer stands there as such.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.audit.results import Claim, Rate
from counterpoise.audit.spec import SLOT
from counterpoise.audit.targets import AND
from counterpoise.report import text
from counterpoise.report.data import ReportData
from counterpoise.report.groups import template_of
from counterpoise.report.tables import Cell, Table, capped, measured_cell, span
from counterpoise.report.verdict import FAIR
from counterpoise.stats import share_bounds

SMALL = 0.02  # LL144, 6 RCNY 5-301(c): a category of less than 2 % may be left out of the ratios
MOST_TABLES, MOST_ROWS = 12, 60
_NOT_ASKED = "not measured: the spec asks no such question"
WAYS = "Binomial confidence sequences (valid at every n at once), simultaneous over the categories"


@final
@dataclass(frozen=True, slots=True)
class Form:
    """One regulation's tables, with what they are in a sentence; left_out: claims without room."""

    name: str
    about: str
    tables: Sequence[Table]
    left_out: int = 0


@final
@dataclass(frozen=True, slots=True)
class Category:
    """How often a category was selected: count of n; unknown: of n, without a reading."""

    name: str
    arm: str
    count: int
    n: int
    unknown: int


def forms(data: ReportData) -> list[Form]:
    """The three forms."""
    return [_nist(data), _annex(data), _local_law(data)]


def _nist(data: ReportData) -> Form:
    tables = [_tests(data), _low_context(data), _counterfactual(data), _prevalence(data)]
    return Form(
        "NIST AI 600-1, MS-2.11: fairness assessment",
        "Statistical hypothesis tests, low-context prompts, counterfactual prompts and prevalence by "
        "sub-group. Denigration is answered only as far as the judge reads it.",
        tables,
    )


def _tests(data: ReportData) -> Table:
    names = {
        "claim": "distribution of an attribute against its target",
        "disparity": "rates of counterfactual prompts",
        "reachability": "explicit and negative prompts obeyed",
        "drift": "change against a baseline arm",
    }
    rows = []
    for kind, name in names.items():
        mine = [f for f in data.findings if f.kind == kind]
        counts = Counter(f.decision for f in mine)
        figures = [str(n) for n in (len(mine), counts["biased"], counts[FAIR], counts["undecided"])]
        rows.append([Cell(name), *(Cell(n) for n in (figures if mine else [text.NOT_MEASURED, "", "", ""]))])
    notes = (
        f"Each test is an e-value, at {100 * data.confidence:g}\u00a0% confidence; multiplicity over all "
        f"tests: {data.multiplicity}; stopping: {data.stopping}.",
    )
    columns = ("hypothesis", "tests", "biased", "fair within tolerance", "undecided")
    return Table("Statistical hypothesis tests", columns, rows, notes)


def _low_context(data: ReportData) -> Table:
    """Prompts that leave the attribute open: any target but one that asks for a single value."""
    rows = []
    for c in data.claims:
        if c.n <= 0 or not c.shares or max(c.target.values(), default=1.0) >= 1.0:
            continue
        top = max(c.shares, key=lambda v: c.shares[v])
        interval = span(c.low.get(top, math.nan), c.high.get(top, math.nan), "share")
        rows.append(
            [
                Cell(f"“{text.clip(c.prompt, 90)}”", c.attribute),
                Cell(text.clip(c.arm, 60), arm=c.arm),
                Cell(f"{top} {text.percent(c.shares[top])}", f"{interval} of {c.n}"),
                Cell(text.percent(c.target.get(top, 0.0))),
                Cell(str(c.abstained)),
            ]
        )
    notes = _claim_methods(data.claims) if rows else (_NOT_ASKED,)
    columns = ("prompt and attribute", "arm", "most drawn", "its target", "no reading")
    return capped(
        Table("Low-context prompts: what is drawn when nothing is said", columns, rows, notes), MOST_ROWS
    )


def _claim_methods(claims: Sequence[Claim]) -> tuple[str, ...]:
    ways = dict.fromkeys(f"{c.method} at {100 * c.confidence:g}\u00a0%" for c in claims if c.n > 0)
    return (f"Intervals: {'; '.join(ways)}.",)


def _counterfactual(data: ReportData) -> Table:
    """For each template and event the pair of groups that is farthest apart, arm by arm."""
    worst: dict[tuple[str, ...], int] = {}
    for i, c in enumerate(data.contrasts):
        key = (c.template, c.attribute, c.value, c.arm)
        best = worst.get(key)
        if best is None or abs(c.difference.value or 0) > abs(data.contrasts[best].difference.value or 0):
            worst[key] = i
    rows = []
    for c in (data.contrasts[i] for i in worst.values()):
        rows.append(
            [
                Cell(f"{c.value} {c.attribute}", f"“{text.clip(c.template.replace(SLOT, '…'), 90)}”"),
                Cell(text.clip(c.arm, 60), arm=c.arm),
                Cell(f"{c.group} against {c.reference}"),
                measured_cell(c.difference, "points"),
                measured_cell(c.ratio, "times"),
            ]
        )
    ways = "; ".join(dict.fromkeys(m.method for c in data.contrasts for m in (c.difference, c.ratio)))
    notes = (f"Intervals: {ways}, at {100 * data.confidence:g}\u00a0%.",) if rows else (_NOT_ASKED,)
    columns = ("event and template", "arm", "groups farthest apart", "difference", "ratio")
    return capped(Table("Counterfactual prompts, paired by seed", columns, rows, notes), MOST_ROWS)


def _prevalence(data: ReportData) -> Table:
    rows = [
        [
            Cell(f"{r.value} {r.attribute}", f"“{text.clip(r.prompt, 90)}”"),
            Cell(r.group),
            Cell(text.clip(r.arm, 60), arm=r.arm),
            Cell(text.percent(r.rate), f"{span(r.low, r.high, 'share')} of {r.n}")
            if r.n > 0
            else Cell(text.NOT_MEASURED),
            Cell(str(r.abstained)),
        ]
        for r in data.rates
    ]
    ways = "; ".join(dict.fromkeys(f"{r.method} at {100 * r.confidence:g}\u00a0%" for r in data.rates))
    notes = (f"Intervals: {ways}.",) if rows else (_NOT_ASKED,)
    columns = ("event and prompt", "group", "arm", "prevalence", "no reading")
    return capped(Table("Prevalence by sub-group", columns, rows, notes), MOST_ROWS)


def _annex(data: ReportData) -> Form:
    """Annex XI: what of it an evaluation of outputs can answer, in words with figures."""
    arms = list(dict.fromkeys(c.arm for c in data.coverage)) or ["none"]
    drawn, planned = sum(c.drawn for c in data.coverage), sum(c.planned for c in data.coverage)
    prompts = (
        {c.prompt for c in data.claims} | {r.prompt for r in data.rates} | {r.prompt for r in data.reached}
    )
    counts = Counter(f.decision for f in data.findings)
    results = (
        f"{len(data.findings)} findings: {counts['biased']} biased, {counts[FAIR]} fair within tolerance, "
        f"{counts['undecided']} undecided"
        if data.findings
        else text.NOT_MEASURED
    )
    scores = ", ".join(dict.fromkeys(s.name for c in data.claims for s in c.scores))
    judged = "; ".join(f"{j.name}, version {j.version}" for j in data.judges) or "not recorded"
    strategy = (
        f"{drawn} of {planned} planned pictures over {len(prompts)} prompts and {len(arms)} arms, the same "
        f"seeds in every arm; stopping: {data.stopping}"
    )
    counts_of = {"explicit or negative prompts": data.reached, "counterfactual pairs": data.contrasts}
    tried = ", ".join(f"{len(found)} {name}" for name, found in counts_of.items() if found)
    against = f"; {len(data.drifts)} comparisons with a baseline" if data.drifts else ""
    rows = [
        ("evaluation strategy", strategy if data.coverage else text.NOT_MEASURED),
        (
            "evaluation criteria",
            "targets as stated with every claim; biased: shown to be past the tolerance (where none is "
            "stated: to be off target at all); fair: shown to be within it; else undecided",
        ),
        (
            "metrics",
            "shares, rates, total variation distance, differences and ratios of rates, e-values"
            + (f"; published scores: {scores}" if scores else ""),
        ),
        (
            "methodology",
            f"e-values and confidence sequences at {100 * data.confidence:g} %, multiplicity "
            f"{data.multiplicity}; docs/statistics.md names every source",
        ),
        ("evaluation results", results),
        (
            "identification of limitations",
            "the section on limits, the judges' measured errors, and coverage",
        ),
        ("methods to detect identifiable biases", f"pictures read by {judged}"),
        ("adversarial testing", f"{tried or text.NOT_MEASURED}; no attack on the model was tried"),
        ("model adaptations", f"arms: {', '.join(text.clip(a, 60) for a in arms)}{against}"),
        ("training data, compute, energy", "not answered by an audit of outputs: the provider has to"),
    ]
    table = Table(
        "Annex XI, as far as an audit of outputs can answer it",
        ("item", "this audit's answer"),
        [[Cell(name), Cell(answer)] for name, answer in rows],
    )
    return Form(
        "EU AI Act, Annex XI: technical documentation",
        "Evaluation strategy, criteria, metrics, methodology and limits. Figures stand in the tables.",
        [table],
    )


def _local_law(data: ReportData) -> Form:
    groups = _by_group(data)[:MOST_TABLES]
    categories, without = _by_category(data, MOST_TABLES - len(groups))
    kept = [*groups, *categories]
    if not kept:
        kept = [Table("Rates and impact ratios", _COLUMNS, [], (_NOT_ASKED,))]
    return Form(
        "NYC Local Law 144: rates and impact ratios",
        f"Date of the audit: {data.dated or 'not given'}. The law is about hiring tools; this is its table "
        "form, with the share of pictures in the place of the selection rate. The impact ratio is a "
        "category's rate divided by the highest rate.",
        kept,
        without,
    )


_COLUMNS = ("category", "arm", "count", "rate", "impact ratio", "unknown", "remark")


def _by_group(data: ReportData) -> list[Table]:
    """Rates of an event by group: a group's pictures are its applicants."""
    found: dict[tuple[str, str, str], list[Rate]] = {}
    for rate in data.rates:
        template = template_of(rate, data.disparities)
        found.setdefault((template, rate.attribute, rate.value), []).append(rate)
    tables = []
    for (template, attribute, value), rates in found.items():
        rows: list[list[Cell]] = []
        for arm in dict.fromkeys(r.arm for r in rates):
            mine = [r for r in rates if r.arm == arm]
            categories = [
                Category(r.group, arm, round(r.rate * r.n) if r.n > 0 else 0, r.n, r.abstained) for r in mine
            ]
            sizes = [c.n for c in categories]
            rows += impact_rows(categories, sizes, data.confidence)
        shown = text.clip(template.replace(SLOT, "…"), 90)
        caption = f"Rate of {value} {attribute} by group, for “{shown}”"
        tables.append(
            capped(
                Table(caption, _COLUMNS, rows, (f"{WAYS}, at {100 * data.confidence:g}\u00a0%.",)), MOST_ROWS
            )
        )
    return tables


def _by_category(data: ReportData, room: int) -> tuple[list[Table], int]:
    """Who is drawn: shares by perceived category, of an intersection also of each of its attributes.

    Intersections come first, then what is farthest off its target; and how many claims found no room.
    """
    found: dict[tuple[str, str], dict[str, Claim]] = {}
    for claim in data.claims:
        if claim.n > 0 and claim.shares and max(claim.target.values(), default=0.0) < 1.0:
            found.setdefault((claim.prompt, claim.attribute), {}).setdefault(claim.arm, claim)

    def order(item: tuple[tuple[str, str], dict[str, Claim]]) -> tuple[bool, float]:
        return AND not in item[0][1], -max(claim.tv_low for claim in item[1].values())

    tables: list[Table] = []
    ranked = sorted(found.items(), key=order)
    for done, ((prompt, attribute), claims) in enumerate(ranked):
        if len(tables) >= room:
            return tables, len(ranked) - done
        tables += _categories(prompt, attribute, list(claims.values()))
    return tables, 0


def _categories(prompt: str, attribute: str, claims: Sequence[Claim]) -> list[Table]:
    rows_of: dict[str, list[list[Cell]]] = {}
    for claim in claims:
        counts = {v: round(s * claim.n) for v, s in claim.shares.items()}
        for name, margin in margins(attribute, counts).items():
            categories = [Category(v, claim.arm, k, claim.n, claim.abstained) for v, k in margin.items()]
            rows = impact_rows(categories, list(margin.values()), claim.confidence)
            rows_of.setdefault(name, []).extend(rows)
    notes = (f"{WAYS}, at {100 * claims[0].confidence:g}\u00a0%.",)
    about = f"drawn for “{text.clip(prompt, 90)}”"
    return [
        capped(Table(f"Perceived {name} {about}", _COLUMNS, rows, notes), MOST_ROWS)
        for name, rows in rows_of.items()
    ]


def margins(attribute: str, counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Counts of an attribute, or of an intersection's attributes one by one and then of the intersection."""
    names = attribute.split(AND)
    parts = {value: value.split(AND) for value in counts}
    found: dict[str, dict[str, int]] = {}
    if len(names) > 1 and all(len(p) == len(names) for p in parts.values()):
        for i, name in enumerate(names):
            margin = found.setdefault(name, {})
            for value, count in counts.items():
                margin[parts[value][i]] = margin.get(parts[value][i], 0) + count
    return {**found, attribute: dict(counts)}


def impact_rows(categories: Sequence[Category], sizes: Sequence[int], confidence: float) -> list[list[Cell]]:
    """One row a category: count, rate, impact ratio against the highest rate, unknown, remark.

    sizes: what a category's share of all is taken of, for the 2 % mark. Unread pictures stay in n; an
    interval reaches from "none of them was selected" to "all of them were".
    """
    total = sum(sizes)
    measured = [c for c in categories if c.n > 0]
    top = max(measured, key=lambda c: c.count / c.n, default=None)
    alpha = (1.0 - confidence) / max(len(measured), 1)
    ends = _ends(measured, alpha)
    rows = []
    for c, size in zip(categories, sizes, strict=True):
        small = (
            "under 2\u00a0% of the pictures: may be left out with a reason" if size < SMALL * total else ""
        )
        if c.n <= 0 or top is None:
            rate = ratio = Cell(text.NOT_MEASURED)
        else:
            low, high = ends[c.name]
            rate = Cell(text.percent(c.count / c.n), f"{span(low, high, 'share')} of {c.n}")
            ratio = _ratio(c, top, ends)
        name = Cell(c.name)
        arm = Cell(text.clip(c.arm, 60), arm=c.arm)
        rows.append([name, arm, Cell(str(c.count)), rate, ratio, Cell(str(c.unknown)), Cell(small)])
    return rows


def _ends(measured: Sequence[Category], alpha: float) -> dict[str, tuple[float, float]]:
    if not measured:
        return {}
    most = [min(c.count + c.unknown, c.n) for c in measured]
    n = [c.n for c in measured]
    lows, _ = share_bounds([c.count for c in measured], n, alpha=alpha)
    _, highs = share_bounds(most, n, alpha=alpha)
    return {c.name: (float(lows[i]), float(highs[i])) for i, c in enumerate(measured)}


def _ratio(c: Category, top: Category, ends: Mapping[str, tuple[float, float]]) -> Cell:
    best = top.count / top.n
    if best == 0:
        return Cell(text.NOT_MEASURED, "no category was selected")
    ratio = c.count / c.n / best
    if c.name == top.name:
        return Cell(f"{ratio:.2f}", "the highest rate")
    (low, high), (top_low, top_high) = ends[c.name], ends[top.name]
    upper = high / top_low if top_low > 0 else None
    return Cell(f"{ratio:.2f}", span(low / top_high, upper, "times"))
