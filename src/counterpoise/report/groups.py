"""Rates by group as the page shows them: a chart, a table, and the worst against the others in words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from counterpoise.audit.results import Rate
from counterpoise.errors import UsageError
from counterpoise.report import text
from counterpoise.report.charts import Bar, bars
from counterpoise.report.sections import Panel, Row, counts, share_cell
from counterpoise.stats.ratio import risk_ratio


def rate_panels(rates: Sequence[Rate]) -> list[Panel]:
    """One panel for each template, attribute and counted value: groups by arms."""
    found: dict[tuple[str, str, str], list[Rate]] = {}
    for rate in rates:
        found.setdefault((template(rate), rate.attribute, rate.value), []).append(rate)
    return [_panel(key, rows) for key, rows in found.items()]


def template(rate: Rate) -> str:
    """The prompt with its group's word, and the article before it, taken out: what the groups share."""
    word = rf"\b(?:an?\s+)?{re.escape(rate.group)}\b"
    return re.sub(word, "…", rate.prompt, count=1, flags=re.IGNORECASE) if rate.group else rate.prompt


def _panel(key: tuple[str, str, str], rates: Sequence[Rate]) -> Panel:
    prompt, attribute, value = key
    groups = list(dict.fromkeys(r.group for r in rates))
    arms = list(dict.fromkeys(r.arm for r in rates))
    cells: dict[tuple[str, str], Rate] = {}
    for rate in rates:
        if (rate.group, rate.arm) in cells:
            raise UsageError(
                f"report: two rates of {value!r} for group {rate.group!r}, arm {rate.arm!r}; expected one",
                code="E_REPORT_DUPLICATE",
            )
        cells[rate.group, rate.arm] = rate
    measured = [r for r in rates if r.n > 0 and math.isfinite(r.rate)]
    drawing = None
    if measured:
        label = (
            f"Chart: rate of {text.clip(value, 60)} {text.clip(attribute, 60)} by group and arm, with "
            f"intervals, for the prompt {text.clip(prompt, 120)}. The table holds the numbers."
        )
        places = [
            Bar(r.group, r.arm, r.rate, r.low, r.high) for g in groups for r in measured if r.group == g
        ]
        drawing = bars(places, arms=arms, axis=f"share drawn {text.clip(value, 40)}", label=label)
    return Panel(
        title=f"{value} {attribute}, {prompt}",
        arms=arms,
        rows=[_row(group, [cells.get((group, arm)) for arm in arms]) for group in groups],
        totals=[
            counts("pictures (n), all groups", [sum(r.n for r in rates if r.arm == a) for a in arms]),
            counts("of these, no reading", [sum(r.abstained for r in rates if r.arm == a) for a in arms]),
        ],
        method="; ".join(dict.fromkeys(f"{r.method} at {100 * r.confidence:g}\u00a0%" for r in rates)),
        drawing=drawing,
        words=[worst_in_words(arm, [r for r in measured if r.arm == arm]) for arm in arms],
    )


def _row(group: str, rates: Sequence[Rate | None]) -> Row:
    nothing = share_cell(None, math.nan, math.nan, 0)
    return Row(group, [share_cell(r.rate, r.low, r.high, r.n) if r else nothing for r in rates])


def worst_in_words(arm: str, rates: Sequence[Rate]) -> str:
    """The group with the highest rate against all the others' pictures together, as a sentence.

    The interval is of the ratio of these two rates; it does not pay for having picked the highest group
    after looking, and the sentence says so.
    """
    if len(rates) < 2:
        return f"{arm}: {text.NOT_MEASURED} for two groups or more, so there is nothing to compare."
    worst = max(rates, key=lambda r: r.rate)
    others = [r for r in rates if r is not worst]
    count, n = sum(_count(r) for r in others), sum(r.n for r in others)
    rest = f"{text.percent(count / n)} of the other groups' {n} pictures"
    if _count(worst) == 0:
        return f"{arm}: never drawn for any group, in {worst.n + n} pictures."
    ratio = risk_ratio((_count(worst), worst.n), (count, n), confidence=worst.confidence)
    high = f"{ratio.high:.1f}" if math.isfinite(ratio.high) else "no upper limit"
    times = f"{ratio.value:.1f} times as often" if math.isfinite(ratio.value) else "the others never"
    own = f"{text.percent(worst.rate)} {text.percent_interval(worst.low, worst.high)} of {worst.n}"
    return (
        f"{arm}: highest for {worst.group}, {own}, against {rest}: {times} [{ratio.low:.1f}, {high}] "
        f"({ratio.method} at {100 * worst.confidence:g}\u00a0%, highest group picked after looking)."
    )


def _count(rate: Rate) -> int:
    return round(rate.rate * rate.n)
