"""Who reads the pictures of a repair or a comparison: the judges named, or the world's own for the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from counterpoise.errors import UsageError
from counterpoise.world import MODEL_NAME, is_embedded

if TYPE_CHECKING:
    from counterpoise.measure.reading import Measurer


def judge_names(model: str, given: Sequence[str]) -> tuple[str, ...]:
    """The judges' names, before anything is loaded; UsageError E_MEASURER where there is none."""
    names = tuple(given) or ((MODEL_NAME,) if is_embedded(model) else ())
    if not names:
        raise UsageError(
            f"nobody reads the pictures of {model}: name a judge with --judge, such as --judge clip:FOLDER "
            "(docs/judges.md)",
            code="E_MEASURER",
        )
    return names


def judge_of(names: Sequence[str]) -> Measurer:
    """One measurer for these names; errors as `make_measurer`'s."""
    from counterpoise.measure.heads import load_reader
    from counterpoise.measure.judges import make_measurer
    from counterpoise.world import reader_folder

    return make_measurer(names, also={MODEL_NAME: lambda: load_reader(reader_folder())})
