"""`counterpoise measure ...`: judges without an audit, reading pictures or calibrated on labelled ones."""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli import console, measure_people
from counterpoise.cli.measure_shared import (
    JsonFlag,
    Paths,
    SkipBad,
    loaded_pictures,
    tell_lost,
    tell_unreadable,
)
from counterpoise.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from counterpoise.measure.calibration import Calibration, Truth
    from counterpoise.measure.pictures import Pictures
    from counterpoise.measure.reading import Measurer, Reading
    from counterpoise.measure.votes import Vote

app = typer.Typer(no_args_is_help=True)
measure_people.register(app)

_Named = Annotated[
    list[str],
    typer.Option("--measurer", help="A judge: skin-tone, onnx:card.toml (`measure judges`); repeatable."),
]
_Options = Annotated[
    list[str] | None, typer.Option("--option", help="A judge's option: nudity.threshold=0.8; repeatable.")
]


@app.command("judges")
def judges() -> None:
    """List the kinds of judge, and the plug-ins that are installed."""
    from counterpoise.measure.judges import KINDS
    from counterpoise.measure.plugins import plugin_names

    rows = [(kind.usage, kind.told) for kind in KINDS]
    for usage, told in [*rows, ("world", "the embedded world's own reader")]:
        console.out.print(f"{usage:<18}{told}")
    for name in plugin_names():
        console.out.print(f"plugin:{name:<11}installed")


@app.command("read")
def read(
    pictures: Paths,
    measurer: _Named,
    option: _Options = None,
    out: Annotated[Path | None, typer.Option(help="Also write the readings as CSV.")] = None,
    skip_bad: SkipBad = False,
    as_json: JsonFlag = False,
) -> None:
    """Say what judges read in pictures."""
    judge = _judge(measurer, option)
    loaded = loaded_pictures(pictures, skip_bad)
    rows = [
        {
            "picture": str(picture.path),
            "attribute": attribute,
            "value": reading.value or "",
            "confidence": reading.confidence,
            "reason": reading.reason,
        }
        for picture, answer in zip(loaded.read, _readings(judge, loaded), strict=True)
        for attribute, reading in answer.items()
    ]
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    if as_json:
        bad = [{"picture": str(each.path), "reason": each.reason} for each in loaded.unreadable]
        told = {"name": judge.name, "version": judge.version}
        console.write_json(json.dumps({"measurer": told, "readings": rows, "unreadable": bad}))
        return
    for row in rows:
        what = row["value"] or f"abstains: {row['reason']}"
        console.out.print(f"{row['picture']}  {row['attribute']}  {what}  ({row['confidence']:.2f})")
    tell_unreadable(loaded)


@app.command("calibrate")
def calibrate(
    pictures: Paths,
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS.csv", help="picture,attribute,value[,rater][,group]")
    ],
    measurer: _Named,
    out: Annotated[Path, typer.Option(help="The calibration card to write (JSON).")],
    source: Annotated[str, typer.Option(help="Who labelled which pictures; kept in the card.")] = "",
    date: Annotated[str | None, typer.Option(help="ISO 8601 date for the card; default: now, UTC.")] = None,
    option: _Options = None,
    skip_bad: SkipBad = False,
    as_json: JsonFlag = False,
) -> None:
    """Count a judge's errors on labelled pictures, by group, into a card."""
    from counterpoise.measure import calibration
    from counterpoise.measure.votes import finder, read_votes, votes_by_picture

    judge = _judge(measurer, option)
    votes = read_votes(labels)
    loaded = loaded_pictures(pictures, skip_bad)
    found, lost = votes_by_picture(votes, finder(loaded.read))
    tell_lost(lost, bool(found))
    distinct = {picture.pixel_sha256: picture for picture in loaded.read}
    truths = {digest: _truth(found.get(digest, ())) for digest in distinct}
    known = [digest for digest, truth in truths.items() if truth.values]
    card = calibration.calibrate(
        judge,
        _asked(judge, [distinct[digest].pixels for digest in known]),
        [truths[digest] for digest in known],
        digests=known,
        source=source or f"labels of {labels.name}",
        made=date,
        unlabelled=len(distinct) - len(known),
        unreadable=len(loaded.unreadable),
    )
    text = json.dumps(card.model_dump(mode="json"), indent=1) + "\n"
    out.write_text(text, "utf-8")
    if as_json:
        console.write_json(text.rstrip())
        return
    _show(card)
    tell_unreadable(loaded)
    console.out.print(f"card     {out.resolve()}  ({card.pictures} pictures)")


def _judge(named: Sequence[str], options: Sequence[str] | None) -> Measurer:
    from counterpoise.measure.heads import load_reader
    from counterpoise.measure.judges import make_measurer
    from counterpoise.world import reader_folder

    given: dict[str, dict[str, object]] = {}
    for each in options or ():
        where, equals, value = each.partition("=")
        name, dot, key = where.rpartition(".")
        try:
            if not (equals and dot):
                raise ValueError
            given.setdefault(name, {})[key] = tomllib.loads(f"value = {value}")["value"]
        except ValueError:
            raise UsageError(
                f"option {each!r:.80}: expected JUDGE.KEY=VALUE with a TOML value, such as "
                "nudity.threshold=0.8",
                code="E_OPTION",
            ) from None
    return make_measurer(named, given, also={"world": lambda: load_reader(reader_folder())})


def _readings(judge: Measurer, loaded: Pictures) -> list[dict[str, Reading]]:
    return _asked(judge, [picture.pixels for picture in loaded.read])


def _asked(judge: Measurer, pictures: Sequence[np.ndarray]) -> list[dict[str, Reading]]:
    """Every picture's reading; a crash is an abstention with its reason."""
    from counterpoise.audit.readings import BLANK, read_pictures
    from counterpoise.measure.skin import SkinTone

    rows = []
    for pixels in pictures:
        row = read_pictures(pixels[None], judge)[0]
        if isinstance(judge, SkinTone) and all(each.reason == BLANK for each in row.values()):
            row = judge(pixels[None])[0]  # a swatch is one colour all over, and a skin tone all the same
        rows.append(row)
    return rows


def _truth(votes: Sequence[Vote]) -> Truth:
    """What the raters of one picture say together, attribute by attribute; ties say nothing."""
    from counterpoise.measure.calibration import Truth
    from counterpoise.measure.votes import group_of, majority

    answers: dict[str, dict[str, str]] = {}
    for vote in votes:
        answers.setdefault(vote.attribute, {})[vote.rater] = vote.value
    verdicts = {attribute: majority(by_rater).value for attribute, by_rater in answers.items()}
    return Truth({name: value for name, value in verdicts.items() if value is not None}, group_of(votes))


def _show(card: Calibration) -> None:
    from counterpoise.stats.proportions import clopper_pearson

    for each in card.confusions:
        group = "all" if each.group is None else each.group
        for true, row in zip(each.truth, each.counts, strict=True):
            console.out.print(f"{each.attribute}, group {group}: truth {true}, n = {sum(row)}")
            for value, count in zip(each.read, row, strict=True):
                if count:
                    share = clopper_pearson(count, sum(row))
                    told = f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
                    console.out.print(f"    read {value:<24} {count:>6}  {told}  {share.method}")
