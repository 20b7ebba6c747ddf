"""A spec's confusion cards, kept with its run: so that a report made later, elsewhere, corrects alike.

In: the cards beside a spec. Out: their bytes in the run folder, under their digests, and read from there.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from counterpoise.audit.database import store_errors
from counterpoise.audit.pictures import write_atomically
from counterpoise.audit.place import check_place
from counterpoise.audit.spec import AuditSpec, Card
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.measure.calibration import Calibration, load_calibration
from counterpoise.measure.reading import Measurer

FOLDER = "cards"


def load_cards(spec: AuditSpec, base: Path, measurer: Measurer) -> list[Calibration]:
    """The spec's cards as they lie beside it (its folder: base), each of this measurer.

    UsageError E_CARD if a file is not the one that the spec was read with; RefusedInputError as
    `load_calibration`.
    """
    for card in spec.confusion:
        if _digest(base / card.file) != card.sha256:
            raise UsageError(
                f"{base / card.file} has changed since the spec was read; run again", code="E_CARD"
            )
    return [load_calibration(base / card.file, measurer) for card in spec.confusion]


def keep_cards(run: Path, spec: AuditSpec, base: Path) -> None:
    """Copy the spec's cards into a run folder; those that are there stay. Raises as `check_place`."""
    if spec.confusion:
        check_place(run)
    for card in spec.confusion:
        target = _kept(run, card)
        with store_errors(run):
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, (base / card.file).read_bytes())


def kept_cards(run: Path, spec: AuditSpec) -> list[Calibration]:
    """The cards that were kept with a run, in the spec's order; RefusedInputError E_CARD_FILE for one that
    is missing or was changed."""
    for card in spec.confusion:
        path = _kept(run, card)
        if not path.is_file() or _digest(path) != card.sha256:
            raise RefusedInputError(
                f"{path} is missing or was changed: the run was judged with {card.file}; put that file there",
                code="E_CARD_FILE",
                file=str(path),
            )
    return [load_calibration(_kept(run, card)) for card in spec.confusion]


def _kept(run: Path, card: Card) -> Path:
    return run / FOLDER / f"{card.sha256}.json"


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
