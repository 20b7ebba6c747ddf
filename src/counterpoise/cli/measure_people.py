"""`counterpoise measure sheet | import`: have people label pictures, and turn their labels into a judge."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from counterpoise.cli import console
from counterpoise.cli.measure_shared import (
    JsonFlag,
    Paths,
    SkipBad,
    loaded_pictures,
    tell_lost,
    tell_unreadable,
)
from counterpoise.errors import UsageError


def sheet(
    pictures: Paths,
    attribute: Annotated[list[str], typer.Option(help="What to ask: skin=light,dark; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder for the page; give this to raters.")],
    key: Annotated[
        Path | None, typer.Option(help="The key's file; keep it from raters. Default: OUT.key.json.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Order and ids; default: by chance.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Make a page on which people label pictures without knowing what was asked of the model."""
    from counterpoise.measure.sheet import make_sheet

    place = key or out.parent / f"{out.name}.key.json"
    if place.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"the key {place} would lie in {out}, which raters get; name another file", code="E_SHEET"
        )
    if place.exists():
        raise UsageError(
            f"{place} is the key of an earlier sheet, without which its answers are lost; name another with "
            "--key",
            code="E_SHEET",
            file=str(place),
        )
    asked = _attributes(attribute)
    loaded = loaded_pictures(pictures, skip_bad)
    page, made = make_sheet(loaded.read, asked, seed=secrets.randbits(63) if seed is None else seed)
    out.mkdir(parents=True, exist_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(made.model_dump(mode="json"), indent=1) + "\n", "utf-8")
    (out / "sheet.html").write_text(page, "utf-8")
    console.out.print(f"sheet    {(out / 'sheet.html').resolve()}  ({len(made.pictures)} pictures)")
    console.out.print(f"key      {place.resolve()}  (keep it from the raters)")
    tell_unreadable(loaded)


def import_(
    labels: Annotated[list[Path], typer.Argument(metavar="LABELS.csv...", help="One or several.")],
    out: Annotated[Path, typer.Option(help="The label file to write, for the judge labels:FILE.")],
    key: Annotated[Path | None, typer.Option(help="The key of the sheet that was labelled.")] = None,
    pictures: Annotated[
        list[Path] | None, typer.Option(help="The labelled pictures, where they do not; repeatable.")
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Values in their order: skin=light,dark; repeatable.")
    ] = None,
    skip_bad: SkipBad = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn people's labels into a judge, and say how far they agree."""
    from counterpoise.measure.human import agreements, make_labels, save_labels
    from counterpoise.measure.pictures import load_pictures
    from counterpoise.measure.sheet import key_finder, load_key
    from counterpoise.measure.votes import finder, read_votes, votes_by_picture

    if (key is None) == (not pictures):
        raise UsageError("name either the sheet's --key or the labelled --pictures", code="E_LABELS")
    votes = [vote for file in labels for vote in read_votes(file)]
    order = _attributes(attribute) if attribute else None
    if key is not None:
        sheet_key = load_key(key)
        find, order = key_finder(sheet_key), order or dict(sheet_key.attributes)
    else:
        find = finder(load_pictures(pictures or [], skip_bad=skip_bad).read)
    found, lost = votes_by_picture(votes, find)
    tell_lost(lost, bool(found))
    made = make_labels(found, order)
    save_labels(made, out)
    agreed = agreements(made)
    if as_json:
        told = {
            name: {"alpha": _number(a.alpha), "low": _number(a.low), "high": _number(a.high), "n": a.n,
                   "votes": a.votes, "observed": _number(a.observed), "method": a.method}
            for name, a in agreed.items()
        }  # fmt: skip
        console.write_json(json.dumps({"pictures": len(made.pictures), "lost": len(lost), "agreement": told}))
        return
    for name, a in agreed.items():
        if math.isnan(a.alpha):
            console.out.print(f"{name}: agreement not measured (n = {a.n} pictures with two votes)")
        else:
            console.out.print(
                f"{name}: alpha {a.alpha:.3f} [{a.low:.3f}, {a.high:.3f}], {a.observed:.1%} of pairs agree, "
                f"n = {a.n} pictures, {a.votes} votes  ({a.method})"
            )
    console.out.print(f"labels   {out.resolve()}  ({len(made.pictures)} pictures)")


def register(app: typer.Typer) -> None:
    """Add these verbs to the `measure` command."""
    app.command("sheet")(sheet)
    app.command("import")(import_)


def _attributes(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    asked: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        split = tuple(value.strip() for value in values.split(","))
        if not (name.strip() and equals and all(split)) or name.strip() in asked:
            raise UsageError(
                f"attribute {text!r:.80}: expected NAME=VALUE,VALUE,... and each name once, such as "
                "skin=light,dark",
                code="E_SHEET",
            )
        asked[name.strip()] = split
    return asked


def _number(value: float) -> float | None:
    """nan has no place in JSON."""
    return None if math.isnan(value) else value
