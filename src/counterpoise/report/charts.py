"""The page's charts, each drawn twice: wide for screens and paper, narrow for a phone.

Rows of plain numbers in, `Drawing` out. Labels reach a chart clipped, distinct and with nothing hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import altair as alt
from markupsafe import Markup

from counterpoise.report.palette import ALARM, ARM_COLOURS, INK, MUTED, slots
from counterpoise.report.svg import render
from counterpoise.report.text import distinct

WIDE, NARROW = 740, 300
_ARM_LABEL, _VALUE_LABEL = 26, 26
_FIT = alt.AutoSizeParams(type="fit-x", contains="padding")


@final
@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart in its two widths; both carry the same accessible name."""

    wide: Markup
    narrow: Markup


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """One estimate in a chart: where it stands, whose it is, its interval, and its target if it has one."""

    place: str
    arm: str
    value: float
    low: float
    high: float
    target: float = math.nan


@final
@dataclass(frozen=True, slots=True)
class Distance:
    """One arm's distance to the target for one audited prompt, with its interval and the fair floor."""

    prompt: str
    arm: str
    tv: float
    low: float
    high: float
    floor: float


def distances(rows: Sequence[Distance], *, bar: float | None, arms: Sequence[str], label: str) -> Drawing:
    """Dots with intervals, one block a prompt, an arm a row; a grey zone to the floor, perhaps a bar."""
    return _twice(lambda width: _distances(rows, bar, arms, width), label)


def bars(rows: Sequence[Bar], *, arms: Sequence[str], axis: str, label: str) -> Drawing:
    """Shares or rates with intervals, grouped by place, one bar an arm; targets as lines across a group."""
    return _twice(lambda width: _bars(rows, arms, axis, width), label)


def curve(points: Sequence[tuple[int, float]], *, label: str) -> Drawing:
    """A training loss by step; a long one as the median and the 10 to 90 % range of 120 stretches."""
    return _twice(lambda width: _curve(points, width), label)


def _twice(draw: Callable[[int], Any], label: str) -> Drawing:
    return Drawing(wide=render(draw(WIDE), label), narrow=render(draw(NARROW), label))


def _data(rows: Sequence[Mapping[str, object]]) -> alt.InlineData:
    """Rows as data: a number that is not finite becomes null, which draws nothing."""
    clean = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in r.items()} for r in rows
    ]
    return alt.InlineData(values=clean)


def _arm_colour(labels: Mapping[str, str], legend: Any) -> alt.Color:
    places = slots(labels)
    colours = [ARM_COLOURS[places[arm]][0] for arm in labels]
    return alt.Color("arm:N", scale=alt.Scale(domain=list(labels.values()), range=colours), legend=legend)


def _distances(rows: Sequence[Distance], bar: float | None, arms: Sequence[str], width: int) -> Any:
    names, wide = distinct(arms, _ARM_LABEL), width == WIDE
    prompts = distinct((r.prompt for r in rows), 90 if wide else 32)
    shown = [{**asdict(r), "prompt": prompts[r.prompt], "arm": names[r.arm]} for r in rows]
    for row, r in zip(shown, rows, strict=True):
        row["words"] = f"{r.tv:.3f}  [{r.low:.3f}, {r.high:.3f}]" if wide else f"{r.tv:.3f}"
    base, plot = alt.Chart(_data(shown)), width - (260 if wide else 132)
    extent = 88 if wide else 70
    labels = alt.Axis(minExtent=extent, maxExtent=extent, labelLimit=extent - 6)
    y = alt.Y("arm:N", sort=list(names.values()), title=None, axis=labels, scale=alt.Scale(padding=0))
    top = max([2 * (bar or 0.05), *(r.high for r in rows if math.isfinite(r.high))])
    scale = alt.Scale(domain=[0, min(1, math.ceil(top * 10) / 10)], nice=False)
    axis = alt.Axis(tickCount=6 if wide else 3)
    x = alt.X("low:Q", scale=scale, title="total variation distance to the target", axis=axis)
    colour = _arm_colour(names, None)
    zone = base.mark_bar(color=MUTED, fillOpacity=0.2, height={"band": 1}).encode(x="floor:Q", y=y)
    dashes = base.mark_rule(color=ALARM, strokeDash=[4, 3], strokeWidth=1.5)
    line = [] if bar is None else [dashes.encode(x=alt.datum(bar))]
    span = base.mark_rule(strokeWidth=2.5, strokeCap="round").encode(x=x, x2="high:Q", y=y, color=colour)
    dot = base.mark_circle(size=80, opacity=1).encode(x="tv:Q", y=y, color=colour)
    words = base.mark_text(align="left", color=INK, fontSize=12).encode(
        x=alt.value(plot + 12), y=y, text="words:N"
    )
    layers = alt.layer(zone, *line, span, dot, words).properties(width=plot, height=alt.Step(20))
    header = alt.Header(labelAnchor="start", labelOrient="top", labelAngle=0, labelLimit=width, title=None)
    return layers.facet(row=alt.Row("prompt:N", sort=list(prompts.values()), header=header))


