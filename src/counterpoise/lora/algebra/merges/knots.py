"""KnOTS: TIES on coordinates in one output basis shared by all members. arXiv:2410.19735.

[D_1 | ... | D_n] = U S [V_1 | ... | V_n]; TIES merges the S V_i. U and the S V_i come from the stacked
factors: the dense concatenation of the paper is never built.
"""

from __future__ import annotations

import torch

from counterpoise.lora.algebra.core import Layer, Spectrum, singular
from counterpoise.lora.algebra.members import check_share
from counterpoise.lora.algebra.merges.ties import elected, trimmed

FAINTEST = 1e-7
"""Directions of U below this share of its largest value are rounding: they would count as entries to trim."""


def knots(layer: Layer, *, density: float = 0.2) -> Spectrum:
    """KnOTS-TIES; `density` is the share of entries of each S V_i [k, in] that is kept."""
    share = check_share("density", density, code="E_OPTION")
    q, r = torch.linalg.qr(torch.cat(layer.ups, 1))
    blocks = r.split([up.shape[1] for up in layer.ups], dim=1)
    parts = [block @ down for block, down in zip(blocks, layer.downs, strict=True)]
    values, vectors = torch.linalg.eigh(torch.stack([part @ part.T for part in parts]).sum(0))
    basis = vectors[:, values > values.max() * FAINTEST**2]
    if not basis.shape[1]:
        return singular(*layer.stacked())
    merged = elected(lambda: (trimmed(basis.T @ part, share) for part in parts))
    return singular(q @ basis, merged)
