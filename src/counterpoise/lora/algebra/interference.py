"""`interference`: how adapters get in each other's way, from their factors, in milliseconds.

In: adapters at strengths; on request the inputs they are used on (covariances). Out: per layer and overall,
how aligned they are, what the sum's energy is, how much of their output and input subspaces they share,
and strengths under which the stack has the energy of one of them. Nothing is merged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra.core import Layer, membership
from counterpoise.lora.algebra.covariance import check_covariances
from counterpoise.lora.algebra.members import Members, check_members
from counterpoise.lora.algebra.overlap import subspace_overlaps
from counterpoise.lora.algebra.shares import Interference, Pairs


def interference(
    members: Sequence[Adapter],
    strengths: Sequence[float] | None = None,
    *,
    covariances: Sequence[Mapping[str, Tensor]] | None = None,
) -> Interference:
    """How `members` at `strengths` (default 1 each) interfere, per layer and overall.

    `covariances`: one {layer: [in, in]} a member, as `input_covariances` makes them; then also how the
    stack's energy on each member's own calibration inputs is shared out. UsageError as `compose`.
    """
    given = check_members(members, strengths)
    checked = None if covariances is None else check_covariances(covariances, given)
    found: dict[str, Pairs] = {}
    grams: list[Tensor] = []
    functional: list[Tensor] = []
    with torch.inference_mode(False), torch.no_grad():
        for path in given.paths():
            layer = given.layer(path, [""] * len(given))
            if layer is None:
                continue
            up, down = layer.stacked()
            outer, inner = up.T @ up, down @ down.T
            gram = _blocks(outer * inner, layer, len(given))
            seen = (
                None if checked is None else _seen(layer, outer, down, covariances=[c[path] for c in checked])
            )
            grams.append(gram)
            functional += [] if seen is None else [seen]
            overlaps = subspace_overlaps(layer, outer, inner, count=len(given))
            found[path] = Pairs.of(gram, overlaps, seen)
    total = torch.stack(grams).sum(0) if grams else torch.zeros(len(given), len(given))
    seen = torch.stack(functional).sum(0) if functional else None
    return Interference(
        strengths=given.strengths,
        suggested=suggested(total, given),
        overall=Pairs.merged(total, list(found.values()), seen),
        layers=found,
    )


def _blocks(products: Tensor, layer: Layer, count: int) -> Tensor:
    """The sum of each pair of members' block: <D_i, D_j> = sum((up_i^T up_j) * (down_i down_j^T))."""
    member = membership(layer.owners, [update.rank for update in layer.updates], count)
    return member.T @ products @ member


def _seen(layer: Layer, outer: Tensor, down: Tensor, *, covariances: Sequence[Tensor]) -> Tensor:
    """[n, n, n]: for each member k's inputs X_k, the Gram matrix <D_i X_k, D_j X_k>."""
    count = len(covariances)
    return torch.stack([_blocks(outer * (down @ c @ down.T), layer, count) for c in covariances])


def suggested(gram: Tensor, members: Members) -> tuple[float, ...]:
    """Strengths that make members equal and the stack no louder than one of them.

    Each member's energy ||strength Delta W||^2 is set to the members' mean (signs stay, silent ones too);
    then all strengths get one factor, so that the sum's energy is that mean as well. In a sum that cancels
    below a millionth of it the second step is left out: it would amplify rounding.
    """
    energies = gram.diagonal()
    heard = energies > 0
    if not bool(heard.any()):
        return members.strengths
    mean = float(energies[heard].mean())
    factors = torch.where(heard, (mean / energies.where(heard, torch.ones_like(energies))).sqrt(), 1.0)
    stack = float(factors @ gram @ factors)
    level = math.sqrt(mean / stack) if stack > 1e-6 * mean else 1.0
    return tuple(s * float(f) * level for s, f in zip(members.strengths, factors, strict=True))