def _bars(rows: Sequence[Bar], arms: Sequence[str], axis: str, width: int) -> Any:
    """Wide: columns that stand; narrow: the same lying, so that names of places have room."""
    wide = width == WIDE
    names, places = distinct(arms, _ARM_LABEL), distinct((r.place for r in rows), _VALUE_LABEL)
    base = alt.Chart(
        _data([{**asdict(r), "place": places[r.place], "arm": names[r.arm]} for r in rows]),
    )
    share: dict[str, Any] = {
        "scale": alt.Scale(domain=[0, 1]),
        "title": axis,
        "axis": alt.Axis(format="%", tickCount=5),
    }
    place, shared = _places(places, names, wide)
    along: Any = alt.Y if wide else alt.X
    at, until = ("y", "y2") if wide else ("x", "x2")

    def encoded(field: str, **others: Any) -> dict[str, Any]:
        return {at: along(field, **share), **others}

    layers = [
        base.mark_bar(fillOpacity=0.32).encode(**encoded("value:Q", **shared)),
        base.mark_rule(strokeWidth=2, strokeCap="round").encode(
            **encoded("low:Q", **shared, **{until: "high:Q"})
        ),
        base.mark_circle(size=48, opacity=1).encode(**encoded("value:Q", **shared)),
    ]
    if any(math.isfinite(r.target) for r in rows):
        across: Any = {"width" if wide else "height": {"band": 1}}
        layers.append(base.mark_tick(color=INK, thickness=2, **across).encode(**encoded("target:Q", **place)))
    height = 260 if wide else max(200, len(places) * (len(names) * 13 + 12))
    return alt.layer(*layers).properties(width=width - 8, height=height, autosize=_FIT)


def _places(
    places: Mapping[str, str], names: Mapping[str, str], wide: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Encodings of the axis of places alone, and with each arm's own lane and colour on it."""
    axis = alt.Axis(labelAngle=-30 if wide and len(places) > 8 else 0, labelLimit=130 if wide else 90)
    options: dict[str, Any] = {"sort": list(places.values()), "title": None, "axis": axis}
    options["scale"] = alt.Scale(paddingInner=0.25)
    lanes: dict[str, Any] = {"scale": alt.Scale(domain=list(names.values()), paddingInner=0.15)}
    legend = alt.Legend(symbolType="circle", columns=0 if wide else 2, symbolOpacity=1)
    place: dict[str, Any]
    lane: dict[str, Any]
    if wide:
        place, lane = {"x": alt.X("place:N", **options)}, {"xOffset": alt.XOffset("arm:N", **lanes)}
    else:
        place, lane = {"y": alt.Y("place:N", **options)}, {"yOffset": alt.YOffset("arm:N", **lanes)}
    return place, {**place, **lane, "color": _arm_colour(names, legend)}


def _curve(points: Sequence[tuple[int, float]], width: int) -> Any:
    rows = _stretches([p for p in points if math.isfinite(p[1])])
    base = alt.Chart(_data(rows))
    x = alt.X(
        "step:Q", title="training step", axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(nice=False)
    )
    y = alt.Y("loss:Q", title="loss", axis=alt.Axis(tickCount=5))
    colour = ARM_COLOURS[1][0]
    band = base.mark_area(color=colour, fillOpacity=0.18).encode(
        x=x, y=alt.Y("low:Q", title="loss"), y2="high:Q"
    )
    line = base.mark_line(color=colour, strokeWidth=2).encode(x=x, y=y)
    return alt.layer(band, line).properties(width=width - 8, height=220, autosize=_FIT)


def _stretches(points: Sequence[tuple[int, float]], count: int = 120) -> list[dict[str, float]]:
    size = max(1, math.ceil(len(points) / count))
    rows = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        losses = sorted(loss for _, loss in part)
        last = len(losses) - 1
        rows.append(
            {
                "step": part[last // 2][0],
                "loss": losses[last // 2],
                "low": losses[round(0.1 * last)],
                "high": losses[round(0.9 * last)],
            }
        )
    return rows
