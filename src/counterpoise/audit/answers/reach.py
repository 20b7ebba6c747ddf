"""Reachability: does a prompt get what it asks for often enough? What was not read does not obey."""

from __future__ import annotations

import math

import numpy as np

from counterpoise import stats
from counterpoise.audit.answers.hypotheses import Hypothesis
from counterpoise.audit.answers.outcome import Answer, Asking, Evidence, Outcome, answer, path_of
from counterpoise.audit.answers.seen import UNDRAWN, looks
from counterpoise.audit.items import ReachItem
from counterpoise.audit.results import Measured, Reached
from counterpoise.audit.targets import joint_name
from counterpoise.stats.tolerance import log_e_above


def answer_reach(asking: Asking, asked: Hypothesis) -> Answer | None:
    """The answer for one prompt; None where the arm that answers has no picture of it."""
    item = asked.item
    assert isinstance(item, ReachItem)
    codes = asking.seen.codes(asked.cells[0], item.attributes, item.n)
    codes = codes[codes != UNDRAWN]
    if not len(codes):
        return None
    shown = np.isin(codes, [item.values.index(value) for value in item.counted])
    obeyed = (codes >= 0) & (~shown if item.negative else shown)
    n, read = len(codes), int((codes >= 0).sum())
    value = " or ".join(item.counted)
    wanted = f"not {value}" if item.negative else value
    rate = _rate(asking, int(obeyed.sum()), n, item.min_rate)
    method = "one-sided e-processes at the least rate; a picture that was not read does not obey"
    if asking.cards:
        method += "; not corrected for the judge's error"
    outcome = Outcome(
        evidence=_evidence(obeyed, item.min_rate),
        effect_name="rate",
        effect=rate,
        against=f"at least {item.min_rate:g}",
        n=n,
        read=read,
        method=method,
        value=wanted,
    )
    row = Reached(
        finding=asked.id,
        prompt=item.prompt,
        attribute=joint_name(item.attributes),
        value=wanted,
        negative=item.negative[1] if item.negative else "",
        arm=asked.arm,
        n=n,
        abstained=n - read,
        min_rate=item.min_rate,
        rate=rate,
    )
    return answer(asking, asked, outcome, row)


def _evidence(obeyed: np.ndarray, min_rate: float) -> Evidence:
    at = looks(len(obeyed))
    count = obeyed.cumsum()[at - 1]
    if min_rate == 1.0:
        # One picture that does not obey is proof, and no number of pictures shows that all do.
        path = np.where(count < at, math.inf, 0.0)
        return Evidence(float(path[-1]), -math.inf, path_of(at, path))
    path = log_e_above(at - count, at, 1.0 - min_rate)
    fair = float(log_e_above(count[-1:], at[-1:], min_rate)[0])
    return Evidence(float(path[-1]), fair, path_of(at, path))


def _rate(asking: Asking, count: int, n: int, min_rate: float) -> Measured:
    confidence = asking.spec.confidence
    if asking.anytime:
        e = stats.share_sequence(
            [count, n - count], target=[min_rate, 1.0 - min_rate], confidence=confidence
        )[0]
    else:
        e = stats.clopper_pearson(count, n, confidence=confidence)
    return Measured(e.value, e.low, e.high, n, e.method)
