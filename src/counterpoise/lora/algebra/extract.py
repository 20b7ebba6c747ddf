"""`extract`: the difference of two checkpoints as an adapter.

In: a base and a tuned model, as modules, mappings or files. Out: an adapter whose error is stated exactly,
and a list of what changed that no adapter can hold. One layer at a time.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.errors import UsageError, shown
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra.core import as_update, generator_for
from counterpoise.lora.algebra.members import check_count, check_seed, check_share, provenance
from counterpoise.lora.algebra.report import Kept, overall
from counterpoise.lora.algebra.sketch import leading, leading_energy
from counterpoise.lora.algebra.states import State, state_of
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.names import nearest

WEIGHT = ".weight"
# Names under which a bare file keeps tables, not matrices: transformers' and GPT-2's own names. (A file
# does not say what a 2-D tensor is for; a module does, and then these are not asked.)
_TABLE = re.compile(r"(^|\.)(\w*embeddings?|embed_tokens|embed_positions|wte|wpe|shared)$")


@final
@dataclass(frozen=True, eq=False)
class Extraction:
    """The extracted adapter; `leftovers`: changed tensor -> why it is not in the adapter."""

    adapter: Adapter
    layers: Mapping[str, Kept]
    leftovers: Mapping[str, str]

    @property
    def error(self) -> float:
        """||adapter - difference|| / ||difference||, Frobenius, over the adapter's layers together."""
        return overall((kept.error, kept.norm) for kept in self.layers.values())

    def to_dict(self) -> dict[str, Any]:
        """As the command line prints it under `--json`."""
        layers = {path: kept.to_dict() for path, kept in self.layers.items()}
        return {"error": self.error, "layers": layers, "leftovers": dict(self.leftovers)}


def extract(
    base: object,
    tuned: object,
    *,
    rank: int | None = None,
    energy: float | None = None,
    layers: Iterable[str] | None = None,
    seed: int = 0,
) -> Extraction:
    """The adapter that takes `base` to `tuned`: exactly one of a rank, or a share of each ||difference||^2.

    Each is a module or pipeline, a {name: tensor} mapping, or a safetensors file or folder. `layers`:
    shell-style patterns over layer paths (default: every Linear and Conv2d weight that changed; of a bare
    file, every 2-D or 4-D `.weight` that is not named as an embedding). Large layers by a random sketch
    from `seed`; the error is of what was kept, not an estimate. UsageError E_OPTION, E_RANK, E_ENERGY,
    E_NO_MATCH, E_SHAPE, E_NONFINITE, E_EMPTY where nothing changed.
    """
    if (rank is None) == (energy is None):
        raise UsageError("give exactly one of rank and energy", code="E_OPTION")
    if rank is not None:
        check_count("rank", rank, code="E_RANK")
    share = None if energy is None else check_share("energy", energy, code="E_ENERGY")
    check_seed(seed)
    made: dict[str, LowRank] = {}
    kept: dict[str, Kept] = {}
    with state_of(base) as first, state_of(tuned) as second, torch.inference_mode(False), torch.no_grad():
        chosen = _chosen(first, second, layers)
        for path in chosen:
            change, dtype = difference(first, second, path + WEIGHT)
            if not bool(change.any()):
                continue
            generator = generator_for(seed, path)
            made[path], kept[path] = _approximated(change, rank or share, dtype=dtype, generator=generator)
        left = leftovers(first, second, skip={path + WEIGHT for path in chosen})
    if not made:
        also = f" ({len(left)} other tensors did: {', '.join(map(shown, list(left)[:3]))})" if left else ""
        reason = f"none of the {len(chosen)} layers changed{also}; compare a model with its tuned self"
        raise UsageError(reason, code="E_EMPTY")
    return Extraction(
        Adapter(made, provenance("extract", [], rank=rank, energy=energy, seed=seed)), kept, left
    )


