"""Evidence against images drawn: the e-values of one question, arm by arm, as a small chart of its own.

Both axes are logarithmic. An e-value may be looked at after every picture: where a line has once been above
1/alpha, the chance that a fair model did that is at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup, escape

from counterpoise.audit.results import Finding
from counterpoise.report import text
from counterpoise.report.ledger import e_value
from counterpoise.report.palette import ALARM, ARM_COLOURS, GRID, INK, MUTED, slots

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 16, 38
_LOG10 = math.log(10.0)
_LOW, _HIGH = -2, 6  # powers of ten that are drawn; what leaves is marked and told in words
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
MOST_LINES = 8


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One arm's line in words, with the number of its dash pattern (as in the chart)."""

    arm: str
    pattern: int
    words: str


@final
@dataclass(frozen=True, slots=True)
class EvidenceChart:
    """The chart, and each of its lines in words, which hold the same without the picture."""

    drawing: Markup
    lines: Sequence[Line]


def evidence_chart(
    findings: Sequence[Finding], *, confidence: float, arms: Sequence[str], subject: str
) -> EvidenceChart | None:
    """The paths of these findings (one an arm, at most 8); None where none has a path.

    arms: every arm of the report, so that an arm has one colour through the whole page.
    """
    drawn = [f for f in findings if _finite(f)][:MOST_LINES]
    if not drawn:
        return None
    border = 1.0 / (1.0 - confidence)
    last = max(n for f in drawn for n, _ in _finite(f))
    places = slots(arms)
    parts = [_frame(last, math.log10(border))]
    lines = []
    for i, f in enumerate(drawn):
        colour = ARM_COLOURS[places.get(f.arm, i % len(ARM_COLOURS))][0]
        parts.append(_line(_finite(f), last, colour, _DASHES[i % len(_DASHES)]))
        lines.append(Line(f.arm, i % len(_DASHES), _words(f, border)))
    label = escape(
        f"Chart: e-value against pictures drawn, {text.clip(subject, 160)}; both axes logarithmic, with a "
        f"line at 1/alpha = {border:.0f}. The list beside it says where each arm's line ends."
    )
    start = (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{_FONT}" '
        'font-size="11">'
    )
    return EvidenceChart(Markup(start + "".join(parts) + "</svg>"), lines)


def _finite(finding: Finding) -> list[tuple[int, float]]:
    """(pictures, log10 e), from the first picture on."""
    return [(n, log_e / _LOG10) for n, log_e in finding.path if n >= 1 and math.isfinite(log_e)]


def _x(n: float, last: int) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * math.log(max(n, 1)) / math.log(max(last, 10))


def _y(tens: float) -> float:
    inside = min(max(tens, _LOW), _HIGH)
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (_HIGH - inside) / (_HIGH - _LOW)


def _frame(last: int, border: float) -> str:
    """Grid, ticks and the line at 1/alpha; ticks at powers of ten."""
    right, floor = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for tens in range(_LOW, _HIGH + 1, 2):
        y = f"{_y(tens):.1f}"
        name = f"{10**tens:,}" if tens >= 0 else f"{10.0**tens:g}"
        name = "10⁶" if tens == 6 else "10⁴" if tens == 4 else name
        parts.append(f'<path d="M{_LEFT},{y}H{right}" stroke="{GRID}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y}" dy="4" text-anchor="end" fill="{INK}">{name}</text>')
    for n in [*(10**k for k in range(12) if 10**k < 0.6 * last), last]:
        parts.append(
            f'<text x="{_x(n, last):.1f}" y="{floor + 15}" text-anchor="middle" fill="{INK}">{n}</text>'
        )
    y = f"{_y(border):.1f}"
    parts.append(
        f'<path d="M{_LEFT},{y}H{right}" stroke="{ALARM}" stroke-width="1.5" stroke-dasharray="4 3"/>'
    )
    middle = (_LEFT + right) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle" fill="{MUTED}">pictures drawn</text>'
    )
    return "".join(parts)


def _line(points: Sequence[tuple[int, float]], last: int, colour: str, dash: str) -> str:
    shown = points if len(points) <= 200 else [*points[:: -(-len(points) // 200)], points[-1]]
    steps: list[str] = []
    for n, tens in shown:
        step = f"{_x(n, last):.1f},{_y(tens):.1f}"
        if not steps or steps[-1] != step:
            steps.append(step)
        if tens >= _HIGH:  # what leaves at the top stays out: its end is told in words
            break
    x, y = steps[-1].split(",")
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    path = f'<path d="M{"L".join(steps)}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>'
    if shown[len(steps) - 1 if len(steps) <= len(shown) else -1][1] >= _HIGH or float(y) <= _TOP:
        tip = float(x)
        arrow = f"M{tip - 5:.1f},{_TOP + 3}L{tip:.1f},{_TOP - 6}L{tip + 5:.1f},{_TOP + 3}Z"
        return path + f'<path d="{arrow}" fill="{colour}"/>'
    return path + f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>'


def _words(finding: Finding, border: float) -> str:
    points = _finite(finding)
    crossed = next((n for n, tens in points if tens >= math.log10(border)), None)
    n, tens = points[-1]
    reached = (
        f"above {border:.0f} by picture {crossed}" if crossed is not None else f"never above {border:.0f}"
    )
    return f"{reached}; {e_value(tens * _LOG10)} after {n} pictures"
