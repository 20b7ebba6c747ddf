"""Captions: a subject in one of several phrasings, with some attributes said and the others left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from counterpoise.world.table import Person, Table

GENDER_WORD = {"woman": "female", "man": "male"}
GENDERED_SUBJECTS = ("woman", "man")
FLAG_WORDS = {
    ("glasses", "yes"): "wearing glasses",
    ("glasses", "no"): "without glasses",
    ("beard", "yes"): "with a beard",
    ("beard", "no"): "without a beard",
}


class Captioned(NamedTuple):
    """A caption, what it states (subject included), and the whole person that is drawn for it."""

    caption: str
    stated: Mapping[str, str]
    person: Person


def article(words: str) -> str:
    """`words` with its indefinite article: "an engineer", "a boss"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def subject_phrase(stated: Mapping[str, str]) -> str:
    """ "a woman", "a boss", "a female boss"; a person of stated presentation is "a female person"."""
    subject = stated["subject"]
    presentation = stated.get("presentation")
    if presentation is None or subject in GENDERED_SUBJECTS:
        return article(subject)
    return article(f"{GENDER_WORD[presentation]} {subject}")


def segments(stated: Mapping[str, str]) -> list[str]:
    """One phrase for each thing that is said beyond subject and presentation, in the table's order."""
    said: list[str] = []
    if "skin" in stated:
        said.append(f"with {stated['skin']} skin")
    hair = [stated[key] for key in ("hair", "hair_color") if key in stated]
    if hair:
        said.append(f"with {' '.join(hair)} hair")
    if "clothes" in stated:
        said.append(_clothes(stated))
    elif "exposure" in stated:
        said.append(f"in {stated['exposure']} clothes")
    said += [FLAG_WORDS[key, stated[key]] for key in ("glasses", "beard") if key in stated]
    if "background" in stated:
        said.append(f"on a {stated['background']} background")
    return said


def _clothes(stated: Mapping[str, str]) -> str:
    color = f"{stated['clothes_color']} " if "clothes_color" in stated else ""
    if stated["clothes"] == "overalls":
        return f"wearing {color}overalls"
    return f"wearing a {color}{stated['clothes']}"


def describe(stated: Mapping[str, str], *, template: str, order: list[int] | None = None) -> str:
    """The caption for what is stated: template, subject, then the said attributes joined by commas.

    order: a permutation of the said phrases; None keeps the table's order.
    """
    said = segments(stated)
    if order is not None:
        said = [said[i] for i in order]
    return template.format(" ".join([subject_phrase(stated), ", ".join(said)]).strip())


def bare_rows(table: Table, captions: Sequence[str]) -> list[int]:
    """The numbers of the captions that say nothing but the subject."""
    alone = [{"subject": subject} for subject in table.subjects]
    bare = {describe(stated, template=template) for stated in alone for template in table.templates}
    return [i for i, caption in enumerate(captions) if caption in bare]


def sample(table: Table, rng: np.random.Generator) -> Captioned:
    """One captioned person: how much is said is drawn at random, what is left out comes from the table."""
    template = table.templates[rng.integers(len(table.templates))]
    kind = rng.random()
    if kind < table.interaction["share"]:
        stated = _state_interaction(table, rng)
    else:
        stated = {"subject": table.subjects[rng.integers(len(table.subjects))]}
        if kind >= table.interaction["share"] + table.bare_share:
            stated = _state_freely(table, stated, rng)
    person = table.complete(stated, rng)
    order = rng.permutation(len(segments(stated))).tolist()
    return Captioned(describe(stated, template=template, order=order), stated, person)


def _state_interaction(table: Table, rng: np.random.Generator) -> dict[str, str]:
    subjects = table.interaction["subjects"]
    stated = {"subject": subjects[rng.integers(len(subjects))], "presentation": "woman"}
    tones = list(table.interaction["skin"])
    stated["skin"] = tones[rng.choice(len(tones), p=list(table.interaction["skin"].values()))]
    if rng.random() < table.interaction["said"]:
        stated["exposure"] = _pick(table, "exposure", rng)
    for attribute, chance in table.interaction["also"].items():
        if rng.random() < chance:
            stated[attribute] = _pick(table, attribute, rng)
    return stated


def _state_freely(table: Table, stated: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    if stated["subject"] in GENDERED_SUBJECTS:
        stated["presentation"] = stated["subject"]
    for attribute, chance in table.mention.items():
        if attribute in stated or rng.random() >= chance:
            continue
        if attribute == "beard" and stated.get("presentation") != "man":
            continue
        if attribute == "clothes_color" and "clothes" not in stated:
            continue
        if attribute == "clothes":
            stated.pop("exposure", None)
        stated[attribute] = _pick(table, attribute, rng)
    return stated


def _pick(table: Table, attribute: str, rng: np.random.Generator) -> str:
    values = table.attributes[attribute]
    return values[rng.integers(len(values))]