def difference(first: State, second: State, key: str) -> tuple[Tensor, torch.dtype]:
    """tuned - base of the tensor `key`, float64, and the type to store factors in: float32, or float64 where
    a checkpoint is; UsageError E_SHAPE or E_NONFINITE."""
    if first.shapes[key] != second.shapes[key]:
        shapes = f"{list(first.shapes[key])} in the base and {list(second.shapes[key])} in the tuned"
        raise UsageError(f"tensor {shown(key)} is {shapes}; use two of one model", code="E_SHAPE")
    before, after = (state.read(key).detach() for state in (first, second))
    dtype = torch.promote_types(torch.float32, torch.promote_types(before.dtype, after.dtype))
    change = after.to("cpu", torch.float64) - before.to("cpu", torch.float64)
    if not bool(change.isfinite().all()):
        raise UsageError(f"tensor {shown(key)} holds NaN or infinite values", code="E_NONFINITE")
    return change, dtype


def leftovers(first: State, second: State, *, skip: set[str]) -> dict[str, str]:
    """Every tensor outside `skip` that changed, or that only one of the two has -> why it is left out."""
    found = {}
    for key in sorted((first.shapes.keys() | second.shapes.keys()) - skip):
        if key not in first.shapes or key not in second.shapes:
            found[key] = f"only in the {'tuned' if key in second.shapes else 'base'}"
        elif first.shapes[key] != second.shapes[key]:
            found[key] = f"{list(first.shapes[key])} became {list(second.shapes[key])}"
        elif not _same(first.read(key), second.read(key)):
            table = _TABLE.search(key.removesuffix(WEIGHT)) is not None
            kind = "an embedding by its name" if table else "no chosen matrix weight"
            found[key] = f"changed, but is {kind} {list(first.shapes[key])}"
    return found


def _same(a: Tensor, b: Tensor) -> bool:
    return (
        torch.equal(a.cpu(), b.cpu())
        if a.dtype == b.dtype
        else torch.equal(a.cpu().double(), b.cpu().double())
    )


def _chosen(first: State, second: State, patterns: Iterable[str] | None) -> list[str]:
    """The layers to compare, sorted; UsageError E_NO_MATCH for a pattern or layer without its counterpart."""
    typed = first.layers if first.layers is not None else second.layers
    matrices = {
        key.removesuffix(WEIGHT)
        for key, shape in [*first.shapes.items(), *second.shapes.items()]
        if key.endswith(WEIGHT) and key != WEIGHT and len(shape) in (2, 4) and 0 not in shape
    }
    if typed is not None:
        matrices &= typed
    if isinstance(patterns, str):
        raise UsageError(f"layers is {shown(patterns)!r}: expected a list of patterns", code="E_NAME")
    if patterns is None:
        chosen = {path for path in matrices if typed is not None or not _is_table(first, second, path)}
    else:
        chosen = set()
        for pattern in patterns:
            hits = {path for path in matrices if fnmatch.fnmatchcase(path, pattern)}
            if not hits:
                reason = f"pattern {shown(pattern)!r} matches none of the {len(matrices)} matrix weights"
                raise UsageError(f"{reason}{nearest(pattern, matrices)}", code="E_NO_MATCH")
            chosen |= hits
    for key in sorted(path + WEIGHT for path in chosen):
        for state, name in ((first, "base"), (second, "tuned")):
            if key not in state.shapes:
                reason = f"the {name} has no {shown(key)}{nearest(key, state.shapes)}"
                raise UsageError(f"{reason}; use two of one model", code="E_NO_MATCH")
    return sorted(chosen)


def _is_table(first: State, second: State, path: str) -> bool:
    shape = first.shapes.get(path + WEIGHT) or second.shapes[path + WEIGHT]
    return len(shape) == 2 and _TABLE.search(path) is not None


def _approximated(
    change: Tensor, asked: float | None, *, dtype: torch.dtype, generator: torch.Generator
) -> tuple[LowRank, Kept]:
    """The best update of a rank (an int) or of a share of the energy (a float)."""
    matrix = change.flatten(1)
    if isinstance(asked, int):
        found = leading(matrix, min(asked, *matrix.shape), generator)
        count = max(1, min(asked, found.rank))
    else:
        assert asked is not None
        found, count = leading_energy(matrix, asked, generator)
    up, down = found.factors(count)
    norm = float(matrix.norm())
    error = float((matrix - up @ down).norm()) / norm
    return as_update(up, down, tuple(change.shape), dtype=dtype), Kept(count, min(matrix.shape), error, norm)
