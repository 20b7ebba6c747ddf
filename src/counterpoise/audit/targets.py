"""Attributes and their intersections: joint values by name, and the shares that a target gives each.

An intersection of attributes is read like an attribute of its own, whose values are the products of theirs:
["presentation", "skin"] has "woman & pale", "woman & light" and so on, the last attribute varying fastest.
A picture on which any of them was not read is an abstention.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from counterpoise.audit.fields import KeyProblem
from counterpoise.measure.cards import nearest

MAX_VALUES = 1000
AND = " & "

Attributes = Mapping[str, tuple[str, ...]]


def joint_name(names: Sequence[str]) -> str:
    """The name of one attribute's value, or of an intersection's ("woman & dark"); also of the attributes."""
    return AND.join(names)


def joint_values(attributes: Sequence[str], table: Attributes) -> tuple[str, ...]:
    """The values that attributes have together, by name. KeyProblem "attribute" if too many, or two alike."""
    total = math.prod(len(table[name]) for name in attributes)
    if total > MAX_VALUES:
        raise KeyProblem(
            "attribute",
            f"has {total} values ({joint_name(attributes)}): expected at most {MAX_VALUES}; leave one out",
        )
    values = tuple(map(joint_name, itertools.product(*(table[name] for name in attributes))))
    if len(set(values)) < len(values):
        raise KeyProblem(
            "attribute", f"has two values of one name ({joint_name(attributes)}): rename a value"
        )
    return values


def target_shares(target: object, attributes: Sequence[str], table: Attributes) -> dict[str, float]:
    """value -> its share: equal, or as given with 0 for the rest, or the product of each attribute's own.

    target: as a claim has it, but for another prompt's. KeyProblem names an unknown attribute or value.
    """
    values = joint_values(attributes, table)
    if target == "uniform":
        return dict.fromkeys(values, 1.0 / len(values))
    assert isinstance(target, Mapping)
    if all(share == "uniform" or isinstance(share, Mapping) for share in target.values()):
        margins = _margins(target, attributes, table)
        shares = itertools.product(*(margins[name].values() for name in attributes))
        return {value: math.prod(parts) for value, parts in zip(values, shares, strict=True)}
    check_values(target, values, joint_name(attributes), "target")
    return {value: float(target.get(value, 0.0)) for value in values}


def _margins(
    target: Mapping[str, object], attributes: Sequence[str], table: Attributes
) -> dict[str, dict[str, float]]:
    """attribute -> value -> share; an attribute that is left out is uniform."""
    for name in target:
        if name not in attributes:
            raise KeyProblem(
                f"target.{name}", "is a target for an attribute that the claim does not ask about"
            )
    found = {}
    for name in attributes:
        margin = target.get(name, "uniform")
        if isinstance(margin, Mapping):
            check_values(margin, table[name], name, f"target.{name}")
        found[name] = target_shares(margin, [name], table)
    return found


def check_values(names: Iterable[str], values: Sequence[str], attribute: str, key: str) -> None:
    """KeyProblem with the nearest value if a name is none of the attribute's values."""
    for name in names:
        if name not in values:
            raise KeyProblem(
                key, f"names {name!r:.80}, which is no value of {attribute}; {nearest(name, values)}"
            )
