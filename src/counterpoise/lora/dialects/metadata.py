"""What a file says of itself beside its tensors, for every reader that looks: kohya's, modelspec's, ours.

In: an adapter's layers and its own metadata. Out: the header fields of its file; and from a file's header
the part that is the adapter's own. Sources: kohya-ss/sd-scripts (ss_*), Stability-AI/ModelSpec 1.0.1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from counterpoise.lora.config import plain_number
from counterpoise.lora.dialects.alphas import CONFIG_FIELD
from counterpoise.lora.dialects.hashes import LEGACY_HASH, MODEL_HASH, SPEC_HASH, hash_fields
from counterpoise.lora.kinds import Full, LowRank, plain
from counterpoise.lora.update import Update

PROVENANCE = "counterpoise.provenance"
"""JSON of an adapter's parents: names, fingerprints, weights, method, error. Kept from file to file."""
# Always worked out from the layers, never an adapter's own.
RESERVED_METADATA = frozenset(
    {"format", CONFIG_FIELD, "ss_network_dim", "ss_network_alpha", MODEL_HASH, LEGACY_HASH, SPEC_HASH}
)
# modelspec.architecture -> ss_base_model_version, as sd-scripts pairs them.
_BASE_VERSION = {
    "stable-diffusion-v1": "sd_v1",
    "stable-diffusion-v2-768-v": "sd_v2_v",
    "stable-diffusion-xl-v1-base": "sdxl_base_v1-0",
    "flux-1-dev": "flux1",
}
# Width of the text features that cross-attention reads -> whose they are (each model's UNet config.json).
_FAMILY_OF_WIDTH = {768: "stable-diffusion-v1", 1024: "stable-diffusion-v2-768-v"}
_FAMILY_OF_WIDTH[2048] = "stable-diffusion-xl-v1-base"
# An absolute path: at the start of a value or after a quote, bracket, comma, "=" or blank; a drive, share,
# home, or a slash and two parts at least ("[/red]" is a tag). Its last part is kept.
_BEFORE = r"""(?P<before>^|["'=(\[,\s])(?:file://)?"""
_ROOT = r"""(?:[A-Za-z]:[\\/]+|\\\\|~[\\/]|/(?=[^\s"'/\\]+[\\/]))"""
_ABSOLUTE = re.compile(_BEFORE + _ROOT + r"""(?P<path>[^"'\n,;)\]]*)""")


def family(layers: Mapping[str, Update]) -> str | None:
    """The modelspec architecture that the layers' names and widths tell, or None."""
    for path, update in layers.items():
        if path.startswith(("transformer.single_transformer_blocks.", "transformer.transformer_blocks.")):
            return "flux-1-dev" if any(".single_transformer_blocks." in other for other in layers) else None
        if path.startswith("unet.") and path.endswith(("attn2.to_k", "attn2.to_v")):
            return _FAMILY_OF_WIDTH.get(update.weight_shape[1])
    return None


def default_fields(layers: Mapping[str, Update], metadata: Mapping[str, str]) -> dict[str, str]:
    """The header fields that a file has even where the adapter's own metadata is silent."""
    made_for = family(layers)
    lora = all(isinstance(plain(update), LowRank) for update in layers.values())
    fields = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{made_for or 'unknown'}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": metadata.get("ss_output_name") or metadata.get("title") or "untitled",
        "ss_network_module": "networks.lora" if lora else "lycoris.kohya",
        "ss_network_args": "{}",
    }
    if made_for in _BASE_VERSION:
        fields["ss_base_model_version"] = _BASE_VERSION[made_for]
        fields["ss_v2"] = str("v2" in made_for)
    return fields


def network_fields(layers: Mapping[str, Update]) -> dict[str, str]:
    """ss_network_dim and ss_network_alpha: the numbers that all layers share, else "Dynamic" as kohya's
    resize says."""
    kept = [update for update in layers.values() if not isinstance(plain(update), Full)]
    ranks = Counter(update.rank for update in kept)
    alphas = Counter(update.alpha for update in kept)
    return {
        "ss_network_dim": str(next(iter(ranks))) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(plain_number(next(iter(alphas)))) if len(alphas) == 1 else "Dynamic",
    }


def header_fields(
    layers: Mapping[str, Update], metadata: Mapping[str, str], *, tensors: Mapping[str, Tensor]
) -> dict[str, str]:
    """All metadata of a file that holds `layers` as `tensors`: no absolute path in it, its hashes right."""
    own = {key: without_paths(value) for key, value in metadata.items()}
    fields = {**default_fields(layers, own), **own, **network_fields(layers), "format": "pt"}
    return {**fields, **hash_fields(tensors, fields)}


def own_metadata(metadata: Mapping[str, str], layers: Mapping[str, Update]) -> dict[str, str]:
    """What is the adapter's own of a header: all but what saving it would say anyway."""
    said = {key: value for key, value in metadata.items() if key not in RESERVED_METADATA}
    anyway = default_fields(layers, said)
    return {key: value for key, value in said.items() if anyway.get(key) != value}


def without_paths(text: str) -> str:
    """`text` with every absolute path in it cut to its last part: it would tell whose machine it was."""

    def last(match: re.Match[str]) -> str:
        return match["before"] + (re.split(r"[\\/]+", match["path"].rstrip("\\/"))[-1])

    return _ABSOLUTE.sub(last, text)
