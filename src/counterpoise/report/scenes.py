"""The page of an audit of scenes: its figures, bars, tables of places and pictures.

Comes in: an `Audit` and the files of its pictures. Goes out: report.html, and contact sheets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from counterpoise.measure.pictures import load_picture
from counterpoise.report import palette
from counterpoise.report.charts import Bar as ChartBar
from counterpoise.report.charts import Drawing, bars
from counterpoise.report.contact import contact_sheet
from counterpoise.report.data import Picture
from counterpoise.report.lead import Section
from counterpoise.report.page import rendered, write_page
from counterpoise.report.tables import Cell, Mark, Table, figure, span
from counterpoise.report.text import NOT_MEASURED, clip
from counterpoise.report.thumbs import Shown, thumbnail
from counterpoise.scenes.auditing.audit import BARS, Audit
from counterpoise.scenes.auditing.figures import Figure
from counterpoise.scenes.auditing.places import Places
from counterpoise.scenes.records import record_of

SHOWN, SHOWN_SIDE, ON_SHEET, SHEET_WIDTH = 24, 288, 200, 1600
_UNITS = {
    **dict.fromkeys(("correct", "unread", "count", "rate", "share"), "share"),
    **dict.fromkeys(("skew", "disparity", "time", "calls"), "times"),
    "leak": "points",
}
_MARKS: dict[str, Mark] = {"passed": "yes", "failed": "no", "undecided": "none", "not measured": "none"}
_SIGNS = {
    "passed": "✓ passed",
    "failed": "✗ failed",
    "undecided": "? undecided",
    "not measured": NOT_MEASURED,
}
_SECTIONS = (
    (
        "What the boxes hold",
        ("correct", "unread", "count"),
        "A box is right if all planned attributes that the judge reads are read in it.",
    ),
    (
        "Leaks between people",
        ("leak",),
        "How much oftener a value is read in a box if another person of the picture has it than if none has.",
    ),
    (
        "Shares",
        ("deviation", "distance", "skew", "share"),
        "Planned shares, and what is read: a picture counts as one cluster.",
    ),
    (
        "Associations inside boxes",
        ("disparity", "rate"),
        "The highest group's rate over the lowest one's: 1 means that boxes of all groups are alike.",
    ),
    ("Cost", ("time", "calls"), "Over a plain picture of the same canvas."),
)


def sheet_of(files: Sequence[Path]) -> Image.Image:
    """A contact sheet of picture files, at most the first ON_SHEET, on white where sizes differ."""
    found = [load_picture(path).pixels for path in files[:ON_SHEET]]
    height, width = max(own.shape[0] for own in found), max(own.shape[1] for own in found)
    padded = np.full((len(found), height, width, 3), 255, np.uint8)
    for i, own in enumerate(found):
        padded[i, : own.shape[0], : own.shape[1]] = own
    names = [path.stem for path in files[:ON_SHEET]]
    return contact_sheet(padded, columns=max(1, min(len(found), SHEET_WIDTH // width)), labels=names)


def write_scenes(found: Audit, pictures: Sequence[Path], path: Path) -> Path:
    """Writes the page and returns its path; errors as `write_report`'s."""
    page = rendered(
        "scenes.html.j2",
        title="Scenes, box by box",
        verdict=sentence(found),
        intro=[f"{len(found.seen)} pictures of {_people(found)} planned people, read by {found.judge}."],
        sections=[_bars_section(found), *_figure_sections(found), *_place_sections(found.places)],
        slots=palette.slots(["read"]),
        pictures=_shown(found, pictures),
        left_out=max(0, len(pictures) - SHOWN),
        limits=[*found.notes, *_LIMITS],
        commands=["counterpoise scene audit PICTURES --out FOLDER"],
        facts=_facts(found, pictures),
    )
    write_page(page, path)
    return path


_LIMITS = (
    "Attributes are perceived by a judge, whose own errors are in these figures and not in their intervals.",
    "Only planned attributes that the judge reads are judged; whoever stands outside every box is seen by "
    "the count alone.",
)


def sentence(found: Audit) -> str:
    """The share of right boxes, and what the bars say."""
    e = found.figure("correct").estimate
    told = (
        f"{figure(e.value, 'share')} {span(e.low, e.high, 'share')} of the boxes hold all that was planned."
        if e
        else "No box could be judged."
    )
    answers = [each.answer for each in found.decisions]
    if answers:
        counts = ", ".join(f"{answers.count(a)} {a}" for a in dict.fromkeys(answers))
        told += f" Bars: {counts}."
    return told


