"""The judge's confusion cards, found by attribute and group and put into an item's order of values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from counterpoise import stats
from counterpoise.errors import RefusedInputError
from counterpoise.measure.calibration import Calibration, Confusion

Cards = tuple[Calibration, ...]
Table = tuple[tuple[int, ...], ...]


def card_for(
    cards: Cards, attributes: tuple[str, ...], values: tuple[str, ...], *, group: str | None = None
) -> tuple[Table, str] | None:
    """(counts [true value, value as read + abstained], whose they are, in words), None without a card.

    The group's own card where there is one; else the one that names no groups; else all groups together. A
    true value without labels has a row of zeros. An intersection has no card. RefusedInputError
    E_CALIBRATION for a card with other values.
    """
    if len(attributes) != 1:
        return None
    mine = [each for card in cards for each in card.confusions if each.attribute == attributes[0]]
    own = [each for each in mine if group is not None and each.group == group]
    named = f"the judge's card of {group}" if own else "the judge's card"
    general = [each for each in mine if each.group is None]
    chosen = own or general or mine
    if not chosen:
        return None
    if not own and not general:
        named += ", all its groups together"
    total = np.zeros((len(values), len(values) + 1), dtype=int)
    for each in chosen:
        total += _in_order(each, values)
    return tuple(map(tuple, total.tolist())), named


def _in_order(each: Confusion, values: tuple[str, ...]) -> np.ndarray:
    if set(each.read[:-1]) != set(values):
        raise RefusedInputError(
            f"a confusion card of {each.attribute!r:.60} has the values {', '.join(each.read[:-1])}, this "
            f"run's judge reads {', '.join(values)}: expected the same; calibrate this judge",
            code="E_CALIBRATION",
        )
    found = np.zeros((len(values), len(values) + 1), dtype=int)
    places = [*(values.index(value) for value in each.read[:-1]), len(values)]
    for truth, row in zip(each.truth, each.counts, strict=True):
        found[values.index(truth), places] = row
    return found


@lru_cache(maxsize=4096)
def corrected(
    outcomes: tuple[int, ...], card: Table, confidence: float, anytime: bool
) -> tuple[stats.Estimate, ...]:
    """`stats.corrected_shares`, kept: the same counts come again at every look."""
    return tuple(stats.corrected_shares(outcomes, card, confidence=confidence, anytime=anytime))


def event_bounds(found: Sequence[stats.Estimate], counted: Sequence[int]) -> tuple[float, float, float]:
    """(value, low, high) of the true share of several values together, from the bounds of all of them."""
    others = [i for i in range(len(found)) if i not in counted]
    low = max(sum(found[i].low for i in counted), 1.0 - sum(found[i].high for i in others))
    high = min(sum(found[i].high for i in counted), 1.0 - sum(found[i].low for i in others))
    return sum(found[i].value for i in counted), min(max(low, 0.0), 1.0), max(min(high, 1.0), 0.0)
