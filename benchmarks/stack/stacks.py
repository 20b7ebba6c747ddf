"""The ways to stack: a table. Each gives what is mounted, or says that each prompt gets its own members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from benchmarks.stack.roster import Covariances
from counterpoise.lora import Adapter, compose

RANK = 16


@final
@dataclass(frozen=True, slots=True)
class Stack:
    """method: of `compose`, or "routed". Each member's strength is `strength` over n ** `power`.

    keep: of the data-aware method: what the inputs to be left alone weigh against all members' own together.
    """

    says: str
    method: str = "concat"
    power: float = 0.0
    strength: float = 1.0
    rank: int | None = None
    keep: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)


STACKS: Mapping[str, Stack] = {
    "sum": Stack("the naive sum"),
    "data": Stack("data-aware", "data", keep=0.3),
    "routed": Stack("all mounted, each picture's strengths by the words in its prompt", "routed"),
    "ties": Stack("TIES", "ties"),
    "svd-16": Stack("best rank 16 of the sum", "svd", rank=RANK),
    "sum/n": Stack("the mean", power=1.0),
    "sum/sqrt(n)": Stack("the sum over sqrt(n)", power=0.5),
    "data-keep": Stack("data-aware, what is left alone weighs ten times as much", "data", keep=3.0),
    "data-x2": Stack("data-aware at strength 2", "data", strength=2.0, keep=3.0),
    "data-own": Stack("data-aware, what is left alone hardly weighs", "data", keep=0.03),
    "data-16": Stack("data-aware, rank 16", "data", rank=RANK, keep=0.3),
    "tsv-m": Stack("TSV-M", "tsv-m"),
    "iso-c": Stack("Iso-C", "iso-c"),
    "knots": Stack("KnOTS", "knots"),
    "dare": Stack("DARE", "dare"),
    "dare-ties": Stack("DARE-TIES", "dare-ties"),
    "ties-core": Stack("TIES in Core Space", "ties-core"),
    "dare-core": Stack("DARE in Core Space", "dare-core"),
}


def composed(
    stack: Stack, members: Sequence[Adapter], own: Sequence[Covariances], neutral: Covariances
) -> Adapter:
    """The stack's one adapter; what is to be left alone is a member at strength 0 with its inputs."""
    strength = stack.strength * len(members) ** -stack.power
    strengths = [strength] * len(members)
    if stack.method != "data":
        made = compose(members, strengths, method=stack.method, rank=stack.rank, **stack.options)
        return made.adapter
    weight = stack.keep * len(members)
    left_alone = {path: c * weight for path, c in neutral.items()}
    return compose(
        [*members, members[0]],
        [*strengths, 0.0],
        method="data",
        rank=stack.rank,
        covariances=[*own, left_alone],
        **{"ridge": 1e-4, **stack.options},
    ).adapter
