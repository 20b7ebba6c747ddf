"""More capacity without another function: a UNet with further transformer blocks that at first do nothing.

In: a UNet2DConditionModel. Out: a copy with `more` transformer blocks behind those of every attention, whose
output projections are zero, so that each passes on what it gets, to the bit. Depth and not width: the class's
own config can say it, so the saved folder loads wherever the first one did, while a wider feed-forward has no
place in that config and doubled channels cost four times the multiplications.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from counterpoise.diffusion.load import plain_attention_if_short
from counterpoise.errors import UsageError

LAYERS = "transformer_layers_per_block"
# What a transformer block adds to its input passes through one of these.
_OUT = re.compile(
    r"\.transformer_blocks\.\d+\.(attn1\.to_out\.0|attn2\.to_out\.0|ff\.net\.2)\.(weight|bias)$"
)


def deepened(unet: Any, more: int = 1, *, seed: int = 0) -> Any:
    """The UNet with `more` further blocks an attention, drawn from `seed` but for their zero outputs.

    UsageError E_CAPACITY unless 1 <= more, or for a network without transformer blocks to add to.
    """
    known = getattr(getattr(unet, "config", None), LAYERS, None)
    if more < 1 or known is None:
        what = f"{more} further blocks" if known is not None else type(unet).__name__
        raise UsageError(
            f"cannot deepen by {what}: expected 1 or more for a UNet2DConditionModel", code="E_CAPACITY"
        )
    layers = known + more if isinstance(known, int) else _more(known, more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        deeper = type(unet).from_config({**unet.config, LAYERS: layers})
    found = deeper.load_state_dict(unet.state_dict(), strict=False)
    fresh = set(found.missing_keys)
    if found.unexpected_keys or not any(_OUT.search(name) for name in fresh):
        raise UsageError(
            f"{type(unet).__name__} has no transformer blocks that could be added to", code="E_CAPACITY"
        )
    with torch.no_grad():
        for name, parameter in deeper.named_parameters():
            if name in fresh and _OUT.search(name):
                parameter.zero_()
    if unet.device.type == "cpu":
        plain_attention_if_short(deeper)
    return deeper.to(unet.device, unet.dtype).eval().requires_grad_(False)


def _more(known: Any, more: int) -> Any:
    return [part + more if isinstance(part, int) else _more(part, more) for part in known]
