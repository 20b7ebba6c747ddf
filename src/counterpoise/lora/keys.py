"""From tensor names to layers: every name is understood whole, or the file is refused by name.

In: the names of a file's tensors. Out: layer path -> role ("down", "up", "alpha") -> tensor name.
A name that lands nowhere is never skipped. Spellings: https://huggingface.co/docs/peft and
https://huggingface.co/docs/diffusers (loaders).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from counterpoise.lora.container import refuse
from counterpoise.lora.names import shown

PEFT_PREFIX = "base_model.model."
# ".default" is the adapter's name, which some writers leave in; ".lora.down" is what diffusers' own
# training scripts still write (convert_state_dict_to_diffusers), ".lora_linear_layer" for text encoders.
_ROLE = re.compile(
    r"(?P<path>.+)\.(?:lora_(?P<factor>[AB])(?:\.default)?\.weight|(?P<alpha>alpha)"
    r"|(?:lora|lora_linear_layer)\.(?P<side>down|up)\.weight)"
)
_FACTOR_ROLES = {"A": "down", "B": "up"}
_KOHYA = re.compile(r"(lora_(?:unet|te[123]?|prior|transformer)_\w+?)\.(?:lora_(?:down|up)\.weight|alpha)")

# Marker in a name -> the kind it belongs to. The first match names the refusal.
UNSUPPORTED_KINDS: tuple[tuple[str, str], ...] = (
    (r"\.hada_", "LoHa"),
    (r"\.lokr_", "LoKr"),
    (r"\.lora_mid\b", "LoCon with lora_mid (Tucker)"),
    (r"\.dora_scale$|\.lora_magnitude_vector", "DoRA"),
    (r"\.lora_embedding_[AB]", "an Embedding LoRA"),
    (r"\.(diff|diff_b|set_weight|w_norm|b_norm)$", "a full weight difference"),
    (r"\.on_input$", "IA3"),
    (r"\.oft_(blocks|diag)|^oft_|\.oft_[RS]\b", "OFT"),
    (r"\.(a1|a2|b1|b2|bm)\.weight$", "GLoRA"),
    (r"\.bias_(indices|values|size)$", "a sparse bias"),
    (r"\.lora_[AB]\.bias$|\.lora_B\.default\.bias$", "a LoRA with biases (lora_bias)"),
    (r"\.base_layer\.", "a LoRA on a bare parameter (target_parameters)"),
    (r"\.modules_to_save\.", "modules_to_save"),
    (r"^lora_(unet|te[123]?|prior|transformer)_", "the kohya dialect"),
    (r"^lycoris_", "the LyCORIS dialect"),
    (r"^diffusion_model\.|^(double|single)_blocks\.", "the original-model dialect"),
    (r"\.processor\.|_lora\.(down|up)\.", "the old diffusers dialect (processor.to_q_lora)"),
    (r"\.lora_(down|up)\b", "the lora_down/lora_up dialect"),
    (r"\.lora_[AB]$", "the dialect without .weight"),
)


def kind_of(key: str) -> str | None:
    """The unsupported kind or dialect that `key` belongs to, or None."""
    return next((name for marker, name in UNSUPPORTED_KINDS if re.search(marker, key)), None)


def layer_keys(path: Path, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Layer path -> role -> tensor name, or RefusedInputError.

    E_DUP_MODULE where two spellings give one layer two factors, E_UNSUPPORTED for kinds not built yet,
    E_UNKNOWN_KEY for names of no kind, E_INCOMPLETE_PAIR for a factor or alpha without its pair.
    """
    found: dict[str, dict[str, str]] = {}
    strange: list[str] = []
    for key in sorted(keys):
        match = _ROLE.fullmatch(key)
        if match is None or kind_of(key) is not None:
            strange.append(key)
            continue
        layer = match["path"].removeprefix(PEFT_PREFIX)
        role = match["side"] or match["alpha"] or _FACTOR_ROLES[match["factor"]]
        roles = found.setdefault(layer, {})
        if role in roles:
            raise _twice(path, layer, (roles[role], key))
        roles[role] = key
    _refuse_strange(path, strange, found)
    for layer, roles in found.items():
        missing = {"down", "up"} - set(roles)
        if missing:
            has, lacks = ", ".join(sorted(roles)), " and no ".join(sorted(missing))
            reason = f"layer {shown(layer)} has {has} but no {lacks}: the file is incomplete, make it again"
            raise refuse(path, "E_INCOMPLETE_PAIR", reason)
    if not found:
        raise refuse(path, "E_EMPTY", "holds no tensors; give a LoRA file")
    return found


def _twice(path: Path, layer: str, keys: tuple[str, str]) -> Exception:
    reason = f"layer {shown(layer)} comes twice, as {shown(keys[0])!r} and {shown(keys[1])!r}; keep one"
    return refuse(path, "E_DUP_MODULE", reason)


def _refuse_strange(path: Path, strange: list[str], found: Mapping[str, Mapping[str, str]]) -> None:
    if not strange:
        return
    flat = {layer.replace(".", "_"): layer for layer in found}
    for key in strange:
        match = _KOHYA.fullmatch(key)
        name = match[1].removeprefix("lora_") if match else ""
        for spelled in (name, name.partition("_")[2]):
            if spelled and spelled in flat:
                raise _twice(path, flat[spelled], (next(iter(found[flat[spelled]].values())), key))
    for key in strange:
        kind = kind_of(key)
        if kind is not None:
            reason = f"{kind} is not supported yet (tensor {shown(key)!r}); convert it to plain LoRA"
            raise refuse(path, "E_UNSUPPORTED", reason)
    listed = ", ".join(shown(key, 60) for key in strange[:5])
    reason = (
        f"{len(strange)} tensors are no LoRA factors: {listed}; expected names such as "
        "unet.<layer>.lora_A.weight. Give a LoRA file, not a checkpoint"
    )
    raise refuse(path, "E_UNKNOWN_KEY", reason)
