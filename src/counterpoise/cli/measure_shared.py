"""What the verbs of `counterpoise measure` share: options, and how they tell what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from counterpoise.cli import console
from counterpoise.errors import UsageError

if TYPE_CHECKING:
    from counterpoise.measure.pictures import Pictures
    from counterpoise.measure.votes import Vote

Paths = Annotated[list[Path], typer.Argument(metavar="PICTURES...", help="Files, or folders of them.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave pictures that cannot be read out, and count them.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def loaded_pictures(paths: Sequence[Path], skip_bad: bool) -> Pictures:
    """Every picture of these paths; what cannot be read is refused, or left out with skip_bad."""
    from counterpoise.measure.pictures import load_pictures

    return load_pictures(paths, skip_bad=skip_bad)


def tell_lost(lost: Sequence[Vote], some_found: bool) -> None:
    """Warn of labels whose picture is not here; UsageError E_LABELS when that is all of them."""
    if not lost:
        return
    first = f"{len(lost)} labels name pictures that are not here, {lost[0].picture!r:.80} first"
    if not some_found:
        raise UsageError(f"{first}: no label fits; check the picture column", code="E_LABELS")
    console.err.print(f"warning: {first}")


def tell_unreadable(loaded: Pictures) -> None:
    """Name the pictures that were left out, on stderr."""
    if loaded.unreadable:
        console.err.print(f"left out {len(loaded.unreadable)} pictures that cannot be read:")
        for each in loaded.unreadable:
            console.err.print(f"  {each.path}: {each.reason}")
