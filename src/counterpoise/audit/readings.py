"""Pictures to readings, whatever the measurer does: every picture gets a row for every attribute.

A blank picture, a crash, an unknown label, a nan: each is an abstention with its reason, never a class, a
zero or a gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from counterpoise.measure.pictures import is_blank
from counterpoise.measure.reading import Measurer, Reading

BLANK = "blank picture"
FAILED = "measurer failed"
_MAX_REASON = 200


def read_pictures(images: np.ndarray, measurer: Measurer) -> list[dict[str, Reading]]:
    """One {attribute: Reading} a picture, in order; all of the measurer's attributes, nothing else.

    images: uint8 (n, height, width, 3). Blank pictures are not shown to the measurer. If it raises on a
    batch, each picture is tried alone, so that only the one it cannot read is lost.
    """
    shown = [i for i, image in enumerate(images) if not is_blank(image)]
    answers = _ask(images[shown], measurer) if shown else []
    rows = [_all(measurer, BLANK) for _ in images]
    for i, answer in zip(shown, answers, strict=True):
        rows[i] = answer
    return rows


def _ask(images: np.ndarray, measurer: Measurer) -> list[dict[str, Reading]]:
    try:
        answers: Sequence[Mapping[str, Reading]] = measurer(images)
        if len(answers) != len(images):
            raise ValueError(f"{len(answers)} answers for {len(images)} pictures")
        return [_sound(answer, measurer) for answer in answers]
    except MemoryError:
        # The machine's failure, not the picture's: stored as a reading it would stay for ever.
        raise
    except Exception as error:
        if len(images) == 1:
            return [_all(measurer, f"{FAILED}: {type(error).__name__}: {error}")]
        return [_ask(images[i : i + 1], measurer)[0] for i in range(len(images))]


def _sound(answer: Mapping[str, Reading], measurer: Measurer) -> dict[str, Reading]:
    return {
        attribute: _checked(answer.get(attribute), values)
        for attribute, values in measurer.attributes.items()
    }


def _checked(reading: object, values: Sequence[str]) -> Reading:
    """The reading, or an abstention that says what was wrong with it."""
    if not isinstance(reading, Reading):
        return _refusal(f"{FAILED}: no reading" if reading is None else f"{FAILED}: gave {reading!r}")
    confidence = reading.confidence
    if not isinstance(confidence, (int, float)) or not math.isfinite(confidence) or not 0 <= confidence <= 1:
        return _refusal(f"{FAILED}: confidence {confidence!r}")
    if reading.value is None:
        return Reading(None, float(confidence), _clean(reading.reason or "no reason given"))
    if reading.value not in values:
        return _refusal(f"{FAILED}: unknown value {reading.value!r}")
    return Reading(reading.value, float(confidence), _clean(reading.reason))


def _all(measurer: Measurer, reason: str) -> dict[str, Reading]:
    return {attribute: _refusal(reason) for attribute in measurer.attributes}


def _refusal(reason: str) -> Reading:
    return Reading(None, 0.0, _clean(reason))


def _clean(reason: str) -> str:
    """One line that SQLite can hold: an exception's text may be long or carry lone surrogates."""
    line = " ".join(reason.split())[:_MAX_REASON]
    return line.encode("utf-8", "backslashreplace").decode("utf-8")
