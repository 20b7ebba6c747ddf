"""TSV-M: the members' leading singular vectors side by side, made orthogonal. arXiv:2412.00081.

Each of n members keeps its first min(out, in) / n values: for low-rank members usually all of theirs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.lora.algebra.core import Layer, Spectrum, numerical_rank, singular


def nearest_orthonormal(columns: Tensor) -> Tensor:
    """The polar factor of `columns` [d, k]: the nearest orthonormal ones (Procrustes).

    Directions that the members share exactly have no nearest; they are left at zero, where a full SVD
    would complete them with arbitrary vectors.
    """
    q, r = torch.linalg.qr(columns)
    u, values, vh = torch.linalg.svd(r, full_matrices=False)
    kept = max(1, numerical_rank(values, columns.shape[0]))
    return q @ u[:, :kept] @ vh[:kept]


def tsv_m(layer: Layer) -> Spectrum:
    """The sum of the members after their singular vectors are made orthogonal to one another's."""
    members = [singular(up, down) for up, down in zip(layer.ups, layer.downs, strict=True)]
    most = max(1, min(layer.sides) // len(members))
    kept = [min(most, max(1, member.rank)) for member in members]
    ups = torch.cat([m.left[:, :k] for m, k in zip(members, kept, strict=True)], 1)
    downs = torch.cat([m.right[:k] for m, k in zip(members, kept, strict=True)], 0)
    values = torch.cat([m.values[:k] for m, k in zip(members, kept, strict=True)])
    return singular(nearest_orthonormal(ups) * values, nearest_orthonormal(downs.T).T)
