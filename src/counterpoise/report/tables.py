"""Tables as the page shows them: a caption, column heads, rows of cells; the first cell of a row names it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

from counterpoise.audit.results import Measured
from counterpoise.report import text

Mark = Literal["", "yes", "no", "none"]


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table: the estimate and, smaller, its interval or a remark.

    mark: a verdict's colour; its sign and words are in `main`, never the colour alone. arm: a swatch before.
    """

    main: str
    note: str = ""
    mark: Mark = ""
    arm: str = ""


@final
@dataclass(frozen=True, slots=True)
class Table:
    """columns: heads, the first that of the rows' names. left_out: rows that the page has no room for."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    left_out: int = 0


def capped(table: Table, most: int) -> Table:
    """The table's first `most` rows, and how many are left out."""
    over = max(0, len(table.rows) - most)
    return Table(table.caption, table.columns, table.rows[:most], table.notes, over)


def measured_cell(found: Measured, unit: str) -> Cell:
    """An estimate in its unit ("share", "points", "times", "distance") with its interval and n."""
    if found.n <= 0 or found.value is None or not math.isfinite(found.value):
        return Cell(text.NOT_MEASURED, f"of {found.n}" if found.n > 0 else "")
    return Cell(figure(found.value, unit), f"{span(found.low, found.high, unit)} of {found.n}".strip())


def figure(value: float, unit: str) -> str:
    """One number in its unit; "not measured" where it is none."""
    if not math.isfinite(value):
        return text.NOT_MEASURED
    if unit == "share":
        return text.percent(value)
    if unit == "points":
        return f"{100 * value:+.1f} points"
    if unit == "times":
        return f"{value:.2f} times"
    return text.number(value)


def span(low: float, high: float | None, unit: str) -> str:
    """An interval in its unit; an upper end that is missing or infinite is said to be none."""
    if not math.isfinite(low):
        return ""
    top = high if high is not None and math.isfinite(high) else None
    if unit in {"share", "points"}:
        signs = "+" if unit == "points" else ""
        end = "no upper limit" if top is None else f"{100 * top:{signs}.1f}"
        return f"[{100 * low:{signs}.1f}, {end}]"
    digits = 2 if unit == "times" else 3
    end = "no upper limit" if top is None else f"{top:.{digits}f}"
    return f"[{low:.{digits}f}, {end}]"


def unit_of(effect_name: str) -> str:
    """The unit in which a finding's effect is shown."""
    units = {"ratio of rates": "times", "difference of rates": "points", "rate": "share"}
    return units.get(effect_name, "distance")


def methods_used(found: Sequence[Measured], confidence: float) -> str:
    """How the intervals were made, each way once."""
    ways = "; ".join(dict.fromkeys(m.method for m in found if m.method))
    return f"Intervals: {ways or 'none'}, at {100 * confidence:g}\u00a0%."
