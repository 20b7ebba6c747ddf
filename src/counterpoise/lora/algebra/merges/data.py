"""Data-aware composition: the rank-r update that best keeps each member's outputs on its own inputs.

Minimises sum_i ||(D - D_i) X_i||^2 over D of rank r, with D_i = strength_i * Delta W_i and X_i X_i^T = C_i
the input covariance of member i. Without the rank, D* = (sum D_i C_i) (sum C_i)^-1 (RegMean,
arXiv:2212.09849). As the objective is ||(D - D*) L||^2 + const with L L^T = sum C_i, the optimum
of rank r is the truncated SVD of D* L, times L^-1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from counterpoise.errors import UsageError, shown
from counterpoise.lora.algebra.core import Layer, Spectrum, as_update, energy, result_dtype
from counterpoise.lora.algebra.members import check_share
from counterpoise.lora.algebra.merges.result import Solved


def data(layer: Layer, *, ridge: float = 1e-4) -> Solved:
    """The optimum above, each C_i with `ridge` times its mean diagonal added: inputs with a little noise.

    UsageError E_COVARIANCE if the sum of covariances is still not positive definite.
    """
    share = check_share("ridge", ridge, code="E_OPTION", most=1e6)
    assert layer.covariances is not None
    noisy = [
        c + share * float(c.diagonal().mean()) * torch.eye(len(c), dtype=c.dtype) for c in layer.covariances
    ]
    root, fault = torch.linalg.cholesky_ex(torch.stack(noisy).sum(0))
    if int(fault):
        reason = f"layer {shown(layer.path)}: the covariances' sum is not positive definite; raise ridge"
        raise UsageError(reason, code="E_COVARIANCE")
    up = torch.cat(layer.ups, 1)
    seen = torch.cat([down @ noisy[i] for down, i in zip(layer.downs, layer.owners, strict=True)], 0)
    # D* L = up @ seen @ (L L^T)^-1 @ L = up @ (L^-1 seen^T)^T
    white = torch.linalg.solve_triangular(root, seen.T, upper=False)
    q, r = torch.linalg.qr(up)
    u, values, vh = torch.linalg.svd(r @ white.T, full_matrices=False)
    best = Spectrum(q @ u, values, vh)
    rank = max(1, min(best.rank, layer.rank or best.rank))
    left, right = best.factors(rank)
    down = torch.linalg.solve_triangular(root.T, right.T, upper=True).T
    error, norm = output_error(layer, left, down)
    return Solved(as_update(left, down, layer.shape, dtype=result_dtype(layer.updates)), error, norm)


def output_error(layer: Layer, up: Tensor, down: Tensor) -> tuple[float, float]:
    """sqrt(sum_i ||(up @ down - D_i) X_i||^2) over sqrt(sum_i ||D_i X_i||^2), and the latter; no ridge."""
    own = dict(zip(layer.owners, zip(layer.ups, layer.downs, strict=True), strict=True))
    lost = whole = 0.0
    for i, covariance in enumerate(layer.covariances or ()):
        if i not in own:  # the member does nothing here, and wants nothing done to its inputs
            lost += energy(up, down, covariance)
            continue
        whole += energy(*own[i], covariance)
        lost += energy(torch.cat([up, -own[i][0]], 1), torch.cat([down, own[i][1]], 0), covariance)
    return (math.sqrt(lost / whole) if whole else 0.0), math.sqrt(whole)
