"""The dialects that adapter files come in, as one table: how a stem is recognised, and which layers it means.

In: the stems of a file (tensor names without their roles). Out: for each the layer paths that it means, and
the names of the dialects met. Paths are diffusers': they begin with the component of a pipeline ("unet.").
A flattened name that no known model explains stays as it is, to be matched against a model's own modules.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, final

from counterpoise.lora.dialects.grammar import Grammar, Meaning
from counterpoise.lora.dialects.models import BFL, CLIP, FLUX, SGM, T5, UNET, XLABS

PEFT_PREFIX = "base_model.model."
# diffusers' names for the parts of a pipeline that may carry a LoRA: the first part of a path.
COMPONENTS = frozenset(
    {"unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3", "vae"}
)


class Place(NamedTuple):
    """Under which component's prefix a grammar's layers are."""

    component: str
    grammar: Grammar


_NETWORKS = (Place("unet", UNET), Place("unet", SGM), Place("transformer", BFL), Place("transformer", FLUX))
# Prefix of a flattened name -> where its layer may be. "lycoris_" wraps one module: paths without prefix.
FLAT_PREFIXES: Mapping[str, tuple[Place, ...]] = {
    "lora_unet_": _NETWORKS,
    "lora_transformer_": (Place("transformer", FLUX), Place("transformer", BFL)),
    "lora_te_": (Place("text_encoder", CLIP),),
    "lora_te1_": (Place("text_encoder", CLIP),),
    "lora_te2_": (Place("text_encoder_2", CLIP),),
    # T5: the third encoder of Stable Diffusion 3; for Flux, whose second it is, see `meanings`.
    "lora_te3_": (Place("text_encoder_3", T5),),
    "lycoris_": (Place("", UNET), Place("", FLUX)),
}
# Prefix of a dotted name -> where its layer may be.
DOTTED_PREFIXES: Mapping[str, tuple[Place, ...]] = {
    "diffusion_model.": (Place("transformer", BFL), Place("transformer", XLABS), Place("unet", SGM)),
    PEFT_PREFIX: (Place("transformer", BFL),),
    "text_encoders.clip_l.transformer.": (Place("text_encoder", CLIP),),
    "text_encoders.clip_g.transformer.": (Place("text_encoder_2", CLIP),),
    "text_encoders.t5xxl.transformer.": (Place("text_encoder_3", T5),),
    "": (Place("transformer", BFL), Place("transformer", XLABS)),
}
# T5's stems, and blocks that tell that it is the second encoder, as in Flux, and not the third.
_T5_STEMS = ("lora_te3_", "text_encoders.t5xxl.")
_ONLY_IN_FLUX = re.compile(r"double_blocks|single_blocks|single_transformer_blocks")
_OLD_UNET = re.compile(r"(.+)\.processor\.(to_[qkv]|to_out|add_[kv]_proj)_lora")
_OLD_TEXT = re.compile(r"(.+\.self_attn)\.to_(q|k|v|out)_lora")


@final
@dataclass(frozen=True)
class Spelling:
    """A row: a dialect's name and what it makes of a stem (None: not mine)."""

    name: str
    meaning: Callable[[str], Meaning | None]


def flat_prefix(stem: str) -> str | None:
    """The prefix of a flattened stem, or None for a dotted one."""
    if "." in stem:
        return None
    return next((prefix for prefix in FLAT_PREFIXES if stem.startswith(prefix)), None)


def split_component(path: str) -> tuple[str, str]:
    """("unet", "conv_in") of "unet.conv_in"; the first part is empty where it is no component."""
    component, _, inside = path.partition(".")
    return (component, inside) if component in COMPONENTS and inside else ("", path)


def is_open(path: str) -> bool:
    """Whether a layer path is a name that only a model's module list can explain."""
    return flat_prefix(path) is not None or path.startswith("diffusion_model.")


def _at(place: Place, meaning: Meaning | None) -> Meaning | None:
    if meaning is None or not place.component:
        return meaning
    return meaning._replace(targets=tuple(f"{place.component}.{path}" for path in meaning.targets))


