"""Seeds that follow from a seed: for a person, for an attempt."""

from __future__ import annotations

import numpy as np


def sub_seed(seed: int, *path: int) -> int:
    """A seed in [0, 2**63) that depends on all the numbers and on their order."""
    state = np.random.SeedSequence(seed, spawn_key=path).generate_state(2, np.uint32)
    return (int(state[0]) << 31) ^ int(state[1])
