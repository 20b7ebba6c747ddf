"""Evidence in memory, with the readings that a test plants: what analyses read of a run folder, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from audit_toys import ATTRIBUTES, Judge

from counterpoise.audit import AuditSpec, make_spec
from counterpoise.measure.calibration import Calibration, Truth, calibrate
from counterpoise.measure.reading import Reading

Planted = Mapping[tuple[str, str], Mapping[str, Sequence[str | None]]]  # (arm, prompt) -> attribute -> values


class Planting:
    """Readings on seeds spec.seed and on; `upto` shows a part of them, as a run that is still drawing does."""

    def __init__(
        self, spec: AuditSpec, planted: Planted, *, attributes: Mapping[str, tuple[str, ...]] = ATTRIBUTES
    ) -> None:
        self.spec, self.planted, self.attributes = spec, planted, dict(attributes)
        self.upto: dict[tuple[str, str], int] | None = None
        self.arms = [{"name": name} for name in dict.fromkeys(arm for arm, _ in planted)]

    def readings(self, arm: str, prompt: str, attribute: str) -> dict[int, Reading]:
        values = self.planted.get((arm, prompt), {}).get(attribute, ())
        if self.upto is not None:
            values = values[: self.upto.get((arm, prompt), 0)]
        return {self.spec.seed + i: Reading(value, 1.0) for i, value in enumerate(values)}

    def progress(self) -> list[tuple[str, int, int, int]]:
        return []

    def count_reason(self, arm: str, prefix: str) -> int:
        return 0


def spec_of(**tables: object) -> AuditSpec:
    return make_spec({"name": "t", "measurer": "toy", "n": 400, **tables})


def counted(counts: Mapping[str | None, int], *, rng: np.random.Generator | None = None) -> list[str | None]:
    """Each value so often, in a mixed order."""
    values = [value for value, n in counts.items() for _ in range(n)]
    order = (rng or np.random.default_rng(0)).permutation(len(values))
    return [values[i] for i in order]


def card_of(
    attribute: str, values: tuple[str, ...], tables: Mapping[str | None, Sequence[Sequence[int]]]
) -> Calibration:
    """A calibration card: group -> counts [true value, value as read + abstained]."""
    readings, truths = [], []
    for group, table in tables.items():
        for truth, row in zip(values, table, strict=True):
            for read, n in zip((*values, None), row, strict=True):
                readings += [{attribute: Reading(read, 1.0, "" if read else "unsure")}] * n
                truths += [Truth({attribute: truth}, group)] * n
    judge = Judge(attributes={attribute: values})
    digests = [str(i) for i in range(len(truths))]
    return calibrate(judge, readings, truths, digests=digests, source="planted", made="2026-11-22")
