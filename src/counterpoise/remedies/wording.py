"""A goal as it is written, with slots and tables, made into the goal as it is meant: every phrase by itself.

    templates = ["a {medium} of {}", "a portrait of {}"]
    details = ["wearing glasses", "on a {colour} background"]
    keep = ["a {presentation} person"]
    [slots]
    medium = ["picture", "drawing"]
    job = ["boss", "nurse"]
    colour = ["pink", "blue"]
    presentation = { woman = "female", man = "male" }       # what is read = how it is said
    skin = ["pale", "dark"]
    [[edit]]
    neutral = "a {job}"                                     # an edit for each word
    attribute = ["presentation", "skin"]
    phrase = "a {presentation} {job} with {skin} skin"      # a variant for each combination
    target = { presentation = { woman = 0.5, man = 0.5 }, skin = "uniform" }

target: "uniform" (the default), attribute -> "uniform" or shares (their product), or a list of cells, each an
attribute -> value table with its share. Slots are those of an audit's templates (`audit.template`).

Comes in: the table as read from TOML. Goes out: the same without slots, phrases and targets.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from counterpoise.audit.fields import options_of
from counterpoise.audit.template import fill, fillings, slots_in

Slots = Mapping[str, Mapping[str, str]]
_PHRASE = "\0"  # stands for {} where braces name slots
_LISTS = ("templates", "held_out", "keep", "details")


def written_out(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The goal's table with every slot filled; ValueError says which entry is wrong.

    What is not of the expected type is passed on as it is: the schema names it.
    """
    found = {key: value for key, value in raw.items() if key != "slots"}
    slots = _slots(raw.get("slots", {}))
    for key in _LISTS:
        if _is_texts(found.get(key)):
            found[key] = [text for entry in found[key] for text in _each(entry, slots)]
    key = "edit" if "edit" in found else "edits"
    if isinstance(found.get(key), Sequence) and all(isinstance(edit, Mapping) for edit in found[key]):
        found[key] = [each for edit in found[key] for each in _edits(edit, slots)]
    return found


def _slots(raw: object) -> dict[str, dict[str, str]]:
    if not isinstance(raw, Mapping):
        raise ValueError(f"slots is {raw!r:.60}: expected a table of words, such as skin = ['pale', 'dark']")
    found = {}
    for name, words in raw.items():
        texts = list(words.values()) if isinstance(words, Mapping) else words
        if not _is_texts(texts) or not texts:
            raise ValueError(
                f"slots.{name} is {words!r:.60}: expected a list of words, or label = word pairs"
            )
        if len(set(texts)) < len(texts):
            raise ValueError(f"slots.{name} holds a word twice ({', '.join(texts):.80}); delete the copy")
        found[name] = options_of(tuple(words) if not isinstance(words, Mapping) else words)
    return found


def _is_texts(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(text, str) for text in value)
    )


def _held(text: str, slots: Slots) -> tuple[str, ...]:
    """The slots that a text holds; ValueError for one without words."""
    held = slots_in(text.replace("{}", _PHRASE))
    for name in held:
        if name not in slots:
            known = f"slots are {', '.join(slots)}" if slots else "the goal has no [slots]"
            raise ValueError(f"{text!r:.80} holds {{{name}}}, which has no words; {known}")
    return held


def _filled(text: str, words: Mapping[str, str]) -> str:
    return fill(text.replace("{}", _PHRASE), words).replace(_PHRASE, "{}")


def _each(text: str, slots: Slots) -> list[str]:
    _held(text, slots)
    return [own.prompt.replace(_PHRASE, "{}") for own in fillings([text.replace("{}", _PHRASE)], slots)]


def _edits(raw: Mapping[str, Any], slots: Slots) -> list[dict[str, Any]]:
    """One edit for every filling of the neutral phrase's slots."""
    neutral, attribute = raw.get("neutral"), raw.get("attribute")
    if not isinstance(neutral, str):
        return [dict(raw)]
    names = _held(neutral, slots)
    attributes = (attribute,) if isinstance(attribute, str) else tuple(attribute or ())
    said = sorted(set(names) & set(attributes))
    if said:
        raise ValueError(
            f"edit {neutral!r:.80} says {{{said[0]}}}, which it edits; leave it out of the neutral phrase"
        )
    made = []
    for labels in itertools.product(*(slots[name] for name in names)):
        words = {name: slots[name][label] for name, label in zip(names, labels, strict=True)}
        made.append(_edit(raw, attributes, slots, words=words))
    return made


