"""What is in an adapter file, told without mounting it: names, kinds, effective scales, norms, oddities.

In: a path, and a model if there is one. Out: an `Inspection`, for people (`lines`) and programs (`to_dict`).
Text from the file is escaped and cut wherever it is shown.
"""

from __future__ import annotations

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.errors import shown
from counterpoise.lora.dialects import read
from counterpoise.lora.dialects.metadata import PROVENANCE, family
from counterpoise.lora.match import NameIndex, near
from counterpoise.lora.norms import delta_norm, is_extreme
from counterpoise.lora.update import Update

_MOST_HINTS = 5  # the search for near names is slow on a model of thousands of layers
_SHOWN = [f"modelspec.{field}" for field in ("title", "trigger_phrase", "author", "license")]
_SHOWN += ["ss_output_name", "ss_base_model_version", "ss_sd_model_name", "ss_training_comment", PROVENANCE]


@final
@dataclass(frozen=True)
class LayerFacts:
    """One layer: `norm` is |Delta W|, None where it depends on W0 and no model was given."""

    layer: str
    kind: str
    rank: int
    alpha: float
    scale: float
    shape: tuple[int, ...]
    dtype: str
    norm: float | None
    matched: str | None = None
    """The model's path of it."""
    base_norm: float | None = None

    def line(self, width: int) -> str:
        """For a terminal, the name padded to `width`."""
        norm = "needs --model" if self.norm is None else f"{self.norm:.4g}"
        of = f"  {self.norm / self.base_norm:.3g} of W0" if self.norm is not None and self.base_norm else ""
        return (
            f"{shown(self.layer):<{width}}  {self.kind:<8} rank {self.rank:<4} scale {self.scale:<8.4g} "
            f"{'x'.join(map(str, self.shape)):<14} {self.dtype:<9} norm {norm}{of}"
        )


@final
@dataclass(frozen=True)
class Inspection:
    """All that is told of a file; `warnings` are what a careful user should know before using it."""

    file: str
    dialects: tuple[str, ...]
    made_for: str | None
    layers: tuple[LayerFacts, ...]
    parameters: int
    metadata: dict[str, str]
    tags: list[tuple[str, int]] | str | None
    warnings: tuple[str, ...]
    model: bool

    @property
    def norm(self) -> float | None:
        """|Delta W| over all layers, or None where one is not known."""
        norms = [layer.norm for layer in self.layers]
        return None if None in norms else math.hypot(*(norm for norm in norms if norm is not None))

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        kinds = Counter(layer.kind for layer in self.layers)
        totals = {
            "layers": len(self.layers),
            "kinds": dict(sorted(kinds.items())),
            "parameters": self.parameters,
            "norm": self.norm,
            "largest_rank": max(layer.rank for layer in self.layers),
            "scales": sorted({layer.scale for layer in self.layers}),
            "matched": sum(layer.matched is not None for layer in self.layers) if self.model else None,
        }
        named = {key: value for key, value in asdict(self).items() if key not in ("layers", "model")}
        return {**named, "totals": totals, "layers": [asdict(layer) for layer in self.layers]}

    def lines(self) -> Iterator[str]:
        """For a terminal: a line a layer, then the totals and warnings."""
        made_for = self.made_for or "an unknown model"
        yield f"{shown(self.file, 300)}: {', '.join(self.dialects)}; made for {made_for}"
        width = min(80, max(len(shown(layer.layer)) for layer in self.layers))
        yield from (layer.line(width) for layer in self.layers)
        totals = self.to_dict()["totals"]
        kinds = ", ".join(f"{count} {kind}" for kind, count in totals["kinds"].items())
        scales = [f"{scale:.4g}" for scale in totals["scales"]]
        listed = ", ".join(scales) if len(scales) <= 8 else f"{len(scales)}, {scales[0]} to {scales[-1]}"
        norm = "needs --model" if self.norm is None else f"{self.norm:.4g}"
        yield f"layers   {totals['layers']} ({kinds}), {self.parameters} parameters"
        yield f"scales   {listed}; largest rank {totals['largest_rank']}; norm {norm}"
        if self.model:
            yield f"model    {totals['matched']} of {totals['layers']} layers are in it"
        yield from (f"{key}  {value}" for key, value in self.metadata.items())
        if self.tags:
            told = self.tags if isinstance(self.tags, str) else ", ".join(f"{t} ({n})" for t, n in self.tags)
            yield f"tags     {told}"
        yield from (f"warning: {warning}" for warning in self.warnings)


def inspect_adapter(path: Path, model: object = None) -> Inspection:
    """The facts of the adapter file or folder at `path`, beside `model` (module or pipeline) if given.

    RefusedInputError where `Adapter.load` would refuse the file; a layer that the model lacks is a warning.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        loaded = read(path)
    said = [" ".join(str(warning.message).split()) for warning in caught]
    index = None if model is None else NameIndex(model)
    layers = []
    for name, update in sorted(loaded.layers.items()):
        facts, faults = _facts(name, update, index, hints=len(said) < _MOST_HINTS)
        layers.append(facts)
        said += faults
    tensors = [tensor for update in loaded.layers.values() for tensor in update.tensors().values()]
    return Inspection(
        file=str(loaded.file),
        dialects=loaded.dialects,
        made_for=family(loaded.layers),
        layers=tuple(layers),
        parameters=sum(tensor.numel() for tensor in tensors),
        metadata={key: shown(loaded.metadata[key], 200) for key in _SHOWN if key in loaded.metadata},
        tags=_tags(loaded.metadata.get("ss_tag_frequency")),
        warnings=tuple(said),
        model=model is not None,
    )


def _facts(
    name: str, update: Update, index: NameIndex | None, *, hints: bool
) -> tuple[LayerFacts, list[str]]:
    faults: list[str] = []
    paths = [] if index is None else index.find(name)
    matched = paths[0] if len(paths) == 1 else None
    base: Tensor | None = None
    if index is not None and matched is None:
        fits = f"can be {' and '.join(map(shown, paths[:3]))}" if paths else "is not in this model"
        hint = near(name, index) if hints and not paths else ""
        faults.append(f"layer {shown(name)} {fits}{hint}")
    if index is not None and matched is not None:
        weight = index.weights[matched]
        update = update.shaped(tuple(weight.shape))
        if update.weight_shape == tuple(weight.shape):
            base = weight.detach()
        else:
            shapes = f"{list(update.weight_shape)} but the model's weight {list(weight.shape)}"
            faults.append(f"layer {shown(name)} is {shapes}")
    norm = delta_norm(update, base)
    base_norm = None if base is None else float(torch.linalg.vector_norm(base.double()))
    if norm is not None and base_norm and is_extreme(norm, base_norm):
        faults.append(f"layer {shown(name)} is extreme: its delta is {norm / base_norm:.3g} times W0")
    dtype = str(next(iter(update.tensors().values())).dtype).removeprefix("torch.")
    facts = LayerFacts(
        name,
        update.kind,
        update.rank,
        update.alpha,
        update.scale,
        update.weight_shape,
        dtype,
        norm,
        matched,
        base_norm,
    )
    return facts, faults


def _tags(text: str | None) -> list[tuple[str, int]] | str | None:
    """The ten commonest training tags of ss_tag_frequency ({folder: {tag: count}}), or "unreadable"."""
    if text is None:
        return None
    counts: Counter[str] = Counter()
    try:
        for folder in json.loads(text).values():
            counts.update({str(tag): int(count) for tag, count in folder.items()})
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return "unreadable"
    return [(shown(tag, 60), count) for tag, count in counts.most_common(10)]
