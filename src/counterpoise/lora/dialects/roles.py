"""From a tensor's name to its stem and role: the suffixes that every dialect's files end their names with.

In: the names of a file's tensors. Out: stem -> role -> name, every name understood whole, or a refusal. What
a stem means is `spellings`' business. Spellings: https://huggingface.co/docs/peft and
https://huggingface.co/docs/diffusers (loaders), kohya-ss/sd-scripts, KohakuBlueleaf/LyCORIS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from counterpoise.errors import shown
from counterpoise.lora.header import refuse
from counterpoise.lora.names import nearest

Roles = dict[str, str]
"""Role -> tensor name."""

# PEFT writers sometimes leave the adapter's name between the factor and "weight".
_NAME = r"(?:\.(?!(?:weight|bias)$)[\w-]+)?"
# Suffix of a tensor's name -> role; in each the group, where there is one, is the role or its key below.
SUFFIXES: tuple[tuple[str, str], ...] = (
    (rf"lora_A{_NAME}(?:\.weight)?", "down"),
    (rf"lora_B{_NAME}(?:\.weight)?", "up"),
    (rf"lora_B{_NAME}\.bias", "bias"),
    (rf"lora_embedding_A{_NAME}", "embedding_A"),
    (rf"lora_embedding_B{_NAME}", "embedding_B"),
    (rf"lora_magnitude_vector{_NAME}(?:\.weight)?", "magnitude"),
    (r"(?:lora_|lora\.|lora_linear_layer\.)(down|up|mid)\.weight", ""),
    (r"(alpha|dora_scale|scalar|diff|diff_b)", ""),
    (r"(hada_(?:w[12]_[ab]|t[12]))", ""),
    (r"(lokr_(?:w[12](?:_[ab])?|t2))", ""),
    (r"(w_norm|b_norm)", ""),
)
_SUFFIX = re.compile("|".join(f"(?P<s{i}>{regex})" for i, (regex, _) in enumerate(SUFFIXES)))
# A norm's full difference has names of its own.
_SAME_ROLE = {"w_norm": "diff", "b_norm": "diff_b"}
# Names that old diffusers and xlabs give to a processor's pair: the stem keeps "to_q_lora", "qkv_lora1".
_PROCESSOR = re.compile(r"(?P<stem>.+\.\w+_lora[12]?)\.(?P<side>down|up)\.weight")
_EXAMPLES = [f"lora_{side}.weight" for side in ("A", "B", "down", "up", "mid")]
_EXAMPLES += ["alpha", "dora_scale", "lora_magnitude_vector", "hada_w1_a", "lokr_w1", "diff", "diff_b"]

# Marker in a name -> the kind it belongs to. The first match names the refusal.
UNSUPPORTED_KINDS: tuple[tuple[str, str], ...] = (
    (r"\.on_input$", "IA3"),
    (r"\.oft_(blocks|diag)|^oft_|\.oft_[RS]\b", "OFT or BOFT"),
    (r"\.(a1|a2|b1|b2|bm)\.weight$", "GLoRA"),
    (r"\.bias_(indices|values|size)$", "a sparse bias"),
    (r"\.set_weight$", "a replaced weight (set_weight)"),
    (r"\.reshape_weight$", "a reshaped weight (reshape_weight)"),
    (r"\.lokr_t1$", "LoKr with lokr_t1"),
    (r"\.base_layer\.", "a LoRA on a bare parameter (target_parameters)"),
    (r"\.modules_to_save\.", "modules_to_save"),
    (r"^lora_controlnet|^lora_prior_", "a control or Stable Cascade LoRA"),
    (r"^lycoris_.*\.(alphas|rescale)$|\.rescale$", "this LyCORIS algorithm"),
)
_ANY_UNSUPPORTED = re.compile("|".join(marker for marker, _ in UNSUPPORTED_KINDS))


def kind_of(key: str) -> str | None:
    """The unsupported kind that the tensor name `key` belongs to, or None."""
    if _ANY_UNSUPPORTED.search(key) is None:
        return None
    return next(name for marker, name in UNSUPPORTED_KINDS if re.search(marker, key))


def role_of(key: str) -> tuple[str, str] | None:
    """The (stem, role) of a tensor name, or None if no suffix is known."""
    processor = _PROCESSOR.fullmatch(key)
    if processor is not None:
        return processor["stem"], processor["side"]
    dot = key.rfind(".")
    while dot > 0:
        match = _SUFFIX.fullmatch(key, dot + 1)
        if match is not None:
            row = next(i for i in range(len(SUFFIXES)) if match[f"s{i}"] is not None)
            found = SUFFIXES[row][1] or next(g for g in match.groups()[::-1] if g is not None)
            return key[:dot], _SAME_ROLE.get(found, found)
        dot = key.rfind(".", 0, dot)
    return None


def stems_of(path: Path, keys: Iterable[str]) -> dict[str, Roles]:
    """Stem -> role -> tensor name, or RefusedInputError.

    E_DUP_MODULE where two names give one stem the same role, E_UNSUPPORTED for kinds that are refused,
    E_UNKNOWN_KEY for names of no kind, E_EMPTY for a file of no tensors.
    """
    found: dict[str, Roles] = {}
    strange: list[str] = []
    for key in sorted(keys):
        kind = kind_of(key)
        if kind is not None:
            reason = f"{kind} is not supported (tensor {shown(key)!r}); convert it to LoRA where it was made"
            raise refuse(path, "E_UNSUPPORTED", reason)
        known = role_of(key)
        if known is None:
            strange.append(key)
            continue
        roles = found.setdefault(known[0], {})
        if known[1] in roles:
            raise twice(path, known[0], keys=(roles[known[1]], key))
        roles[known[1]] = key
    if strange:
        raise _strange(path, strange)
    if not found:
        raise refuse(path, "E_EMPTY", "holds no tensors; give a LoRA file")
    return found


def twice(path: Path, layer: str, *, keys: tuple[str, str]) -> Exception:
    """The refusal of a layer that two tensors claim."""
    reason = f"layer {shown(layer)} comes twice, as {shown(keys[0])!r} and {shown(keys[1])!r}; keep one"
    return refuse(path, "E_DUP_MODULE", reason)


def _strange(path: Path, keys: list[str]) -> Exception:
    listed = ", ".join(shown(key, 60) for key in keys[:5])
    end = ".".join(keys[0].split(".")[-2:])
    reason = (
        f"{len(keys)} tensors are no LoRA factors: {listed}{nearest(end, _EXAMPLES)}; expected names such as "
        "unet.<layer>.lora_A.weight. Give a LoRA file, not a checkpoint"
    )
    return refuse(path, "E_UNKNOWN_KEY", reason)
