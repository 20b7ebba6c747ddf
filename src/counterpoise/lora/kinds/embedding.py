"""An Embedding's low-rank update as PEFT stores it: the transpose of the weight's own layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from counterpoise.lora.lowrank import LowRank, shape_fault
from counterpoise.lora.update import Approximation, Factored, Fault, Shape, Shapes


@final
@dataclass(frozen=True, eq=False)
class Embedding(Factored):
    """Delta W = (alpha / rank) (b @ a).T for a weight [number, width].

    `a` [rank, number], `b` [width, rank], as PEFT's lora_embedding_A and lora_embedding_B. It is kept
    apart from LowRank so that a file says again which layers are embeddings.
    """

    kind: ClassVar[str] = "Embedding LoRA"

    a: Tensor
    b: Tensor
    alpha: float

    def tensors(self) -> dict[str, Tensor]:
        """embedding_A and embedding_B."""
        return {"embedding_A": self.a, "embedding_B": self.b}

    @staticmethod
    def shapes_fault(shapes: Shapes) -> Fault | None:
        """2-D, of one rank."""
        a, b = shapes["embedding_A"], shapes["embedding_B"]
        if len(a) != 2 or len(b) != 2:
            return "E_SHAPE", f"embedding_A is {list(a)} and embedding_B {list(b)}: expected both 2-D"
        return shape_fault(a, b)

    @staticmethod
    def rank_of(shapes: Shapes) -> int:
        """The number of rows of `a`."""
        return shapes["embedding_A"][0]

    @staticmethod
    def weight_of(shapes: Shapes) -> Shape:
        """[number, width]."""
        return (shapes["embedding_A"][1], shapes["embedding_B"][0])

    def dense(self, dtype: torch.dtype = torch.float32, *, base: Tensor | None = None) -> Tensor:
        """See `Update.dense`."""
        return self.low_rank().update.dense(dtype)

    def low_rank(self, rank: int | None = None, *, base: Tensor | None = None) -> Approximation:
        """Exact: down = b.T, up = a.T."""
        return LowRank(self.b.T, self.a.T, self.alpha).low_rank(rank)