def _edit(
    raw: Mapping[str, Any], attributes: tuple[str, ...], slots: Slots, *, words: Mapping[str, str]
) -> dict[str, Any]:
    found = {key: value for key, value in raw.items() if key not in ("phrase", "target")}
    found["neutral"] = _filled(raw["neutral"], words)
    if "phrase" in raw:
        if "variants" in raw:
            raise ValueError(
                f"edit {raw['neutral']!r:.80} has both phrase and variants; leave one of them out"
            )
        found["variants"] = _variants(raw, attributes, slots, words=words)
    elif "target" in raw:
        raise ValueError(
            f"edit {raw['neutral']!r:.80} has a target but no phrase; give the variants their shares"
        )
    elif isinstance(raw.get("variants"), Sequence):
        found["variants"] = [
            {**own, "phrase": _filled(own["phrase"], words)}
            if isinstance(own, Mapping) and isinstance(own.get("phrase"), str) and words
            else own
            for own in raw["variants"]
        ]
    return found


def _variants(
    raw: Mapping[str, Any], attributes: tuple[str, ...], slots: Slots, *, words: Mapping[str, str]
) -> list[dict[str, Any]]:
    phrase = raw["phrase"]
    held = _held(phrase, slots)
    loose = [name for name in held if name not in attributes and name not in words]
    unsaid = [name for name in attributes if name not in held]
    if loose or unsaid:
        wrong = f"holds {{{loose[0]}}}, which is" if loose else f"lacks {{{unsaid[0]}}}, which is"
        reason = "neither edited nor in the neutral phrase" if loose else "edited"
        raise ValueError(f"phrase {phrase!r:.80} {wrong} {reason}")
    made = []
    for cell, share in _cells(raw.get("target", "uniform"), attributes, slots).items():
        values = dict(zip(attributes, cell, strict=True))
        own = {name: slots[name][value] for name, value in values.items()}
        reads = values if not isinstance(raw["attribute"], str) else cell[0]
        made.append({"phrase": _filled(phrase, {**words, **own}), "reads": reads, "share": share})
    return made


def _cells(target: Any, attributes: tuple[str, ...], slots: Slots) -> dict[tuple[str, ...], float]:
    """(a value an attribute) -> share."""
    if isinstance(target, Sequence) and not isinstance(target, str):
        return _table(target, attributes, slots)
    if isinstance(target, Mapping) and len(attributes) == 1 and attributes[0] not in target:
        target = {attributes[0]: target}
    each = target if isinstance(target, Mapping) else dict.fromkeys(attributes, target)
    unknown = sorted(set(each) - set(attributes))
    if unknown:
        raise ValueError(f"target names {unknown[0]!r:.60}: expected {' and '.join(attributes)}")
    margins = [_margin(each.get(name, "uniform"), name, slots) for name in attributes]
    return {
        cell: math.prod(margin[value] for margin, value in zip(margins, cell, strict=True))
        for cell in itertools.product(*margins)
    }


def _margin(target: Any, name: str, slots: Slots) -> dict[str, float]:
    values = slots[name]
    if target == "uniform":
        return {value: 1 / len(values) for value in values}
    if not isinstance(target, Mapping):
        raise ValueError(f"target of {name} is {target!r:.60}: expected 'uniform' or value = share pairs")
    for value, share in target.items():
        _check(name, value, share, slots)
    total = math.fsum(target.values())
    if abs(total - 1.0) > 1e-6:
        raise ValueError(f"target of {name} sums to {total:.6g}, expected 1")
    return dict(target)


def _table(rows: Sequence[Any], attributes: tuple[str, ...], slots: Slots) -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for row in rows:
        if not isinstance(row, Mapping) or set(row) != {*attributes, "share"}:
            expected = ", ".join(f"{name} = ..." for name in (*attributes, "share"))
            raise ValueError(f"target holds {row!r:.80}: expected {{ {expected} }}")
        for name in attributes:
            _check(name, row[name], row["share"], slots)
        cell = tuple(row[name] for name in attributes)
        if cell in found:
            raise ValueError(f"target names {' x '.join(cell)} twice; give it one share")
        found[cell] = row["share"]
    return found


def _check(name: str, value: Any, share: Any, slots: Slots) -> None:
    if value not in slots[name]:
        raise ValueError(f"target names {name} {value!r:.60}: slots.{name} has {', '.join(slots[name])}")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(
            f"target gives {name} {value!r:.60} the share {share!r:.40}: expected above 0, at most 1; a "
            "value that is not to be drawn is left out"
        )