def _people(found: Audit) -> int:
    return sum(len(one.plan.people) for one in found.seen)


def _bars_section(found: Audit) -> Section:
    told = {bar.option: bar for bar in BARS}
    rows = [
        [
            Cell(f"{told[each.bar].told}{f', {each.of}' if each.of else ''}"),
            Cell(f"{'at least' if told[each.bar].least else 'at most'} {each.limit:g}"),
            Cell(_SIGNS[each.answer], mark=_MARKS[each.answer]),
        ]
        for each in found.decisions
    ]
    prose = ["Passed or failed where the whole interval lies on one side of the bar."]
    if not rows:
        return Section("Bars", ["None was set: name them with --correct, --leak, --distance and others."])
    return Section(
        "Bars", prose, [Table("Bars and what the figures say of them", ("bar", "limit", "answer"), rows)]
    )


def _figure_sections(found: Audit) -> list[Section]:
    sections = []
    for title, kinds, told in _SECTIONS:
        own = [each for kind in kinds for each in found.figures if each.kind == kind]
        if own:
            rows = [[Cell(f"{each.kind} {each.of}".strip()), *_cells(each)] for each in own]
            ways = dict.fromkeys(each.estimate.method for each in own if each.estimate)
            notes = [f"Intervals at 95 %: {'; '.join(ways)}."] if ways else []
            table = Table(title, ("figure", "value", "n", "remark"), rows, notes)
            sections.append(
                Section(title, [told], [table], _charts(own) if title == "Associations inside boxes" else [])
            )
    return sections


def _cells(each: Figure) -> list[Cell]:
    e = each.estimate
    if e is None:
        return [Cell(NOT_MEASURED), Cell("-"), Cell(each.note)]
    unit = _UNITS.get(each.kind, "")
    return [Cell(figure(e.value, unit), span(e.low, e.high, unit)), Cell(str(e.n)), Cell(each.note or "-")]


def _charts(own: Sequence[Figure]) -> list[tuple[str, Drawing]]:
    rows = [
        ChartBar(
            each.of.rpartition(": ")[2], "read", each.estimate.value, each.estimate.low, each.estimate.high
        )
        for each in own
        if each.kind == "rate" and each.estimate
    ]
    if not rows:
        return []
    label = "Chart: how often the value is read in each group's boxes."
    return [("Equal heights: no association is left.", bars(rows, arms=["read"], axis="rate", label=label))]


def _place_sections(tables: Sequence[Places]) -> list[Section]:
    if not tables:
        return []
    made = [
        Table(
            f"{each.axis} by place, the back row first",
            (each.axis, *each.places, "all"),
            [
                [Cell(group), *(Cell(str(n)) for n in row), Cell(str(sum(row)))]
                for group, row in zip(each.groups, each.counts, strict=True)
            ],
            [
                f"Chi-square {each.statistic:.2f}, {each.expected:.2f} were places given by lot; as uneven a "
                f"table comes by lot with p = {each.p:.3f}."
            ],
        )
        for each in tables
    ]
    return [Section("Who stands where", ["Small chi-squares: no group keeps a place."], made)]


@final
@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    shown: Shown
    words: str


def _shown(found: Audit, pictures: Sequence[Path]) -> list[_Picture]:
    made = []
    for one, path in list(zip(found.seen, pictures, strict=True))[:SHOWN]:
        plan = one.plan
        picture = Picture(plan.scene.prompt, "scene", plan.render.seed, path.read_bytes())
        wrong = found.wrong[one.name]
        words = f"{len(plan.people) - len(wrong)} of {len(plan.people)} boxes as planned"
        words += f"; read otherwise: {'; '.join(wrong)}" if wrong else ""
        made.append(_Picture(one.name, thumbnail(picture, side=SHOWN_SIDE), clip(words, 600)))
    return made


def _facts(found: Audit, pictures: Sequence[Path]) -> dict[str, str]:
    facts = {"judge": found.judge}
    for path in pictures:
        record = record_of(path)
        if record is not None:
            way = record.way
            mended = f", failing boxes drawn again at most {way.tries} times" if way.mended else ""
            facts |= {"model": record.model, "sha256 of the weights": record.weights}
            facts["drawn"] = (
                f"guidance {way.guidance:g}, {way.steps} steps, batches of {way.batch_size}, {way.dtype}"
            )
            facts["drawn"] += mended
            break
    return facts
