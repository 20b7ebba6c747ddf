"""Writing kohya's dialect: flattened names, an alpha tensor a layer, the layers that its models fuse fused.

In: layers. Out: the file's tensors by name, or a UsageError that names the layer that kohya's form cannot
hold. Every name is held against the reader: what would be read back as another layer is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from counterpoise.errors import UsageError, shown
from counterpoise.lora.dialects.grammar import Grammar, flat
from counterpoise.lora.dialects.metadata import family
from counterpoise.lora.dialects.models import BFL, SGM
from counterpoise.lora.dialects.spellings import is_open, split_component, understood
from counterpoise.lora.kinds import Embedding, Full, LowRank, plain
from counterpoise.lora.kinds.rows import fused, take_rows
from counterpoise.lora.update import Update

_SUFFIX = {
    "down": "lora_down.weight",
    "up": "lora_up.weight",
    "mid": "lora_mid.weight",
    "magnitude": "dora_scale",
}
_SDXL = "stable-diffusion-xl-v1-base"
_ONLY_IN_SDXL = re.compile(r"text_encoder_2\.text_|unet\.(add_embedding|.*\.transformer_blocks\.[1-9])")
_FLUX_T5 = "text_encoder_2.encoder.block."


def kohya_fault(update: Update) -> str | None:
    """What of `update` kohya's form cannot hold, or None."""
    if "bias" in update.tensors():
        return "a scaled bias (lora_bias)"
    if isinstance(plain(update), Embedding):
        return "an Embedding LoRA"
    if update.alpha == 0:
        return "alpha 0, which kohya reads as scale 1"
    return None


def kohya_tensors(layers: Mapping[str, Update]) -> dict[str, Tensor]:
    """Tensor name -> tensor; UsageError E_AMBIGUOUS or E_UNSUPPORTED where a layer has no name of its own."""
    owner: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, paths, update in _named(layers):
        if name in owner:
            both = f"{shown(owner[name])} and {shown(paths[0])} are both {shown(name)!r} in kohya's form"
            raise UsageError(f"{both}; save as diffusers or peft", code="E_AMBIGUOUS")
        owner[name] = paths[0]
        for role, tensor in update.tensors().items():
            tensors[f"{name}.{_SUFFIX.get(role, role)}"] = tensor
        if not isinstance(plain(update), Full):
            tensors[f"{name}.alpha"] = _alpha(update.alpha)
    return tensors


def _alpha(alpha: float) -> Tensor:
    exact = torch.tensor(alpha, dtype=torch.float64)
    return exact.float() if exact.float().double() == exact else exact


def _named(layers: Mapping[str, Update]) -> Iterator[tuple[str, tuple[str, ...], Update]]:
    """Name, the paths it stands for, and what it holds."""
    prefixes = _prefixes(layers)
    rest = dict(layers)
    for path in layers:
        if path not in rest:
            continue
        component, inside = split_component(path)
        if is_open(path):
            yield path, (path,), rest.pop(path)
            continue
        prefix, grammar = prefixes.get(component, (None, None))
        if prefix is None:
            reason = f"kohya's form has no name for layers of {component!r} (layer {shown(path)})"
            raise UsageError(f"{reason}; save as diffusers", code="E_UNSUPPORTED")
        written = None if grammar is None else grammar.written(inside)
        if written is None:
            name = prefix + flat(inside)
            if component.startswith("text_encoder") and inside.startswith(("encoder.layers.", "embeddings.")):
                name = prefix + flat(f"text_model.{inside}")  # transformers 5 leaves it out, files do not
            _check_name(name, (path,))
            yield name, (path,), rest.pop(path)
        else:
            source, meaning = written
            paths = tuple(f"{component}.{target}" for target in meaning.targets)
            parts = [rest.pop(part) for part in paths if part in rest]
            name = prefix + flat(source)
            yield name, paths, _whole(paths, parts, swapped=meaning.swapped)


def _prefixes(layers: Mapping[str, Update]) -> dict[str, tuple[str, Grammar | None]]:
    """Component -> prefix of its names, and the grammar of the model's own names where kohya uses those."""
    made_for = family(layers)
    components = {path.partition(".")[0] for path in layers}
    large = made_for == _SDXL or any(_ONLY_IN_SDXL.match(path) for path in layers)
    flux = made_for == "flux-1-dev" or any(path.startswith(_FLUX_T5) for path in layers)
    several = large or bool(components & {"transformer", "text_encoder_3"})
    return {
        "": ("lycoris_", None),
        "unet": ("lora_unet_", SGM if large else None),
        "transformer": ("lora_unet_", BFL) if made_for == "flux-1-dev" else ("lora_transformer_", None),
        "text_encoder": ("lora_te1_" if several else "lora_te_", None),
        "text_encoder_2": ("lora_te3_" if flux else "lora_te2_", None),
        "text_encoder_3": ("lora_te3_", None),
    }


def _check_name(name: str, paths: tuple[str, ...]) -> None:
    meaning = understood(name)
    if (
        meaning is not None
        and meaning.targets != paths
        and not _same_text_layer(meaning.targets[0], paths[0])
    ):
        reason = (
            f"layer {shown(paths[0])} is {shown(name)!r} in kohya's form, which means {meaning.targets[0]}"
        )
        raise UsageError(f"{reason}; save as diffusers or peft", code="E_AMBIGUOUS")


def _same_text_layer(a: str, b: str) -> bool:
    # T5's component depends on the model it is for; CLIP's "text_model." on transformers' version.
    def bare(path: str) -> str:
        return path.partition(".")[2].removeprefix("text_model.")

    return a.startswith("text_encoder") and b.startswith("text_encoder") and bare(a) == bare(b)


def _whole(paths: tuple[str, ...], parts: list[Update], *, swapped: bool) -> Update:
    found: Update | None = parts[0]
    if len(paths) > 1:
        found = fused(parts) if len(parts) == len(paths) else None
    elif swapped:
        rows, half = parts[0].weight_shape[0], parts[0].weight_shape[0] // 2
        found = take_rows(parts[0], [*range(half, rows), *range(half)]) if rows % 2 == 0 else None
    if found is None:
        kind = LowRank.kind
        reason = (
            f"kohya's form fuses {', '.join(map(shown, paths))}: they need one {kind} rank and alpha each"
        )
        raise UsageError(f"{reason}, and all of them; save as diffusers", code="E_UNSUPPORTED")
    return found
