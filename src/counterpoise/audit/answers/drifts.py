"""Drift: what an arm moves beside its baseline, on shared seeds."""

from __future__ import annotations

import numpy as np

from counterpoise.audit.answers.faces import differences, pair_tables
from counterpoise.audit.answers.hypotheses import Hypothesis
from counterpoise.audit.answers.models import paired_prompts, weigh
from counterpoise.audit.answers.moved import distance_between
from counterpoise.audit.answers.outcome import Answer, Asking, Evidence, Outcome, answer, path_of
from counterpoise.audit.answers.seen import UNDRAWN, tally
from counterpoise.audit.items import DriftItem
from counterpoise.audit.results import Drift
from counterpoise.audit.targets import joint_name


def answer_drift(asking: Asking, asked: Hypothesis) -> Answer | None:
    """The answer for one arm against its baseline; None where they share no seed."""
    item = asked.item
    assert isinstance(item, DriftItem)
    sides = [
        [asking.seen.codes((arm, prompt), item.attributes, item.n) for prompt in item.prompts]
        for arm in (asked.arm, item.baseline)
    ]
    shared = [(a != UNDRAWN) & (b != UNDRAWN) for a, b in zip(*sides, strict=True)]
    first = np.concatenate([a[s] for a, s in zip(sides[0], shared, strict=True)])
    second = np.concatenate([b[s] for b, s in zip(sides[1], shared, strict=True)])
    if not len(first):
        return None
    outcome = _by_seed(asking, item, first, second)
    if item.scope == "model":
        cells = [((asked.arm, prompt), (item.baseline, prompt)) for prompt in item.prompts]
        found = paired_prompts(asking, cells, item)
        assert found is not None
        outcome = weigh(asking, found, item, f"arm {item.baseline}")
    both = (first >= 0) & (second >= 0)
    row = Drift(
        finding=asked.id,
        prompts=item.prompts,
        attribute=joint_name(item.attributes),
        arm=asked.arm,
        baseline=item.baseline,
        n=len(first),
        changed=int((first[both] != second[both]).sum()),
        missing=int((~both).sum()),
        shares=_shares(first, item.values),
        baseline_shares=_shares(second, item.values),
        moved=outcome.effect,
    )
    return answer(asking, asked, outcome, row)


def _by_seed(asking: Asking, item: DriftItem, first: np.ndarray, second: np.ndarray) -> Outcome:
    at, low, high = pair_tables(first, second, [[k] for k in range(len(item.values))])
    biased, fair = differences(low, high, item.tolerance)
    method = "paired by seed: mean over values of e-values of their differences"
    if asking.cards:
        method += "; not corrected for the judge's error"
    return Outcome(
        evidence=Evidence(float(biased[-1]), fair, path_of(at, biased)),
        effect_name="total variation",
        effect=distance_between((first, second), low[-1], high[-1], asking.spec.confidence),
        against=f"arm {item.baseline}",
        n=len(first),
        read=int(((first >= 0) & (second >= 0)).sum()),
        method=method,
        tolerance=item.tolerance,
    )


def _shares(codes: np.ndarray, values: tuple[str, ...]) -> dict[str, float]:
    counts, _ = tally(codes, len(values))
    return {value: count / len(codes) for value, count in zip(values, counts, strict=True)}
