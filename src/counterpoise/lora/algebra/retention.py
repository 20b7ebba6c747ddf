"""`retention`: what one adapter leaves of each of several members, on the member's own inputs.

In: an adapter that stands for a stack (composed by any method, the plain sum too), its members, and the
inputs that each is used on (covariances). Out: for each member the part of its outputs that is still there,
and what has come beside it. Read before anything is drawn, it says which members lose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.algebra.core import energy, left, right
from counterpoise.lora.algebra.covariance import check_covariances
from counterpoise.lora.algebra.members import check_members, factors_of


@final
@dataclass(frozen=True)
class Retention:
    """Of one member, summed over all layers; X are its inputs, D_i its update, D the stack's.

    `kept`: <D X, D_i X> / ||D_i X||^2: 1 is all of its own effect, 0 none, below 0 the opposite.
    `disturbance`: ||(D - D_i) X||^2 / ||D_i X||^2: what differs from the member alone, lost or added.
    None for a member that does nothing on its own inputs.
    """

    kept: float | None
    disturbance: float | None


def retention(
    made: Adapter, members: Sequence[Adapter], *, covariances: Sequence[Mapping[str, Tensor]]
) -> tuple[Retention, ...]:
    """What `made` keeps of each member on that member's inputs; `covariances`: one {layer: [in, in]} each.

    UsageError as `compose`, and E_COVARIANCE where a layer of `made` or of any member has none.
    """
    if isinstance(covariances, Mapping) or len(covariances) != len(members):
        count = "one mapping" if isinstance(covariances, Mapping) else f"{len(covariances)} mappings"
        reason = f"{count} of covariances for {len(members)} adapters: give a list, one for each"
        raise UsageError(reason, code="E_COVARIANCE")
    given = check_members([*members, made], None)
    # The stack comes last, with anyone's inputs: so its layers are checked as the members' are.
    seen = check_covariances([*covariances, *covariances[:1]], given)
    own = [_factors(adapter) for adapter in given.adapters]
    return tuple(_of(own[-1], factors, seen[i]) for i, factors in enumerate(own[:-1]))


Pair = tuple[Tensor, Tensor]


def _factors(adapter: Adapter) -> dict[str, Pair]:
    """Layer -> (up [out, r] with the scale in it, down [r, in]), float64."""
    pairs = {path: factors_of(update) for path, update in adapter.layers.items()}
    return {path: (left(update) * update.scale, right(update)) for path, update in pairs.items()}


def _of(stack: Mapping[str, Pair], own: Mapping[str, Pair], seen: Mapping[str, Tensor]) -> Retention:
    whole = shared = apart = 0.0
    for path in sorted(stack.keys() | own.keys()):
        ours, theirs, c = stack.get(path), own.get(path), seen[path]
        if theirs is not None:
            whole += energy(*theirs, c)
        if ours is not None and theirs is not None:
            shared += float(((ours[0].T @ theirs[0]) * (ours[1] @ c @ theirs[1].T)).sum())
            apart += energy(torch.cat([ours[0], -theirs[0]], 1), torch.cat([ours[1], theirs[1]], 0), c)
        else:
            only = theirs if ours is None else ours
            assert only is not None
            apart += energy(*only, c)
    return Retention(shared / whole, apart / whole) if whole else Retention(None, None)
