"""A comparison in words: lines for a terminal, tables for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from counterpoise.audit.comparing.compare import Change, Comparison
from counterpoise.audit.gating.markdown import cell, table
from counterpoise.audit.refusals import literal

MOST = 50


def lines(found: Comparison) -> Iterator[str]:
    """One line a row, then what was not compared, and the sum of it."""
    yield literal(f"{found.before} -> {found.after}")
    for row in found.changes:
        yield f"{row.answer:<10} {literal(row.attribute)} of {literal(repr(row.prompt))}: {numbers(row)}"
    for title, names in _rest(found):
        for name in names:
            yield f"{title:<10} {literal(name)}"
    yield summary(found)


def numbers(row: Change) -> str:
    """`distance 0.412 -> 0.105, change -0.307 [-0.350, -0.210], n = 400, 3 unread, 0 identical`."""
    counts = f"n = {row.n}, {row.missing} unread, {row.identical} identical"
    if row.before is None or row.after is None:
        return f"distance not measured, {counts}"
    change = row.change
    return (
        f"distance {row.before:.3f} -> {row.after:.3f}, change {row.after - row.before:+.3f} "
        f"[{change.low:+.3f}, {change.high or 0.0:+.3f}], {counts}"
    )


def summary(found: Comparison) -> str:
    """How many rows improved, got worse, and are not shown to have moved."""
    counts = [f"{found.count(a)} {a}" for a in ("improved", "got worse", "not shown")]
    return f"of {len(found.changes)} rows {', '.join(counts)} (at {found.confidence:g}, over all rows)"


def compare_markdown(comparisons: Sequence[Comparison]) -> str:
    """All comparisons as Markdown, one table each."""
    return "\n".join(_markdown(found) for found in comparisons)


def _markdown(found: Comparison) -> str:
    rows = [
        (
            {"improved": "**improved**", "got worse": "**got worse**"}.get(row.answer, row.answer),
            cell(row.prompt),
            cell(row.attribute),
            cell(numbers(row)),
        )
        for row in found.changes
    ]
    text = [f"## {cell(found.before)} against {cell(found.after)}", "", cell(summary(found)), ""]
    text.append(table(("answer", "prompt", "attribute", "distance to the target"), rows))
    for title, names in _rest(found):
        if names:
            text += ["", f"{cell(title)}:", "", *[f"- {cell(name)}" for name in names[:MOST]]]
            text += [f"- and {len(names) - MOST} more"] if len(names) > MOST else []
    return "\n".join(text) + "\n"


def _rest(found: Comparison) -> list[tuple[str, tuple[str, ...]]]:
    return [
        ("warning", found.warnings),
        ("differs", found.differs),
        ("only before", found.only_before),
        ("only after", found.only_after),
        ("left out", found.not_compared),
    ]
