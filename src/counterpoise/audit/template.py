"""Prompt templates: "a portrait of a {who} with {skin} skin" and its slots in, every filled prompt out.

Braces are Python's: {name} is a slot, {{ and }} are literal. A slot's options are label -> word: the word
goes into the prompt, the label names the choice ({ woman = "female" } is said "female" and means woman).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import final

from counterpoise.audit.fields import MAX_PROMPT

MAX_PROMPTS = 10_000  # of one question: more is a slip of the pen, and a plan that fits no disk

Options = Mapping[str, str]


@final
@dataclass(frozen=True, slots=True)
class Filling:
    """One filled template: the prompt, and slot -> label of what was chosen."""

    prompt: str
    labels: Mapping[str, str]


def slots_in(template: str) -> tuple[str, ...]:
    """The names of a template's slots, each once, in order. ValueError says which brace is wrong."""
    return tuple(dict.fromkeys(name for _, name in _parts(template) if name is not None))


def fill(template: str, words: Mapping[str, str]) -> str:
    """The template with a word in every slot; KeyError for a slot without one, ValueError as slots_in's."""
    return "".join(text + ("" if name is None else words[name]) for text, name in _parts(template))


def fillings(templates: Sequence[str], slots: Mapping[str, Options]) -> list[Filling]:
    """Every template with every combination of its slots' words; the first slot varies slowest.

    Slots that no template holds are left out. ValueError for more than MAX_PROMPTS prompts, and for one
    that comes out twice; KeyError for a slot without options.
    """
    named = [(template, slots_in(template)) for template in templates]
    total = sum(math.prod(len(slots[name]) for name in names) for _, names in named)
    if total > MAX_PROMPTS:
        sizes = ", ".join(
            f"{name}: {len(slots[name])}" for name in dict.fromkeys(n for _, names in named for n in names)
        )
        raise ValueError(
            f"makes {total} prompts ({sizes}): expected at most {MAX_PROMPTS}; shorten a slot's list"
        )
    made = [
        Filling(
            fill(template, {name: slots[name][label] for name, label in zip(names, labels, strict=True)}),
            dict(zip(names, labels, strict=True)),
        )
        for template, names in named
        for labels in itertools.product(*(slots[name] for name in names))
    ]
    check_prompts([filling.prompt for filling in made])
    return made


def check_prompts(prompts: Sequence[str]) -> None:
    """ValueError if a template's prompts are too many or too long, or one of them is made twice."""
    if len(prompts) > MAX_PROMPTS:
        raise ValueError(
            f"makes {len(prompts)} prompts: expected at most {MAX_PROMPTS}; shorten a slot's list"
        )
    longest = max(prompts, key=len, default="")
    if len(longest) > MAX_PROMPT:
        raise ValueError(f"makes a prompt of {len(longest)} characters: expected at most {MAX_PROMPT}")
    for prompt, times in Counter(prompts).items():
        if times > 1:
            raise ValueError(
                f"makes {prompt!r:.80} {times} times: expected each prompt once; check its slots"
            )


def _parts(template: str) -> list[tuple[str, str | None]]:
    """(literal text, slot after it or None) in order."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(
            f"is {template!r:.60}: {str(error).lower()}; write {{{{ and }}}} for literal braces"
        ) from None
    for _, name, spec, conversion in parts:
        whole = (name or "") + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
        if name is not None and (not name.strip() or spec or conversion or set("{}") & set(name)):
            raise ValueError(
                f"is {template!r:.60}: {{{whole}}} is no slot's name; name it, as {{skin}}, or write {{{{ "
                "and }} for literal braces"
            )
    return [(text, name) for text, name, _, _ in parts]
