"""Many hypotheses at once: which to reject, whatever they share and whenever each was stopped.

Evidence comes as ln e of each hypothesis [m]; inf and -inf are allowed, nan is a ValueError. Masks come back
in the same order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# The closed procedure compares about m**3 / 6 sums; past this many hypotheses e_bh itself is returned.
MAX_CLOSED = 1500


def p_from_e(log_e: ArrayLike) -> np.ndarray:
    """min(1, 1/e), a p-value valid at any stopping time. Source: Vovk and Wang, Ann. Stat. 49 (2021), eq.
    2."""
    return np.exp(-np.maximum(_checked(log_e), 0.0))


def e_bh(log_e: ArrayLike, *, rate: float = 0.05) -> np.ndarray:
    """Which of m hypotheses to reject: the k greatest, for the greatest k with e_(k) >= m / (k rate).

    The expected share of false ones among the rejected is at most `rate` under any dependence.
    Source: Wang and Ramdas, JRSS-B 84 (2022) 822-852.
    """
    values = _checked(log_e)
    m = len(values)
    if not m:
        return np.zeros(0, dtype=bool)
    ranked = np.sort(values)[::-1]
    enough = np.flatnonzero(ranked >= np.log(m / (np.arange(1, m + 1) * _level(rate))))
    return values >= ranked[enough[-1]] if len(enough) else np.zeros(m, dtype=bool)


def closed_e_bh(log_e: ArrayLike, *, rate: float = 0.05) -> np.ndarray:
    """Which of m hypotheses to reject, at the same guarantee as `e_bh` and never fewer.

    The greatest set R, of the greatest e-values, such that every set S of hypotheses has a mean e of at least
    |S and R| / (rate |R|). It is valid because the mean over the true nulls is itself an e-value, so the
    false share |N and R| / |R| is at most rate times an e-value. The worst S takes the least of R and the
    least of the rest. Source: Xu, Solari, Fischer, de Heide, Ramdas and Goeman, arXiv:2509.02517 (closed
    e-BH).
    """
    values = _checked(log_e)
    m, level = len(values), _level(rate)
    if m > MAX_CLOSED or not m:
        return e_bh(values, rate=rate)
    # No set asks for more than m / rate of any hypothesis.
    e = np.exp(np.minimum(values, np.log(m / level)))
    order = np.argsort(-values, kind="stable")
    ranked = e[order]
    rejected = np.zeros(m, dtype=bool)
    for size in range(m, 0, -1):
        mine = np.cumsum(ranked[:size][::-1])[:, None]
        rest = np.concatenate([[0.0], np.cumsum(ranked[size:][::-1])])[None]
        own, others = np.arange(1, size + 1)[:, None], np.arange(m - size + 1)[None]
        needed = own / (level * size) * (own + others)
        if (mine + rest >= needed * (1.0 - 1e-12)).all():
            rejected[order[:size]] = True
            break
    return rejected


def e_holm(log_e: ArrayLike, *, alpha: float = 0.05) -> np.ndarray:
    """Which of m hypotheses to reject so that any false rejection at all has probability at most `alpha`.

    i is rejected when every set that holds it has a mean e of at least 1/alpha; the worst adds the least of
    the others. Valid under any dependence. Source: Vovk and Wang, Ann. Stat. 49 (2021), algorithm 1 (closure
    of the mean).
    """
    values = _checked(log_e)
    m, level = len(values), _level(alpha)
    e = np.exp(np.minimum(values, np.log(max(m, 1) / level)))
    rejected = np.zeros(m, dtype=bool)
    for i in range(m):
        others = np.sort(np.delete(e, i))
        means = (e[i] + np.concatenate([[0.0], np.cumsum(others)])) / np.arange(1, m + 1)
        rejected[i] = bool((means >= (1.0 - 1e-12) / level).all())
    return rejected


def _checked(log_e: ArrayLike) -> np.ndarray:
    values = np.asarray(log_e, dtype=float)
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(f"ln e of shape {values.shape}: expected one number a hypothesis, none of them nan")
    return values


def _level(rate: float) -> float:
    if not 0.0 < rate < 1.0:
        raise ValueError(f"rate {rate}: expected more than 0 and less than 1")
    return rate
