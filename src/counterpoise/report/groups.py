"""Rates by group as the page shows them: a chart, a table, and the highest against the others in words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from counterpoise.audit.results import Disparity, Rate
from counterpoise.audit.spec import SLOT
from counterpoise.errors import UsageError
from counterpoise.report import text
from counterpoise.report.charts import Bar, Drawing, bars
from counterpoise.report.sections import Panel, Ratio, Row, counts, methods, share_cell
from counterpoise.report.tables import Cell

_Key = tuple[str, str, str]
# Of a page: panels, groups in a table, groups that a chart can tell apart.
MOST_PANELS, MOST_GROUPS, MOST_BARS = 12, 60, 30


def rate_panels(rates: Sequence[Rate], disparities: Sequence[Disparity]) -> tuple[list[Panel], int]:
    """One panel for each template, attribute and counted value: groups by arms; and how many have no room."""
    found: dict[_Key, list[Rate]] = {}
    for rate in rates:
        key = (template_of(rate, disparities), rate.attribute, rate.value)
        found.setdefault(key, []).append(rate)
    compared: dict[_Key, list[Disparity]] = {}
    for d in disparities:
        compared.setdefault((d.template, d.attribute, d.value), []).append(d)
    kept = list(found.items())[:MOST_PANELS]
    return [_panel(key, rows, compared.get(key, [])) for key, rows in kept], len(found) - len(kept)


def template_of(rate: Rate, disparities: Sequence[Disparity]) -> str:
    """The template that the prompt was made from; where no disparity names it, a guess at what groups share.

    The guess takes the group's word out, and the article before it: "a tan" and "an olive" are one slot.
    """
    for d in disparities:
        same = (d.attribute, d.value) == (rate.attribute, rate.value)
        if same and d.template.replace(SLOT, rate.group) == rate.prompt:
            return d.template
    word = rf"\b(?:an?\s+)?{re.escape(rate.group)}\b"
    return re.sub(word, lambda _: SLOT, rate.prompt, count=1) if rate.group else rate.prompt


def _panel(key: _Key, rates: Sequence[Rate], compared: Sequence[Disparity]) -> Panel:
    template, attribute, value = key
    arms = list(dict.fromkeys(r.arm for r in rates))
    cells = _by_place(rates)
    ratios = {d.arm: ratio_in_words(d) for d in compared}
    return Panel(
        title=f"{value} {attribute}: {template.replace(SLOT, '…')}",
        arms=arms,
        rows=[
            Row(group, [_cell(cells.get((group, arm))) for arm in arms])
            for group in list(dict.fromkeys(r.group for r in rates))[:MOST_GROUPS]
        ],
        totals=[
            counts("pictures (n), all groups", [sum(r.n for r in rates if r.arm == a) for a in arms]),
            counts("of these, no reading", [sum(r.abstained for r in rates if r.arm == a) for a in arms]),
        ],
        method=methods(rates),
        measured=any(r.n > 0 for r in rates),
        drawing=_chart(key, [r for r in rates if r.n > 0 and math.isfinite(r.rate)], arms),
        ratios=[(arm, ratios.get(arm, Ratio(text.NOT_MEASURED))) for arm in arms],
    )


def _by_place(rates: Sequence[Rate]) -> dict[tuple[str, str], Rate]:
    cells: dict[tuple[str, str], Rate] = {}
    for rate in rates:
        if (rate.group, rate.arm) in cells:
            raise UsageError(
                f"report: two rates of {rate.value!r} for group {rate.group!r}, arm {rate.arm!r}; "
                "expected one: merge them, or give the arms different names",
                code="E_REPORT_DUPLICATE",
            )
        cells[rate.group, rate.arm] = rate
    return cells


def _chart(key: _Key, rates: Sequence[Rate], arms: Sequence[str]) -> Drawing | None:
    template, attribute, value = key
    if not rates or len({r.group for r in rates}) > MOST_BARS:
        return None
    return bars(
        [Bar(r.group, r.arm, r.rate, r.low, r.high) for r in rates],
        arms=arms,
        axis=f"share drawn {text.clip(value, 40)}",
        label=f"Chart: rate of {text.clip(value, 60)} {text.clip(attribute, 60)} by group and arm, with "
        f"intervals, for the prompt {text.clip(template, 120)}. The table holds the numbers.",
    )


def _cell(rate: Rate | None) -> Cell:
    if rate is None:
        return Cell(text.NOT_MEASURED)
    cell = share_cell(rate.rate, rate.low, rate.high, rate.n)
    return Cell(cell.main, f"{cell.note} of {rate.n}") if cell.note else cell


def ratio_in_words(disparity: Disparity) -> Ratio:
    """One arm's group with the highest rate against all the others' pictures together, in words."""
    d = disparity
    detail = (
        f"{d.group} {text.percent(d.rate)} of {d.n} pictures, "
        f"the other groups {text.percent(d.others_rate)} of {d.n_others}"
    )
    method = f"{d.method} at {100 * d.confidence:g}\u00a0%"
    if d.ratio is None and d.rate == 0:
        return Ratio("drawn so for no group", detail, method)
    times = "drawn so for one group only" if d.ratio is None else f"{d.ratio:.1f} times as often"
    high = "no upper limit" if d.high is None else f"{d.high:.1f}"
    return Ratio(f"{times} [{d.low:.1f}, {high}]", detail, method)
