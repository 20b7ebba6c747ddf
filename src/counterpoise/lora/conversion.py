"""An adapter file in another dialect, and other kinds of update as low-rank ones.

In: a path and a dialect. Out: the written file, and by how much its updates differ from those that were read:
not at all, unless a smaller rank was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from counterpoise.errors import UsageError, shown
from counterpoise.lora.adapter import Adapter


@final
@dataclass(frozen=True)
class Converted:
    """Where the adapter is, and the largest relative error of a layer (0.0: the same updates)."""

    path: Path
    dialect: str
    layers: int
    error: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"path": str(self.path), "dialect": self.dialect, "layers": self.layers, "error": self.error}

    def lines(self) -> list[str]:
        """For a terminal."""
        error = "exact" if self.error == 0.0 else f"largest relative error of a layer {self.error:.3g}"
        return [f"{shown(self.path, 300)}: {self.layers} layers, {self.dialect}, {error}"]


def convert_adapter(
    source: Path,
    target: Path,
    *,
    dialect: str,
    model: object = None,
    low_rank: bool = False,
    rank: int | None = None,
) -> Converted:
    """Read `source`, write it to `target` in `dialect`; with a `model`, under its paths.

    `low_rank` makes every update a LowRank first, `rank` one of at most that rank. RefusedInputError and
    UsageError as `Adapter.load`, `low_rank_adapter` and `Adapter.save` raise them; nothing is written then.
    """
    adapter = Adapter.load(source, model=model)
    if target.resolve() == source.resolve():
        raise UsageError(f"{shown(target, 300)}: would replace the file it is made of", code="E_PATH")
    error = 0.0
    if low_rank or rank is not None:
        adapter, error = low_rank_adapter(adapter, rank)
    return Converted(adapter.save(target, dialect=dialect), dialect, len(adapter.layers), error)


def low_rank_adapter(adapter: Adapter, rank: int | None = None) -> tuple[Adapter, float]:
    """`adapter` with every update as a LowRank, and the largest relative error that this made.

    Exact without a `rank`; UsageError E_INEXACT, naming the layer, for kinds where that cannot be.
    """
    layers, worst = {}, 0.0
    for path, update in adapter.layers.items():
        try:
            layers[path], error = update.low_rank(rank)
        except UsageError as refusal:
            raise UsageError(f"layer {shown(path)}: {refusal}", code=refusal.code) from None
        worst = max(worst, error)
    return Adapter(layers, adapter.metadata, adapter.source), worst
