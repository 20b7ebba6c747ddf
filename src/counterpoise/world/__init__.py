"""The planted avatar world: drawings of known attributes, a small Stable Diffusion that learnt them.

In: planted.toml, the table of what is drawn when a caption leaves something out. Out: captioned drawings,
the recipe that trains the model and its reader, the trained weights that ship, and a check of both.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
MODEL_NAME = "world"


def model_folder(model: str | Path) -> Path:
    """The folder that a model's name stands for: "world" is the embedded one, all else is a path."""
    return WEIGHTS / "model" if str(model) == MODEL_NAME else Path(model)


def reader_folder() -> Path:
    """The folder of the world's trained reader."""
    return WEIGHTS / "reader"
