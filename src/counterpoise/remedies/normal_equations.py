"""The closed form of a low-rank edit: a linear layer sent to new outputs for some inputs, kept for others.

In: a weight, the inputs to edit and what they should give, the inputs to keep. Out: the minimiser as factors,
of a rank no greater than the number of edited inputs. Nothing is trained, and nothing is known of pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora.lowrank import LowRank

# What recompressing may lose of the update, relative, in Frobenius norm.
LOSS = 1e-6
# Beside the mean square of an edited input: keeps the equations soluble where inputs lie in a subspace.
RIDGE = 1e-4


def solve(
    weight: Tensor,
    edited: Tensor,
    targets: Tensor,
    preserved: Tensor | None = None,
    *,
    importance: Tensor | None = None,
    keep: float = 1.0,
    ridge: float = RIDGE,
    loss: float = LOSS,
) -> LowRank:
    """The update D of `weight` that minimises

        sum_i w_i |(W + D) c_i - v_i|^2 + keep sum_j |D k_j|^2 + ridge s |D|_F^2

    weight [out, in]; edited c [n, in]; targets v [n, out]; preserved k [m, in]; importance w [n], 1 if None;
    s = sum_i w_i |c_i|^2 / in, so that `ridge` has no unit. keep and ridge >= 0, ridge > 0 where the
    inputs do not span everything. D = R^T diag(w) C (C^T diag(w) C + keep K^T K + ridge s I)^-1 with the
    residuals R = V - C W^T: Eq. 7 of arXiv:2308.14761 with W_old pulled out of it, and of rank <= n. Factors
    are float32, of the least rank that loses at most `loss` of |D|_F; where nothing is to move, zeros of rank
    1. Computed in float64. UsageError E_SHAPE, RefusedInputError E_NONFINITE.
    """
    _check(weight, edited, targets, preserved=preserved, importance=importance)
    base, inputs = weight.detach().double(), edited.detach().double()
    share = torch.ones(len(inputs)) if importance is None else importance.detach()
    scaled = inputs * share.double()[:, None]
    residual = targets.detach().double() - inputs @ base.T
    system = inputs.T @ scaled
    size = float(system.trace()) / inputs.shape[1]
    if preserved is not None and len(preserved):
        kept = preserved.detach().double()
        system = system + keep * (kept.T @ kept)
    system.diagonal().add_(max(ridge * size, torch.finfo(torch.float64).tiny))
    # The system is symmetric: C M^-1 is the transpose of M^-1 C^T.
    return thin(residual.T, _divided(system, scaled.T).T, loss=loss)


def _divided(system: Tensor, right: Tensor) -> Tensor:
    """system^-1 right, by least squares where rounding has left the system without an inverse."""
    root, failed = torch.linalg.cholesky_ex(system)
    if not int(failed):
        return torch.cholesky_solve(right, root)
    return torch.linalg.lstsq(system, right, driver="gelsd").solution


def thin(up: Tensor, down: Tensor, *, loss: float = LOSS) -> LowRank:
    """up [out, n] @ down [n, in] as float32 factors of the least rank that loses at most `loss`, relative."""
    left, right = up.double(), down.double()
    if left.shape[1] < min(left.shape[0], right.shape[1]):  # else the product is the small core itself
        q_left, left = torch.linalg.qr(left)
        q_right, core = torch.linalg.qr(right.T)
        u, s, vh = torch.linalg.svd(left @ core.T)
        u, vh = q_left @ u, vh @ q_right.T
    else:
        u, s, vh = torch.linalg.svd(left @ right, full_matrices=False)
    tails = s.square().flip(0).cumsum(0).flip(0).sqrt()
    rank = max(1, int((tails > loss * s.norm()).sum()))
    root = s[:rank].sqrt()
    narrow_down, narrow_up = root[:, None] * vh[:rank], u[:, :rank] * root
    return LowRank(narrow_down.float().contiguous(), narrow_up.float().contiguous(), float(rank))


def _check(
    weight: Tensor,
    edited: Tensor,
    targets: Tensor,
    *,
    preserved: Tensor | None,
    importance: Tensor | None,
) -> None:
    out, width = weight.shape if weight.ndim == 2 else (0, 0)
    n = len(edited) if edited.ndim else 0
    shapes: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "edited": (edited, (n, width)),
        "targets": (targets, (n, out)),
    }
    if preserved is not None:
        shapes["preserved"] = (preserved, (len(preserved), width))
    if importance is not None:
        shapes["importance"] = (importance, (n,))
    for name, (tensor, expected) in shapes.items():
        if tuple(tensor.shape) != expected or not n:
            raise UsageError(
                f"{name} is {list(tensor.shape)}: expected {list(expected)} with at least one edited row for "
                f"a weight {list(weight.shape)}",
                code="E_SHAPE",
            )
    for name, (tensor, _) in {"weight": (weight, ()), **shapes}.items():
        if not bool(tensor.isfinite().all()):
            raise RefusedInputError(
                f"{name} holds NaN or infinite values; is the model sound?", code="E_NONFINITE"
            )