def _flat_names(*prefixes: str) -> Callable[[str], Meaning | None]:
    def meaning(stem: str) -> Meaning | None:
        prefix = flat_prefix(stem)
        if prefix not in prefixes:
            return None
        name = stem.removeprefix(prefix)
        found = {_at(p, m) for p in FLAT_PREFIXES[prefix] if (m := p.grammar.flattened(name)) is not None}
        return found.pop() or None if len(found) == 1 else Meaning((stem,))

    return meaning


def _dotted_names(*prefixes: str, stay: bool = False) -> Callable[[str], Meaning | None]:
    def meaning(stem: str) -> Meaning | None:
        for prefix in prefixes:
            if stem.startswith(prefix):
                name = stem.removeprefix(prefix)
                places = DOTTED_PREFIXES[prefix]
                found = next((_at(p, m) for p in places if (m := p.grammar.dotted(name))), None)
                return found if found is not None or not stay else Meaning((stem,))
        return None

    return meaning


def _old_diffusers(stem: str) -> Meaning | None:
    for regex, names in ((_OLD_UNET, {"to_out": "to_out.0"}), (_OLD_TEXT, {})):
        match = regex.fullmatch(stem)
        if match is not None:
            name = match[2] if regex is _OLD_UNET else f"{match[2]}_proj"
            return Meaning((f"{match[1]}.{names.get(name, name)}",))
    return None


def _path(stem: str) -> Meaning:
    return Meaning((stem.removeprefix(PEFT_PREFIX),))


# The first row that makes something of a stem names its dialect.
SPELLINGS: tuple[Spelling, ...] = (
    Spelling("kohya", _flat_names("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_")),
    Spelling("OneTrainer", _flat_names("lora_transformer_")),
    Spelling("LyCORIS", _flat_names("lycoris_")),
    Spelling("diffusion_model", _dotted_names("diffusion_model.", stay=True)),
    Spelling("ComfyUI text encoders", _dotted_names(*(p for p in DOTTED_PREFIXES if p.startswith("text_")))),
    Spelling("fal Flux", _dotted_names(PEFT_PREFIX)),
    Spelling("old diffusers", _old_diffusers),
    Spelling("BFL or xlabs Flux", _dotted_names("")),
    Spelling("PEFT", lambda stem: _path(stem) if stem.startswith(PEFT_PREFIX) else None),
    Spelling("diffusers", lambda stem: _path(stem) if stem.partition(".")[0] in COMPONENTS else None),
    Spelling("module paths", _path),
)
# With a config beside the tensors, names are module paths: nothing is renamed.
PATH_SPELLINGS = SPELLINGS[-3:]


def meanings(stems: Iterable[str], *, has_config: bool) -> tuple[dict[str, Meaning], tuple[str, ...]]:
    """Stem -> what it means, and the dialects met, in the order of the table."""
    table = PATH_SPELLINGS if has_config else SPELLINGS
    found: dict[str, Meaning] = {}
    met: set[str] = set()
    for stem in stems:
        name, meaning = next((s.name, m) for s in table if (m := s.meaning(stem)) is not None)
        found[stem] = meaning
        met.add(name)
    if any(_ONLY_IN_FLUX.search(stem) for stem in found):
        t5 = {stem: meaning for stem, meaning in found.items() if stem.startswith(_T5_STEMS)}
        found |= {stem: _as_second_encoder(meaning) for stem, meaning in t5.items()}
    return found, tuple(spelling.name for spelling in SPELLINGS if spelling.name in met)


def _as_second_encoder(meaning: Meaning) -> Meaning:
    third, second = "text_encoder_3.", "text_encoder_2."
    moved = (second + p.removeprefix(third) if p.startswith(third) else p for p in meaning.targets)
    return meaning._replace(targets=tuple(moved))


def understood(name: str) -> Meaning | None:
    """What a reader without a model makes of a flattened `name`; None where it stays open."""
    meaning = next((m for spelling in SPELLINGS[:3] if (m := spelling.meaning(name)) is not None), None)
    return None if meaning is None or meaning.targets == (name,) else meaning
