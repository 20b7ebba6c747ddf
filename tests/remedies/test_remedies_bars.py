"""The benchmark's figures: a shift that all prompts share is seen, their luck is not."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.remedies.bars import pooled

from counterpoise.audit.results import Drift, Measured


def drifts(shift: float, *, prompts: int = 40, n: int = 100, seed: int = 0) -> list[Drift]:
    rng, found = np.random.default_rng(seed), []
    for i in range(prompts):
        base, own = rng.binomial(n, 0.3) / n, rng.binomial(n, 0.3 + shift) / n
        shares = ({"yes": own, "no": 1 - own}, {"yes": base, "no": 1 - base})
        moved = Measured(abs(own - base), 0.0, 1.0, n, "total variation")
        prompt = (f"prompt {i}",)
        found.append(Drift("drift[0]", prompt, "glasses", "repaired", "base", n, 0, 0, *shares, moved))
    return found


def test_a_shift_that_all_prompts_share_stands_out_of_their_luck() -> None:
    still, moved = pooled(drifts(0.0), "glasses"), pooled(drifts(0.05), "glasses")
    assert max(row.moved.value or 0 for row in drifts(0.0)) > 0.1
    assert still.value < 0.02
    assert moved.value == pytest.approx(0.05, abs=0.02)
    assert still.n == moved.n == 4000
    assert moved.low is not None
    assert moved.high is not None
    assert 0.03 < moved.low < moved.value < moved.high < 0.1


def test_prompts_of_one_picture_each_count_by_their_pictures() -> None:
    many, one = drifts(0.0, prompts=1, n=1000), drifts(0.3, prompts=1, n=1)
    whole = pooled([*many, *one], "glasses").value
    assert whole == pytest.approx(pooled(many, "glasses").value, abs=0.002)
