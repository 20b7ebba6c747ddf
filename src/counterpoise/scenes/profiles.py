"""Canvases: how large a picture is, how coarsely its model attends, and how large a person may be."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import final

from counterpoise.errors import UsageError
from counterpoise.measure.cards import nearest
from counterpoise.scenes.sampler.settings import Regional


@final
@dataclass(frozen=True, slots=True)
class CanvasProfile:
    """What a model's pictures demand of a layout; all lengths in pixels.

    cell: one cell of the coarsest grid on which the model attends to text: a box narrower than two of them
    gets too few image tokens for a prompt of its own. multiple: what boxes and the canvas are multiples of.
    person: every person's side where the size is fixed; width and height are then unused, since the canvas
    grows with the people, and what a row has to spare is shared out over its gaps. shrink: how large a
    back row's people are relative to the row before it. limit: the most people. rows: the most rows.
    vocabulary: the default one. regional: how strongly and how long its people are drawn apart. guidance,
    steps: what the model's stock pipeline usually draws with.
    """

    name: str
    cell: int
    limit: int
    width: int = 0
    height: int = 0
    multiple: int = 8
    person: int | None = None
    shrink: float = 1.0
    rows: int = 99
    vocabulary: str = "people"
    regional: Regional = field(default_factory=Regional)
    guidance: float = 7.5
    steps: int = 50

    @property
    def smallest(self) -> int:
        """The least side of a box: two cells."""
        return 2 * self.cell


# Cells: 512 px / 8 (SD 1.5), 1024 / 32 (SDXL), 1024 / 64 (patches of the transformers); the world's UNet
# attends on 8 x 8 and 4 x 4 latents of a 64 px person. Limits: what the canvas holds at two cells a side,
# at most 24.
_SDXL = CanvasProfile("sdxl", cell=32, limit=24, width=1024, height=1024, shrink=0.85, guidance=5.0)
_SD3 = replace(_SDXL, name="sd3", cell=16, multiple=16, guidance=7.0, steps=28)
_WORLD = CanvasProfile(
    "world",
    cell=16,
    limit=16,
    multiple=64,
    person=64,
    rows=2,
    vocabulary="world",
    regional=Regional(base_ratio=0.1),
    guidance=4.0,
    steps=10,
)
PROFILES = {
    each.name: each
    for each in (
        CanvasProfile("sd15", cell=64, limit=16, width=512, height=512),
        _SDXL,
        _SD3,
        replace(_SD3, name="flux", guidance=3.5),
        _WORLD,
    )
}


def profile_named(name: str) -> CanvasProfile:
    """A shipped profile; UsageError E_SCENE_PROFILE for another name."""
    if name not in PROFILES:
        raise UsageError(f"no canvas profile {name!r:.40}; {nearest(name, PROFILES)}", code="E_SCENE_PROFILE")
    return PROFILES[name]
