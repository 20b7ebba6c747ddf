"""How factors act on a layer while they learn: the cheapest graph that gives their gradients.

In: a layer's call and its `Factors`. Out: the output with the update added. Per linear layer autograd keeps
the input and [tokens, rank] beside it; the scale is in the product's own alpha, so that nothing of the
output's size is multiplied, and nothing is kept or computed wider than the layer itself does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoise.lora.factors import Factors, Pair
from counterpoise.lora.layers import Site
from counterpoise.lora.update import full_precision, uncast


def added(site: Site, factors: Factors, x: Tensor, output: Tensor) -> Tensor:
    """`output` of the layer for `x` as it is with the update, in the output's dtype, with gradient."""
    pair, scale = factors.pair(), factors.scale
    whole = (_linear if site.kind.name == "Linear" else _other)(site, x, output, pair=pair, scale=scale)
    if factors.magnitude is None:
        return whole
    ratio = _ratio(site.weight, factors, pair)
    if isinstance(site.owner, nn.Embedding):
        excess = F.embedding(x, ratio - 1).to(whole.dtype)
    else:
        # One less: near 1 a bfloat16 ratio would be rounded to 1.
        excess = (ratio - 1).to(whole.dtype).reshape(-1, *(1 for _ in site.weight.shape[2:]))
    bias = getattr(site.owner, "bias", None)
    rest = whole if bias is None else whole - excess * bias.to(whole.dtype).reshape(excess.shape)
    return torch.addcmul(rest, whole, excess)


def replaced(site: Site, factors: Factors) -> Tensor:
    """The whole weight with the update, in the weight's dtype, with gradient: for parameters of no layer."""
    weight, pair = site.weight, factors.pair()
    down, up = (factor.flatten(1) for factor in pair)
    with uncast(weight):
        whole = torch.addmm(weight.flatten(1).to(down.dtype), up, down, alpha=factors.scale)
    if factors.magnitude is not None:
        whole = whole * _ratio(weight, factors, pair)
    return whole.reshape(weight.shape).to(weight.dtype)


def _linear(_site: Site, x: Tensor, output: Tensor, *, pair: Pair, scale: float) -> Tensor:
    down, up = (factor.to(output.dtype) for factor in pair)
    hidden = F.linear(x.to(output.dtype), down)
    flat = torch.addmm(output.reshape(-1, up.shape[0]), hidden.reshape(-1, up.shape[1]), up.T, alpha=scale)
    return flat.view(output.shape)


def _other(site: Site, x: Tensor, output: Tensor, *, pair: Pair, scale: float) -> Tensor:
    assert site.kind.beside is not None
    if not isinstance(site.owner, nn.Embedding):  # whose rows are looked up first, and then cast
        pair = (pair[0].to(output.dtype), pair[1].to(output.dtype))
    update = site.kind.beside(site.owner, x, pair, None if scale == 1.0 else lambda hidden: hidden * scale)
    update = update.to(output.dtype)
    # Onto our own tensor, never onto the layer's output, which another hook may hold.
    return update.add_(output)


def row_lengths(weight: Tensor, pair: Pair | None = None, scale: float = 1.0) -> Tensor:
    """|V| of each row of V = W0 + scale * up @ down, [out, 1] in float32 or wider, without gradient.

    V is not built: |V|^2 = |W0|^2 + 2 <W0, D> + |D|^2, each by [out, rank].
    """
    with full_precision(weight):
        base = weight.detach().flatten(1).to(torch.promote_types(torch.float32, weight.dtype))
        squares = base.square().sum(1, keepdim=True)
        if pair is not None:
            down, up = (factor.detach().flatten(1) for factor in pair)
            squares += 2 * scale * (up * (base @ down.T)).sum(1, keepdim=True)
            squares += scale**2 * ((up @ (down @ down.T)) * up).sum(1, keepdim=True)
        return squares.clamp_min(0).sqrt()


def _ratio(weight: Tensor, factors: Factors, pair: Pair) -> Tensor:
    """magnitude / |V|, [out, 1]; the lengths |V| are taken as constants (section 4.3, arXiv:2402.09353)."""
    assert factors.magnitude is not None
    lengths = row_lengths(weight, pair, factors.scale)
    # A row of zeros stays zero, its gradient too.
    return factors.magnitude.flatten(1) / lengths.masked_fill(lengths == 0, math.inf)
