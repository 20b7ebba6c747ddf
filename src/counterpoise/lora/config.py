"""The numbers beside the tensors: PEFT's LoraConfig, as a file and as a diffusers header holds it.

In: a decoded config of unknown origin. Out: each layer's alpha, so that alpha / rank is the scale that
PEFT would apply; or a refusal where the config asks for more than plain LoRA. The other way round: the
config that makes PEFT apply exactly our alphas. Nothing that a config names is imported or fetched.
Source: peft 0.21, tuners/lora/config.py and `get_pattern_key`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from counterpoise.errors import shown
from counterpoise.lora.header import refuse
from counterpoise.lora.update import Update, is_finite_number

_OFF: tuple[object, ...] = (None, False, {}, [], "")
# Field -> what it asks for, wherever its value is not off. Each would change the update's arithmetic.
UNSUPPORTED_FIELDS: Mapping[str, str] = {
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "modules_to_save": "modules_to_save",
    "layer_replication": "layer replication",
    "target_parameters": "a LoRA on bare parameters (target_parameters)",
    "trainable_token_indices": "trainable tokens",
    "alora_invocation_tokens": "activated LoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal LoRA",
    "arrow_config": "Arrow",
    "kasa_config": "KaSA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
    "loftq_config": "LoftQ",
}
# These initialisations change the base's own weights: the factors are right on that changed base alone.
_CHANGED_BASES = ("pissa", "olora", "corda", "lora_ga", "loftq")


# Field -> the role that it gives to every layer's tensors (PEFT's lora_bias knows no embedding's).
_FIELD_OF_ROLE: Mapping[str, str] = {"magnitude": "use_dora", "bias": "lora_bias"}


def layer_alphas(
    path: Path, config: Mapping[str, Any], ranks: Mapping[str, int], *, roles: Mapping[str, set[str]]
) -> dict[str, float]:
    """The effective alpha of every layer in `ranks` (path -> rank of its tensors) under `config`.

    `roles` are the layers' tensors; RefusedInputError E_CONFIG where they are not what the config says.
    """
    _refuse_unsupported(path, config)
    rank_of = _pattern_lookup(path, config, "rank_pattern", default="r")
    alpha_of = _pattern_lookup(path, config, "alpha_pattern", default="lora_alpha")
    _check_targets(path, config, ranks)
    found = {}
    for layer, rank in ranks.items():
        _check_roles(path, config, layer, roles=roles[layer])
        said = rank_of(layer)
        if said != rank:
            reason = (
                f"layer {shown(layer)} has rank {rank}, its config says {said}: they do not belong together"
            )
            raise refuse(path, "E_RANK", reason)
        # rsLoRA (arXiv:2312.03732) scales by alpha / sqrt(rank): as a plain alpha that is alpha * sqrt(rank).
        found[layer] = alpha_of(layer) * (math.sqrt(rank) if config.get("use_rslora") else 1.0)
    return found


def _check_roles(path: Path, config: Mapping[str, Any], layer: str, *, roles: set[str]) -> None:
    if "hada_w1_a" in roles or roles & {"lokr_w1", "lokr_w1_a", "diff", "mid"}:
        reason = f"layer {shown(layer)} has {', '.join(sorted(roles))}, which a LoRA config does not describe"
        raise refuse(path, "E_CONFIG", f"{reason}; they do not belong together")
    for role, field in _FIELD_OF_ROLE.items():
        wanted = config.get(field) not in _OFF and not (role == "bias" and "embedding_A" in roles)
        if wanted != (role in roles):
            has = f"has a {role}" if role in roles else f"has no {role}"
            reason = f"layer {shown(layer)} {has} but {field} is {shown(config.get(field))}"
            raise refuse(path, "E_CONFIG", f"{reason}; the config and the tensors do not belong together")


def _refuse_unsupported(path: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise refuse(path, "E_UNSUPPORTED", f"peft_type {shown(kind)} is not supported yet; plain LORA is")
    for field, name in UNSUPPORTED_FIELDS.items():
        if config.get(field) not in _OFF:
            raise refuse(path, "E_UNSUPPORTED", f"{name} is not supported yet; convert it to plain LoRA")
    if config.get("bias") not in (None, "none"):
        raise refuse(path, "E_UNSUPPORTED", f"bias {shown(config['bias'])!r} is not supported yet; 'none' is")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGED_BASES):
        reason = f"init_lora_weights {shown(start)!r} changed the base: the factors do not fit the plain one"
        raise refuse(path, "E_UNSUPPORTED", f"{reason}; save with path_initial_model_for_weight_conversion")


def _number(path: Path, field: str, value: object) -> float:
    if not is_finite_number(value):
        raise refuse(path, "E_CONFIG", f"{field} is {shown(value, 40)!r}: expected a finite number")
    assert isinstance(value, int | float)
    return value


def _rank(path: Path, field: str, value: object) -> int:
    number = _number(path, field, value)
    if number != int(number) or number < 1:
        raise refuse(path, "E_RANK", f"{field} is {shown(value)}: a rank is a whole number of 1 or more")
    return int(number)


def _pattern_lookup(path: Path, config: Mapping[str, Any], field: str, *, default: str) -> Any:
    """layer -> value, as PEFT looks it up: regex `(.*\\.)?(PATTERN)$`, the first match wins."""
    check = _rank if field == "rank_pattern" else _number
    patterns = config.get(field) or {}
    if default not in config or not isinstance(patterns, dict):
        wrong = f"{default} is missing" if default not in config else f"{field} is not an object"
        raise refuse(path, "E_CONFIG", f"the adapter config is incomplete: {wrong}; save the adapter again")
    fallback = check(path, default, config[default])
    compiled = [
        (_safe_regex(path, field, pattern, wrapped=rf"(?:.*\.)?(?:{pattern})$"), check(path, field, value))
        for pattern, value in patterns.items()
    ]

    def value_of(layer: str) -> float:
        return next((value for regex, value in compiled if regex.match(layer)), fallback)

    return value_of


def _safe_regex(path: Path, field: str, pattern: str, *, wrapped: str) -> re.Pattern[str]:
    """`wrapped` compiled, if `pattern` from a file cannot make matching take for ever."""
    plain = re.sub(r"\\.|\[[^\]]*\]", "x", pattern)  # escapes and character classes are single steps
    loops = len(re.findall(r"[*+}]", plain))
    # A repeated group is what makes backtracking exponential; each further loop adds a power of the length.
    if re.search(r"\)[*+?{]", plain) or loops > 2 or (loops and len(pattern) > 1000):
        raise refuse(
            path, "E_CONFIG", f"{field} has the pattern {shown(pattern)!r}: too complex; name the layers"
        )
    try:
        return re.compile(wrapped)
    except (re.error, RecursionError, OverflowError):
        raise refuse(
            path, "E_CONFIG", f"{field} has the pattern {shown(pattern)!r}: not a valid regex"
        ) from None


def _check_targets(path: Path, config: Mapping[str, Any], layers: Mapping[str, int]) -> None:
    targets = config.get("target_modules")
    if targets is None or targets == "all-linear":
        return
    if isinstance(targets, str):
        regex = _safe_regex(path, "target_modules", targets, wrapped=targets)
        outside = [layer for layer in layers if not regex.fullmatch(layer)]
    elif isinstance(targets, list) and all(isinstance(target, str) for target in targets):
        ends = set(targets)
        outside = [layer for layer in layers if not ends.intersection(_tails(layer))]
    else:
        raise refuse(path, "E_CONFIG", "target_modules is neither a text nor a list of texts; save it again")
    if outside:
        listed = ", ".join(shown(layer, 80) for layer in outside[:5])
        reason = f"the file holds {len(outside)} layers that target_modules does not name: {listed}"
        raise refuse(path, "E_CONFIG", f"{reason}; the config and the tensors do not belong together")


def _tails(layer: str) -> list[str]:
    parts = layer.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def plain_number(value: float) -> float:
    """`value` as an int where it is one: PEFT's fields are ints."""
    return int(value) if float(value).is_integer() else value


def lora_config(layers: Mapping[str, Update]) -> dict[str, Any]:
    """The LoraConfig fields under which PEFT gives every layer exactly its rank and alpha."""
    rank = Counter(update.rank for update in layers.values()).most_common(1)[0][0]
    alpha = Counter(update.alpha for update in layers.values()).most_common(1)[0][0]
    # Escaped and anchored: PEFT matches patterns as regexes at the end of a path, so that a bare "fc"
    # would also take "block.fc", and the target list "fc" likewise.
    exact = {path: "^" + re.escape(path) for path in sorted(layers)}
    roles = {role for update in layers.values() for role in update.tensors()}
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": plain_number(alpha),
        "rank_pattern": {exact[p]: layers[p].rank for p in exact if layers[p].rank != rank},
        "alpha_pattern": {exact[p]: plain_number(layers[p].alpha) for p in exact if layers[p].alpha != alpha},
        "target_modules": "|".join(re.escape(path) for path in sorted(layers)),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        **{field: role in roles for role, field in _FIELD_OF_ROLE.items()},
        "init_lora_weights": True,
    }
