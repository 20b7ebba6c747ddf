"""Words without a language model: a person's phrase from their values, the scene's from the user's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import final

from counterpoise.scenes.guards import Told, number_word
from counterpoise.scenes.vocabulary import Vocabulary
from counterpoise.world.grammar import FLAG_WORDS, GENDER_WORD, describe
from counterpoise.world.table import load_table


@final
@dataclass(frozen=True, slots=True)
class Slot:
    """One person to find words for. attributes: axis -> value; all of them must be said."""

    id: str
    attributes: Mapping[str, str]


@final
@dataclass(frozen=True, slots=True)
class Task:
    """What words are wanted for: the user's text, what it says, the people, and the vocabulary to say it
    in.
    """

    prompt: str
    told: Told
    slots: tuple[Slot, ...]
    vocabulary: Vocabulary


@final
@dataclass(frozen=True, slots=True)
class Words:
    """scene: of the whole picture. phrases: id -> what one person is."""

    scene: str
    negative: str
    phrases: Mapping[str, str]


def template_words(task: Task) -> Words:
    """Words by template, the same each time."""
    return Words(
        scene=_scene(task),
        negative=task.vocabulary.negative,
        phrases={slot.id: _phrase(task, slot) for slot in task.slots},
    )


@cache
def world_words() -> frozenset[str]:
    """Every word that the world's captions can hold."""
    table = load_table()
    texts = [*table.templates, *table.subjects, *table.reserved, *FLAG_WORDS.values(), *GENDER_WORD.values()]
    texts += [value for values in table.attributes.values() for value in values]
    texts.append("a an with in on skin hair clothes background wearing without")
    return frozenset(word for text in texts for word in text.replace("{}", " ").split())


def _scene(task: Task) -> str:
    words, count = task.vocabulary, len(task.slots)
    group = "one person" if count == 1 else f"{number_word(count)} people"
    if words.closed and number_word(count) not in world_words():
        group = "a person" if count == 1 else "a group of people"
    scene = words.scene.format(group=group, prompt=task.told.scene).strip(" ,")
    shared = {
        axis: values[0]
        for axis, values in task.told.stated.items()
        if words.axes[axis].scene and len(values) == 1
    }
    return f"{scene} on a {shared['background']} background" if "background" in shared else scene


def _phrase(task: Task, slot: Slot) -> str:
    if task.vocabulary.grammar == "world":
        presentation = slot.attributes.get("presentation")
        subject = task.told.subject or presentation or "person"
        return describe({"subject": subject, **slot.attributes}, template=task.vocabulary.person)
    return task.vocabulary.person.format(_plain(task, slot.attributes))


def _plain(task: Task, attributes: Mapping[str, str]) -> str:
    axes = task.vocabulary.axes
    said = {axis: axes[axis].phrase.format(value) for axis, value in attributes.items()}
    noun = [said[axis] for axis in axes if axis in said and axes[axis].place == "noun"] or ["person"]
    before = [said[axis] for axis in axes if axis in said and axes[axis].place == "before"]
    after = [said[axis] for axis in axes if axis in said and axes[axis].place == "after"]
    subject = [task.told.subject] if task.told.subject else []
    words = " ".join([*before, *noun])
    article = "an" if words[0].lower() in "aeiou" else "a"
    return ", ".join([f"{article} {words}", *subject, *after])
