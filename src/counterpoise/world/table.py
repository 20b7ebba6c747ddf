"""The planted table: reads planted.toml and answers what is drawn when a caption leaves something out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, final

import numpy as np

Person = dict[str, str]


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """Shares of an attribute's values that hold where every entry of `when` holds."""

    attribute: str
    when: Mapping[str, str]
    shares: Mapping[str, float]


@final
@dataclass(frozen=True, slots=True)
class Table:
    """The whole planted world as data; see planted.toml for what each part means."""

    name: str
    attributes: Mapping[str, tuple[str, ...]]
    derived: Mapping[str, Mapping[str, str]]
    templates: tuple[str, ...]
    subjects: tuple[str, ...]
    reserved: tuple[str, ...]
    mention: Mapping[str, float]
    interaction: Mapping[str, Any]
    bare_share: float
    rules: tuple[Rule, ...]

    def shares(self, attribute: str, known: Mapping[str, str]) -> dict[str, float]:
        """Planted shares of every value of `attribute`, given what is already decided about a person."""
        for rule in self.rules:
            if rule.attribute == attribute and all(known.get(k) == v for k, v in rule.when.items()):
                return {value: rule.shares.get(value, 0.0) for value in self.attributes[attribute]}
        raise KeyError(f"planted.toml has no rule for {attribute!r} given {dict(known)!r}")

    def complete(self, stated: Mapping[str, str], rng: np.random.Generator) -> Person:
        """A whole person: what is stated stays, the rest is drawn from the rules, in the table's order.

        `stated` may hold "subject" and any attributes; clothes that are stated settle the exposure.
        """
        person: Person = dict(stated)
        if "clothes" in person:
            person["exposure"] = self.derived["exposure"][person["clothes"]]
        for attribute, values in self.attributes.items():
            if attribute not in person:
                shares = self.shares(attribute, person)
                person[attribute] = values[rng.choice(len(values), p=[shares[v] for v in values])]
        return person

    def expected(self, attribute: str, stated: Mapping[str, str]) -> dict[str, float]:
        """Exact planted shares of `attribute` for a caption that states `stated`, others left out.

        Enumerates every path through the rules that come before the attribute, weighted by its shares.
        """
        given = dict(stated)
        if "clothes" in given:
            given["exposure"] = self.derived["exposure"][given["clothes"]]
        if attribute in given:
            return {value: float(value == given[attribute]) for value in self.attributes[attribute]}
        paths: list[tuple[float, dict[str, str]]] = [(1.0, given)]
        for name in self.attributes:
            if name in given:
                continue
            paths = [
                (weight * share, known | {name: value})
                for weight, known in paths
                for value, share in self.shares(name, known).items()
                if share > 0
            ]
            if name == attribute:
                break
            paths = _merge(paths, keep={"subject", *self._looked_at()})
        total = dict.fromkeys(self.attributes[attribute], 0.0)
        for weight, known in paths:
            total[known[attribute]] += weight
        return total

    def _looked_at(self) -> set[str]:
        return {key for rule in self.rules for key in rule.when}


def _merge(
    paths: list[tuple[float, dict[str, str]]], *, keep: set[str]
) -> list[tuple[float, dict[str, str]]]:
    merged: dict[tuple[tuple[str, str], ...], float] = {}
    for weight, known in paths:
        key = tuple(sorted((k, v) for k, v in known.items() if k in keep))
        merged[key] = merged.get(key, 0.0) + weight
    return [(weight, dict(key)) for key, weight in merged.items()]


@cache
def load_table() -> Table:
    """The planted table that the shipped weights were trained on."""
    raw = tomllib.loads(files("counterpoise.world").joinpath("planted.toml").read_text("utf-8"))
    table = Table(
        name=raw["name"],
        attributes={name: tuple(values) for name, values in raw["attributes"].items()},
        derived=raw["derived"],
        templates=tuple(raw["language"]["templates"]),
        subjects=tuple(raw["language"]["subjects"]),
        reserved=tuple(raw["language"]["reserved"]),
        mention=raw["mention"],
        interaction=raw["interaction"],
        bare_share=raw["bare"]["share"],
        rules=tuple(Rule(r["attribute"], r.get("when", {}), r["shares"]) for r in raw["rule"]),
    )
    _check(table)
    return table


def _check(table: Table) -> None:
    for rule in table.rules:
        unknown = set(rule.shares) - set(table.attributes[rule.attribute])
        total = sum(rule.shares.values())
        if unknown or abs(total - 1.0) > 1e-9:
            raise ValueError(
                f"planted.toml: rule for {rule.attribute} when {dict(rule.when)} has shares that sum to "
                f"{total:.6g} (expected 1) and unknown values {sorted(unknown)} (expected none)"
            )
