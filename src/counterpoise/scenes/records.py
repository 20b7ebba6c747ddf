"""What a drawn picture says of itself: how it was drawn, and every attempt at every box.

A second text in the PNG beside the plan. Whatever is drawn twice in the same way has the same key, so that
a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

from pydantic import Field

from counterpoise.errors import UsageError
from counterpoise.measure.cards import Card, canonical, make_card
from counterpoise.scenes.plan import Plan
from counterpoise.scenes.png_text import refused, texts_of, with_text
from counterpoise.scenes.sampler.settings import STRENGTH, TRIES

KEYWORD = "counterpoise-drawing"


@final
@dataclass(frozen=True, slots=True)
class Named:
    """A plan to draw. name: of its picture, without a suffix. folder: where relative paths of its adapters
    start."""

    name: str
    plan: Plan
    folder: Path = field(default_factory=Path)


@final
class Way(Card):
    """How plans are drawn. mended: whether boxes that fail are drawn again, at most `tries` times, from noise
    of `strength`; judge: who reads them, by name and version, "" where nobody does."""

    guidance: float = Field(ge=1.0, le=100.0, description="a number from 1 to 100")
    steps: int = Field(ge=1, le=1000, description="a whole number from 1 to 1000")
    batch_size: int = Field(default=8, ge=1, le=1024, description="a whole number from 1 to 1024")
    dtype: Literal["float32", "bfloat16"] = Field(default="float32", description='"float32" or "bfloat16"')
    mended: bool = Field(default=False, description="true or false")
    tries: int = Field(default=TRIES, ge=0, le=100, description="a whole number of at least 0")
    strength: float = Field(default=STRENGTH, gt=0.0, le=1.0, description="a number above 0, at most 1")
    judge: str = Field(default="", description="a judge's name and version")
    side: int = Field(default=0, ge=0, description="pixels a side of what the judge reads; 0 without one")


@final
class Try(Card):
    """One drawing of one box: attempt 0 is the first. kept: whether the picture holds it."""

    person: str
    attempt: int
    seed: int
    asked: dict[str, str]
    read: dict[str, str | None]
    kept: bool


@final
class Record(Card):
    """key: of everything that the picture depends on. weights: sha256 of the model's. adapters: a person's id
    -> the adapter's fingerprint. calls: of the denoiser for the first drawing; again: for boxes drawn again.
    """

    format: Literal["counterpoise-drawing"] = "counterpoise-drawing"
    version: Literal[1] = 1
    key: str
    model: str
    weights: str
    way: Way
    adapters: dict[str, str]
    calls: int
    again: int
    tries: tuple[Try, ...]


def key_of(plan: Plan, way: Way, *, weights: str, adapters: dict[str, str]) -> str:
    """sha256 of the plan and of everything else that decides the picture."""
    said = {
        "plan": plan.model_dump(mode="json"),
        "way": way.model_dump(mode="json"),
        "weights": weights,
        "adapters": adapters,
    }
    return hashlib.sha256(canonical(said).encode()).hexdigest()


def with_record(png: bytes, record: Record) -> bytes:
    """The PNG with the record in it."""
    return with_text(png, KEYWORD, record.model_dump_json())


def record_of(path: Path) -> Record | None:
    """What a picture says of how it was drawn; None where it says nothing.

    RefusedInputError E_PLAN_PICTURE for a damaged picture or record.
    """
    found = texts_of(path.read_bytes(), KEYWORD, where=str(path))
    if not found:
        return None
    try:
        return make_card(Record, json.loads(found[-1]), where=str(path))
    except (ValueError, RecursionError, UsageError) as error:
        raise refused(str(path), f"its record of how it was drawn cannot be read ({error})") from None
