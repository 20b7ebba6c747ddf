"""The planted avatar world: drawings of known attributes, a small Stable Diffusion that learnt them.

In: planted.toml, the table of what is drawn when a caption leaves something out. Out: captioned drawings,
the recipe that trains the models and their reader, the trained weights that ship, and a check of them.
Two models ship: "world" draws one person; "world-scenes" is that model taught scenes of several people.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
MODEL_NAME = "world"
SCENES_NAME = "world-scenes"
_EMBEDDED = {MODEL_NAME: WEIGHTS / "model", SCENES_NAME: WEIGHTS / "scenes"}


def model_folder(model: str | Path) -> Path:
    """The folder that a model's name stands for: "world" and "world-scenes" are embedded, all else is a
    path."""
    return _EMBEDDED.get(str(model), Path(model))


def is_embedded(model: str | Path) -> bool:
    """Whether the name is an embedded model's, whose pictures the world's reader reads."""
    return str(model) in _EMBEDDED


def reader_folder() -> Path:
    """The folder of the world's trained reader."""
    return WEIGHTS / "reader"
