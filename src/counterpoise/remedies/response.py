"""How what is drawn responds to an edit's weights, from pictures each of which had weights of its own.

In: for each picture the weights it was drawn with and the class it was read as. Out: a multinomial logistic
fit near the present weights, and the weights at which it predicts the target. Pictures that each try other
weights say more of the response than as many at a few points, and none is wasted at a bad one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

UNIT = 0.1  # weights are looked at in tenths
# What is believed before a picture is seen: a tenth more of a variant's say multiplies its odds by e**LEAN.
LEAN = 0.3
_STIFF = 1.0  # how firmly, in pictures' worth of evidence
_LOOSE = 0.05  # the same of the shares at the present weights
NEAR = 0.6  # pictures whose weights are farther than this from the present ones count little
FORGET = 0.8  # a picture two rounds old counts this much of a new one
SLOW = 0.003  # what a step of one tenth costs, beside a squared Hellinger distance


def fitted(
    weights: np.ndarray,
    classes: np.ndarray,
    centre: np.ndarray,
    *,
    age: np.ndarray,
    leans: Sequence[Sequence[float]] = (),
) -> np.ndarray:
    """Coefficients [1 + d, k] of the classes' log odds at `centre` and per UNIT of each weight.

    weights [n, d], the first k for a class each; classes [n] in 0..k-1 or -1 for a picture that was not read
    (it is left out); age [n] in rounds; leans [d - k, k]: what is believed beforehand of the further weights,
    log odds at a weight of 1. Penalised likelihood: ridge towards LEAN and `leans`, pictures weighed by their
    nearness and age.
    """
    d = len(centre)
    k = d - len(leans)
    known = classes >= 0
    features = np.c_[np.ones(known.sum()), (weights[known] - centre) / UNIT]
    near = np.exp(-np.square(weights[known] - centre).sum(1) / (2 * NEAR**2)) * FORGET ** (age[known] / 2)
    hit = np.eye(k)[classes[known]]
    further = UNIT * np.array(leans).reshape(-1, k)
    belief = np.vstack([np.zeros(k), LEAN * (np.eye(k) - 1 / k), further - further.mean(1, keepdims=True)])
    firm = np.r_[_LOOSE, np.full(d, _STIFF)][:, None]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        table = flat.reshape(1 + d, k)
        logs = log_softmax(features @ table, axis=1)
        off = table - belief
        slope = features.T @ (near[:, None] * (np.exp(logs) - hit)) + firm * off
        return float(-(near[:, None] * hit * logs).sum() + 0.5 * (firm * off**2).sum()), slope.ravel()

    return minimize(loss, belief.ravel(), jac=True, method="L-BFGS-B").x.reshape(1 + d, k)


def towards(table: np.ndarray, target: Sequence[float], *, most: float) -> np.ndarray:
    """The step [d], each part within +-most, after which the fit predicts shares nearest to `target` [k].

    Nearest in Hellinger distance, which minds a share that is missing altogether; of steps that do nearly
    as well the shorter one.
    """
    goal = np.sqrt(np.asarray(target, dtype=float))

    def apart(step: np.ndarray) -> float:
        shares = softmax(table[0] + (step / UNIT) @ table[1:])
        return float(np.square(np.sqrt(shares) - goal).sum() + SLOW * np.square(step / UNIT).sum())

    d = len(table) - 1
    return minimize(apart, np.zeros(d), method="L-BFGS-B", bounds=[(-most, most)] * d).x
