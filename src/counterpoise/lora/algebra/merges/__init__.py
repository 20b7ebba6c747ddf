"""The ways to compose, as a table: one row each, with its paper, what it gives, and what its error is of.

A method takes a `Layer` and, by keyword, its own options: its signature is their schema. A further method
is a further file and row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from counterpoise.lora.algebra.merges.dare import dare, dare_core, dare_ties
from counterpoise.lora.algebra.merges.data import data
from counterpoise.lora.algebra.merges.exact import concat, svd
from counterpoise.lora.algebra.merges.iso import iso_c
from counterpoise.lora.algebra.merges.knots import knots
from counterpoise.lora.algebra.merges.result import Result
from counterpoise.lora.algebra.merges.ties import ties, ties_core
from counterpoise.lora.algebra.merges.tsv import tsv_m

_CORE = "https://arxiv.org/abs/2509.17786"


@final
@dataclass(frozen=True)
class Method:
    """One way to compose; `error_of` says what the reported error compares the result with."""

    merge: Callable[..., Result]
    paper: str
    says: str
    error_of: str = "the method's own result before truncation, Frobenius"
    takes_rank: bool = True
    takes_covariances: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """The method's own options and their defaults."""
        parameters = inspect.signature(self.merge).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


SUM = "the exact sum, Frobenius"
OUTPUTS = "the members' outputs on their calibration inputs"

METHODS: Mapping[str, Method] = {
    "concat": Method(
        concat, "https://arxiv.org/abs/2410.13025", "the exact sum; ranks add up", SUM, takes_rank=False
    ),
    "svd": Method(svd, "https://doi.org/10.1007/BF02288367", "the best rank-r approximation of the sum", SUM),
    "ties": Method(ties, "https://arxiv.org/abs/2306.01708", "trim, elect signs, mean; dense entries"),
    "ties-core": Method(ties_core, _CORE, "the TIES rule on core entries"),
    "dare": Method(dare, "https://arxiv.org/abs/2311.03099", "drop at random and rescale; dense entries"),
    "dare-ties": Method(dare_ties, "https://arxiv.org/abs/2311.03099", "DARE, then TIES' election"),
    "dare-core": Method(dare_core, _CORE, "the DARE rule on core entries"),
    "knots": Method(knots, "https://arxiv.org/abs/2410.19735", "TIES in a shared output basis"),
    "tsv-m": Method(
        tsv_m, "https://arxiv.org/abs/2412.00081", "singular vectors made orthogonal, then summed"
    ),
    "iso-c": Method(iso_c, "https://arxiv.org/abs/2502.04959", "the sum with all singular values equal"),
    "data": Method(
        data,
        "https://arxiv.org/abs/2212.09849",
        "the best rank-r update for the members' outputs on their own inputs",
        OUTPUTS,
        takes_covariances=True,
    ),
}
