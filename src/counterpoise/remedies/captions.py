"""What a phrase of the planted world says: its grammar read backwards.

In: a phrase ("a woman with tan skin, wearing a hoodie"). Out: what it states, as the table names it. A goal
is written in phrases; drawings for it are made from what they state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product

from counterpoise.errors import UsageError
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.world.grammar import GENDERED_SUBJECTS, segments, subject_phrase
from counterpoise.world.table import Table, load_table

Stated = dict[str, str]


def stated_in(phrase: str) -> Stated:
    """What `phrase` states, the subject included; the presentation too where the subject implies it.

    UsageError E_PHRASE for one that is not of the world's grammar, or that says one thing twice.
    """
    subjects, said = _lexicon()
    fits = [known for known in subjects if phrase == known or phrase.startswith(f"{known} ")]
    if not fits:
        raise UsageError(
            f"{phrase!r} names none of the world's subjects; expected such as 'a woman' or 'a female boss'",
            code="E_PHRASE",
        )
    subject = max(fits, key=len)
    found = dict(subjects[subject])
    rest = phrase.removeprefix(subject).strip()
    for part in rest.split(", ") if rest else []:
        own = said.get(part)
        if own is None or own.keys() & found.keys() - {"presentation"}:
            why = "is not a phrase of the world" if own is None else "is said twice"
            raise UsageError(
                f"{phrase!r}: {part!r} {why}; expected such as 'with tan skin, wearing a red hoodie'",
                code="E_PHRASE",
            )
        found |= own
    return implied(found)


def leaves_open(edit: Edit, stated: Mapping[str, str]) -> bool:
    """Whether a caption that states this is about the edit's subject and does not say what the edit is of."""
    whole = implied(stated)
    settled = {*whole, *(("exposure",) if "clothes" in whole else ())}  # clothes are modest or revealing
    own = stated_in(edit.neutral)
    return settled.isdisjoint(edit.claimed) and all(whole.get(key) == value for key, value in own.items())


def implied(stated: Mapping[str, str]) -> Stated:
    """`stated` with the presentation that the subject implies: of a woman or a man."""
    subject = stated["subject"]
    return {**({"presentation": subject} if subject in GENDERED_SUBJECTS else {}), **stated}


def check_phrases(goal: Goal) -> None:
    """UsageError E_PHRASE or E_ATTRIBUTE for a goal that the world's drawings cannot be made for."""
    for edit in goal.edits:
        unknown = [name for name in edit.attributes if name not in load_table().attributes]
        if unknown:
            known = ", ".join(load_table().attributes)
            raise UsageError(
                f"goal: the world has no attribute {unknown[0]!r}; it has {known}", code="E_ATTRIBUTE"
            )
        for phrase in (edit.neutral, *(variant.phrase for variant in edit.variants)):
            stated_in(phrase)


@cache
def _lexicon() -> tuple[dict[str, Stated], dict[str, Stated]]:
    """Every subject phrase, and every phrase that can follow it, with what it states."""
    table = load_table()
    subjects = [
        {"subject": subject, **presentation}
        for subject in table.subjects
        for presentation in ({}, {"presentation": "woman"}, {"presentation": "man"})
        if subject not in GENDERED_SUBJECTS or not presentation
    ]
    said = {segments(stated)[0]: stated for stated in _sayings(table)}
    return {subject_phrase(stated): stated for stated in subjects}, said


def _sayings(table: Table) -> Iterator[Stated]:
    alone = ("skin", "hair", "hair_color", "exposure", "clothes", "glasses", "beard", "background")
    for attribute in alone:
        yield from ({attribute: value} for value in table.attributes[attribute])
    for first, second in (("hair", "hair_color"), ("clothes", "clothes_color")):
        values = table.attributes[first], table.attributes[second]
        yield from ({first: one, second: other} for one, other in product(*values))
