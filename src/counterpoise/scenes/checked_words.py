"""A language model's reply as data: read, held against what was planned, and refused with a reason it can
mend.

Counts, boxes and values are never taken from it. A status 200 or a schema that a server claims to keep to
means nothing here: only what passes is used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from counterpoise.measure.cards import canonical
from counterpoise.scenes.guards import counted_people
from counterpoise.scenes.templates import Slot, Task, Words, world_words
from counterpoise.scenes.vocabulary import first_match

MAX_REPLY = 200_000
MAX_PHRASE, MAX_SCENE = 160, 300
_PLAIN = re.compile(r"[^\x00-\x1f\x7f<>{}\[\]|`\\]*")


def reply_schema(task: Task) -> dict[str, Any]:
    """The JSON schema that a reply is asked to keep to: fixed ids, no key beyond these; smaller than the
    plan's.
    """
    ids = [slot.id for slot in task.slots]
    person = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "enum": ids},
            "phrase": {"type": "string", "maxLength": MAX_PHRASE},
        },
        "required": ["id", "phrase"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "scene": {"type": "string", "maxLength": MAX_SCENE},
            "negative": {"type": "string", "maxLength": MAX_SCENE},
            "people": {"type": "array", "items": person, "minItems": len(ids), "maxItems": len(ids)},
        },
        "required": ["scene", "negative", "people"],
        "additionalProperties": False,
    }


def checked_reply(reply: str, task: Task) -> Words:
    """The words in a reply; ValueError says what is wrong with them, in words that a second try can use."""
    content = _first_object(reply)
    if set(content) != {"scene", "negative", "people"}:
        raise ValueError(f"the keys are {sorted(content)}: expected exactly scene, negative, people")
    people = content["people"]
    if not isinstance(people, list) or not all(
        isinstance(each, dict) and set(each) == {"id", "phrase"} for each in people
    ):
        raise ValueError("people is to be a list of objects with exactly the keys id and phrase")
    _check_ids([each["id"] for each in people], [slot.id for slot in task.slots])
    phrases = {
        str(each["id"]): _plain_text(each["phrase"], f"{each['id']}'s phrase", MAX_PHRASE) for each in people
    }
    words = Words(
        scene=_plain_text(content["scene"], "scene", MAX_SCENE),
        negative=_plain_text(content["negative"], "negative", MAX_SCENE, blank=True),
        phrases={slot.id: phrases[slot.id] for slot in task.slots},
    )
    if problem := words_problem(words, task):
        raise ValueError(problem)
    return words


def words_problem(words: Words, task: Task) -> str | None:
    """What keeps these words from saying what was planned, all of it, and nothing else of anybody."""
    problems = [_scene_problem(words.scene, task)]
    problems += [_phrase_problem(slot, words.phrases[slot.id], task) for slot in task.slots]
    return next((problem for problem in problems if problem), None)


def _scene_problem(scene: str, task: Task) -> str | None:
    for axis, value, said in task.vocabulary.stated(scene):
        if not task.vocabulary.axes[axis].scene:
            return f"scene says {said!r} ({axis}: {value}): it may say nothing of persons; leave that out"
    if counted_people(scene) not in (None, len(task.slots)):
        return f"scene counts {counted_people(scene)} people: there are {len(task.slots)}"
    return _added_term(scene, "scene", task) or _foreign_word(scene, "scene", task)


def _phrase_problem(slot: Slot, phrase: str, task: Task) -> str | None:
    who = f"{slot.id}'s phrase {phrase!r:.80}"
    for axis, value in slot.attributes.items():
        said = task.vocabulary.axes[axis].values[value]
        if not first_match((value, *said) if task.vocabulary.grammar == "plain" else said, phrase):
            return f"{who} does not say {axis}: {value} (write {_plain_said(said)!r})"
    for axis, value, words in task.vocabulary.stated(phrase):
        if slot.attributes.get(axis) != value:
            return f"{who} says {words!r} ({axis}: {value}), which is not planned for {slot.id}; leave it out"
    for presentation, pronouns in task.vocabulary.pronouns.items():
        found = first_match(pronouns, phrase)
        if found and slot.attributes.get("presentation") != presentation:
            return f"{who} says {found[0]!r}, which is not planned for {slot.id}; leave it out"
    if counted_people(phrase) not in (None, 1):
        return f"{who} counts people: it describes one person"
    return _added_term(phrase, who, task) or _foreign_word(phrase, who, task)


def _plain_said(said: tuple[str, ...]) -> str:
    return re.sub(r"\{any\}\s?|\{person\}", "", said[0]).replace("{garment}", "clothes").strip()


def _added_term(text: str, who: str, task: Task) -> str | None:
    """A term of the lists that the user did not write and that no planned value is."""
    asked = " ".join([task.prompt, *(value for slot in task.slots for value in slot.attributes.values())])
    for kind, terms in task.vocabulary.forbidden.items():
        for term in terms:
            if first_match([term], text) and not first_match([term], asked):
                return f"{who} adds {term!r} ({kind.replace('_', '-')}): leave it out"
    return None


def _foreign_word(text: str, who: str, task: Task) -> str | None:
    if not task.vocabulary.closed:
        return None
    foreign = [word for word in re.findall(r"[^\s,.]+", text) if word not in world_words()]
    return f"{who} has {foreign[0]!r}, a word that the model does not know" if foreign else None


def _check_ids(found: list[Any], wanted: list[str]) -> None:
    if len(found) != len(wanted):
        raise ValueError(f"there are {len(found)} people: expected {len(wanted)}, {', '.join(wanted)}")
    if Counter(map(str, found)) != Counter(wanted):
        raise ValueError(
            f"the ids are {canonical({'ids': found})[7:-1]:.200}: expected each of {', '.join(wanted)} once"
        )


def _plain_text(value: Any, who: str, limit: int, *, blank: bool = False) -> str:
    if not isinstance(value, str) or (not value.strip() and not blank):
        raise ValueError(f"{who} is {value!r:.60}: expected text")
    if len(value) > limit:
        raise ValueError(f"{who} has {len(value)} characters: expected at most {limit}")
    if not _PLAIN.fullmatch(value) or not value.isprintable():
        raise ValueError(f"{who} holds brackets, markup or control characters: expected plain words")
    return " ".join(value.split()).rstrip(" .,;")


def _first_object(reply: str) -> Mapping[str, Any]:
    """The first JSON object in a text: models put prose and fences around it."""
    if len(reply) > MAX_REPLY:
        raise ValueError(f"the reply has {len(reply)} characters: expected one short JSON object")
    start = reply.find("{")
    if start < 0:
        raise ValueError("the reply holds no JSON object: expected one and nothing else")
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    try:
        content, _ = decoder.raw_decode(reply[start:])
    except json.JSONDecodeError as error:
        raise ValueError(f"the reply is not valid JSON ({error.msg} at character {error.pos})") from None
    except RecursionError:
        raise ValueError("the reply is nested too deeply") from None
    return content if isinstance(content, dict) else {}


def _no_constant(name: str) -> float:
    raise ValueError(f"the reply holds {name}, which is no JSON")
