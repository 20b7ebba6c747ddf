"""The kinds of update, as one table: which tensors make a kind, and how they are put together.

In: the roles of a layer's tensors in a file. Out: the kind, its checks by shape alone, and the update made
of the tensors. A further kind is a further row here and a file beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from counterpoise.lora.kinds.biased import Biased
from counterpoise.lora.kinds.dora import DoRA
from counterpoise.lora.kinds.embedding import Embedding
from counterpoise.lora.kinds.full import Full
from counterpoise.lora.kinds.loha import LoHa
from counterpoise.lora.kinds.lokr import LoKr
from counterpoise.lora.kinds.tucker import Tucker
from counterpoise.lora.lowrank import LowRank
from counterpoise.lora.update import Factored, Update

__all__ = [
    "UPDATE_CLASSES", "UPDATE_KINDS", "Biased", "DoRA", "Embedding", "Full", "LoHa", "LoKr", "LowRank",
    "Tucker", "UpdateKind", "is_update", "parted", "plain",
]  # fmt: skip

_W = ("w1_a", "w1_b", "w2_a", "w2_b")


@final
@dataclass(frozen=True)
class UpdateKind:
    """A row: the roles that a layer must and may have, and what they make."""

    cls: type[Factored]
    needs: frozenset[str]
    may: frozenset[str]
    make: Callable[[Mapping[str, Tensor], float], Any]
    source: str
    """Where the formula is from."""


def _row(cls: type[Factored], *, needs: str, may: str = "", make: Any, source: str) -> UpdateKind:
    return UpdateKind(cls, frozenset(needs.split()), frozenset(may.split()), make, source)


def _hada(tensors: Mapping[str, Tensor], alpha: float) -> LoHa:
    return LoHa(**{role.removeprefix("hada_"): t for role, t in tensors.items()}, alpha=alpha)  # type: ignore[arg-type]


def _kron(tensors: Mapping[str, Tensor], alpha: float) -> LoKr:
    return LoKr(alpha, **{role.removeprefix("lokr_"): t for role, t in tensors.items()})  # type: ignore[arg-type]


# A layer is of the row that has all its roles and lacks none it needs; LoKr's needs are told by its shapes.
UPDATE_KINDS: Mapping[str, UpdateKind] = {
    "tucker": _row(
        Tucker,
        needs="down mid up",
        make=lambda t, alpha: Tucker(t["down"], t["mid"], t["up"], alpha),
        source="LyCORIS, arXiv:2309.14859",
    ),
    "lora": _row(
        LowRank,
        needs="down up",
        make=lambda t, alpha: LowRank(t["down"], t["up"], alpha),
        source="arXiv:2106.09685",
    ),
    "embedding": _row(
        Embedding,
        needs="embedding_A embedding_B",
        make=lambda t, alpha: Embedding(t["embedding_A"], t["embedding_B"], alpha),
        source="peft, tuners/lora/layer.py Embedding",
    ),
    "loha": _row(
        LoHa,
        needs=" ".join(f"hada_{w}" for w in _W),
        may="hada_t1 hada_t2",
        make=_hada,
        source="arXiv:2108.06098",
    ),
    "lokr": _row(
        LoKr,
        needs="",
        may=" ".join(f"lokr_{w}" for w in ("w1", "w2", "t2", *_W)),
        make=_kron,
        source="LyCORIS, arXiv:2309.14859",
    ),
    "full": _row(
        Full,
        needs="diff",
        may="diff_b",
        make=lambda t, _alpha: Full(t["diff"], t.get("diff_b")),
        source="LyCORIS, modules/full.py and modules/norms.py",
    ),
}
# DoRA and Biased wrap a row's update: the roles magnitude, dora_scale, bias and (beside a pair) diff_b.
UPDATE_CLASSES: tuple[type, ...] = (*(row.cls for row in UPDATE_KINDS.values()), DoRA, Biased)


def is_update(value: object) -> bool:
    """Whether `value` is of one of the kinds."""
    return isinstance(value, UPDATE_CLASSES)


def plain(update: Update) -> Update:
    """The update inside DoRA and Biased, or `update` itself."""
    while isinstance(update, DoRA | Biased):
        update = update.inner
    return update


def parted(update: Update) -> tuple[Update, Full | None]:
    """What `update` does to the weight, and what it does to the bias: a full difference [out], or None."""
    if update.bias_delta is None:
        return update, None
    if isinstance(update, Full):
        return Full(update.weight), Full(update.bias_delta)
    assert isinstance(update, Biased)
    return update.inner, Full(update.bias_delta)
