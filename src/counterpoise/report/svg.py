"""From an altair chart to a small SVG element that can stand in a page: no ids, no namespaces, no links."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import altair
import vl_convert
from markupsafe import Markup, escape

from counterpoise.report.palette import GRID, INK, MUTED

FONT = "Arial, Liberation Sans, Helvetica, sans-serif"
_KEPT = frozenset(
    {"viewBox", "width", "height", "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r"}
    | {"fill", "stroke", "fill-opacity", "stroke-opacity", "stroke-width", "stroke-dasharray"}
    | {"stroke-linecap", "text-anchor", "font-size", "font-weight"}
)
_INHERITED = (
    *("fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray"),
    *("stroke-linecap", "text-anchor", "font-size", "font-weight"),
)
_LENGTHY = re.compile(r"-?\d+\.\d{2,}(?:e-?\d+)?")


def render(chart: Any, label: str) -> Markup:
    """The chart as one inline `<svg role="img">` whose accessible name is `label`; same chart, same bytes."""
    spec = chart.configure(**_config()).to_dict(validate=False)  # our own charts, held by tests
    text = vl_convert.vegalite_to_svg(spec, vl_version=_grammar_version())
    root = ElementTree.fromstring(text)  # vl-convert's own output: user text is already escaped in it
    _strip(root)
    body = ElementTree.tostring(root, encoding="unicode")
    start = f'<svg role="img" aria-label="{escape(label)}" font-family="{FONT}"'
    return Markup(body.replace("<svg", start, 1))


def _strip(node: ElementTree.Element) -> None:
    """Keep what is drawn: local names, the attributes that matter, one decimal, no groups without a use."""
    node.tag = node.tag.rpartition("}")[2]
    kept = {k: _LENGTHY.sub(_rounded, v) for k, v in node.attrib.items() if k in _KEPT}
    children: list[ElementTree.Element] = []
    for child in node:
        empty = child.tag.endswith("}path") and child.get("class") in {"background", "foreground"}
        if empty and not child.get("fill") and not child.get("stroke"):
            continue
        _strip(child)
        if child.tag == "g" and not child.attrib:
            children += child
        elif child.tag != "g" or len(child):
            children.append(child)
    node[:] = children
    node.attrib.clear()
    node.attrib.update(kept)
    if node.tag == "g":
        _hoist(node)


def _hoist(group: ElementTree.Element) -> None:
    """What all the children of a group have in common is said once, by the group."""
    for name in _INHERITED:
        values = {child.get(name) for child in group}
        if len(group) > 1 and len(values) == 1 and None not in values:
            group.set(name, values.pop() or "")
            for child in group:
                del child.attrib[name]


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match.group()):.1f}".removesuffix(".0")


def _grammar_version() -> str:
    """The Vega-Lite that altair writes, if vl-convert has it, else vl-convert's newest of that major."""
    wanted = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    known = vl_convert.get_vegalite_versions()
    return wanted if wanted in known else known[-1]


def _config() -> dict[str, Any]:
    words = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": 12, "titleFontSize": 12}
    axis = {
        **words,
        "labelColor": INK,
        "titleColor": MUTED,
        "titleFontWeight": "normal",
        "gridColor": GRID,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "titlePadding": 8,
    }
    return {
        "aria": False,  # the element is one image with one name; the numbers stand in a table beside it
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "axis": axis,
        "header": {
            **words,
            "labelFontSize": 13,
            "labelFontWeight": "bold",
            "labelColor": INK,
            "labelPadding": 2,
        },
        "legend": {**words, "labelColor": INK, "orient": "top", "title": None, "symbolSize": 110},
        "view": {"stroke": None},
        "facet": {"spacing": 14},
    }
