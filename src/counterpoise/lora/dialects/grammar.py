"""Names of layers that are written in one form and meant in another, as tables of templates.

In: a name such as "down_blocks_0_attentions_0_proj_in" or "double_blocks.0.img_attn.qkv". Out: the layer
paths that it means, or None. In a template "#" stands for a number. In kohya files every "." of a path has
become "_", which cannot be undone by rule ("to_out_0" is to_out.0, "proj_in" is proj_in): so each path of
the known models is a template, and a name is understood only where one template fits it whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, final

_NUMBER = re.compile(r"(?<![A-Za-z0-9])\d+(?![A-Za-z0-9])")


class Rule(NamedTuple):
    """`source`: the name in a file. `targets`: the paths it means, in the order of its rows.

    `shares`: each target's share of the rows; empty for one target. `swapped`: the rows' halves change
    places.
    """

    source: str
    targets: tuple[str, ...]
    shares: tuple[int, ...] = ()
    swapped: bool = False


class Meaning(NamedTuple):
    """What a name was resolved to: a rule's fields, with the numbers in."""

    targets: tuple[str, ...]
    shares: tuple[int, ...] = ()
    swapped: bool = False


def flat(path: str) -> str:
    """`path` as kohya files write it."""
    return path.replace(".", "_")


@final
@dataclass(frozen=True, eq=False)
class Grammar:
    """A set of rules, looked up by flattened or dotted name in time that does not grow with them."""

    rules: tuple[Rule, ...]

    @cached_property
    def _flat(self) -> Mapping[str, list[tuple[re.Pattern[str], Rule]]]:
        return _index((flat(rule.source), rule) for rule in self.rules)

    @cached_property
    def _dotted(self) -> Mapping[str, list[tuple[re.Pattern[str], Rule]]]:
        return _index((rule.source, rule) for rule in self.rules)

    @cached_property
    def _back(self) -> Mapping[str, list[tuple[re.Pattern[str], Rule]]]:
        return _index((target, rule) for rule in self.rules for target in rule.targets)

    def flattened(self, name: str) -> Meaning | None:
        """What the flattened `name` means, or None unless exactly one rule fits."""
        return _resolve(self._flat, name)

    def dotted(self, name: str) -> Meaning | None:
        """What the dotted `name` means, or None unless exactly one rule fits."""
        return _resolve(self._dotted, name)

    def written(self, path: str) -> tuple[str, Meaning] | None:
        """The dotted name (of the first such rule) that means `path`, and all that it means."""
        for regex, rule in self._back.get(_NUMBER.sub("#", path), ()):
            match = regex.fullmatch(path)
            if match is not None:
                return _filled(rule.source, match.groups()), _meaning(rule, match.groups())
        return None


def identity(templates: Iterable[str]) -> tuple[Rule, ...]:
    """Rules of names that mean themselves."""
    return tuple(Rule(template, (template,)) for template in templates)


def _index(templates: Iterable[tuple[str, Rule]]) -> Mapping[str, list[tuple[re.Pattern[str], Rule]]]:
    found: dict[str, list[tuple[re.Pattern[str], Rule]]] = {}
    for template, rule in templates:
        regex = re.compile(re.escape(template).replace(re.escape("#"), r"(\d+)"))
        key = _NUMBER.sub("#", template)
        found.setdefault(key, []).append((regex, rule))
    return found


def _resolve(index: Mapping[str, list[tuple[re.Pattern[str], Rule]]], name: str) -> Meaning | None:
    found = [
        _meaning(rule, match.groups())
        for regex, rule in index.get(_NUMBER.sub("#", name), ())
        if (match := regex.fullmatch(name)) is not None
    ]
    return found[0] if len(found) == 1 else None


def _meaning(rule: Rule, numbers: tuple[str, ...]) -> Meaning:
    return Meaning(tuple(_filled(t, numbers) for t in rule.targets), rule.shares, rule.swapped)


def _filled(template: str, numbers: tuple[str, ...]) -> str:
    parts = template.split("#")
    return parts[0] + "".join(number + part for number, part in zip(numbers, parts[1:], strict=True))
