"""Is a folder a place for a run? Asked before anything is made, loaded further or drawn."""

from __future__ import annotations

from pathlib import Path

from counterpoise.audit.database import FILE
from counterpoise.audit.pictures import IMAGES
from counterpoise.errors import UsageError


def check_place(folder: Path) -> None:
    """UsageError if a run in this folder would mix with what is there: a model, an album, another run.

    A folder with other files is fine (a run adds its own beside them), as is a run within a run's folder, but
    not among its pictures, which are swept.
    """
    if (folder / FILE).is_symlink() or (folder / IMAGES).is_symlink():
        _refuse(folder, f"its {FILE} or {IMAGES} is a link to elsewhere, where nothing may be swept")
    if not (folder / FILE).exists() and (folder / IMAGES).exists():
        _refuse(folder, f"it has an {IMAGES} folder but no {FILE}: it is not a run")
    inside = folder.resolve()
    for place in (inside, *inside.parents):
        if (place / "model_index.json").is_file():
            _refuse(folder, f"{place} holds a model, which is input")
        if place.name == IMAGES and (place.parent / FILE).is_file():
            _refuse(folder, f"{place} holds the pictures of another run")


def _refuse(folder: Path, why: str) -> None:
    raise UsageError(
        f"{folder} is no place for a run: {why}; choose a new folder", code="E_RUN_FOLDER", file=str(folder)
    )
