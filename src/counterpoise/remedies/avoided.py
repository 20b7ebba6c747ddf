"""Which variants of an edit a negative prompt names, so that a planner does not ask for what is unwanted.

A negative prompt is taken clause by clause, at its commas. A clause names values if, besides the neutral
phrase's own words, it holds nothing but words that tell variants apart: "female", "a woman", "dark skin", "a
female boss with dark skin"; not "dark background". It forbids the variants that have all the values it names.

Comes in: an edit, the words for its values, a negative prompt. Goes out: variant numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from counterpoise.remedies.goal import Edit
from counterpoise.remedies.phrases import FUNCTION_WORDS, added_words, words_of

Naming = Mapping[str, Mapping[str, frozenset[str]]]
_CLAUSES = re.compile(r"[,;.|\n]+")
# How a negative prompt may speak of a picture besides.
_PICTURE = frozenset(words_of("picture photo image portrait drawing person people someone any all"))


def avoided(edit: Edit, naming: Naming, negative: str) -> frozenset[int]:
    """Numbers of the variants that the negative prompt names."""
    found: set[int] = set()
    for clause in _CLAUSES.split(negative):
        named = _named(edit, naming, words_of(clause))
        if named:
            found |= {
                i
                for i, variant in enumerate(edit.variants)
                if all(edit.cell(variant).get(name) in of for name, of in named.items())
            }
    return frozenset(found)


def _named(edit: Edit, naming: Naming, clause: Sequence[str]) -> dict[str, set[str]]:
    """attribute -> the values that a clause names; empty where it speaks of something else too."""
    said = " ".join(clause)
    found: dict[str, set[str]] = {}
    known = FUNCTION_WORDS | _PICTURE | added_words(edit) | set(words_of(edit.neutral))
    for attribute, values in naming.items():
        for value, words in values.items():
            mine = [word for word in words if f" {word} " in f" {said} "]
            if mine:
                found.setdefault(attribute, set()).add(value)
                known |= {part for word in mine for part in word.split()}
    return found if set(clause) <= known else {}
