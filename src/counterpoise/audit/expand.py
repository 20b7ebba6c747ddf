"""Questions to prompts: templates filled, counterfactual prompts put side by side.

Everything here takes the slots that have words (the spec's and the question's own); a slot without words is
an attribute of the judge that has still to be asked (`check.bind_spec`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from counterpoise.audit.fields import KeyProblem, options_of
from counterpoise.audit.questions import (
    SLOT,
    Asked,
    ClaimQuestion,
    DisparityQuestion,
    Question,
    ReachabilityQuestion,
)
from counterpoise.audit.template import Filling, check_prompts, fill, fillings, slots_in

Words = Mapping[str, tuple[str, ...] | Mapping[str, str]]


@final
@dataclass(frozen=True, slots=True)
class Contrast:
    """Prompts that differ in one slot: group -> prompt.

    template: what they share, with {group} for what differs; other slots are filled.
    """

    template: str
    prompts: Mapping[str, str]


def words_of(question: Question, shared: Words) -> dict[str, dict[str, str]]:
    """slot -> label -> word, for every slot of the question's templates that has words."""
    own = {**shared, **question.slots}
    if isinstance(question, DisparityQuestion) and question.groups is not None:
        own[question.differing] = question.groups
    return {name: options_of(own[name]) for name in _held(question) if name in own}


def unbound(question: Question, shared: Words) -> list[str]:
    """The slots that have no words yet."""
    words = words_of(question, shared)
    return [name for name in _held(question) if name not in words]


def asked_prompts(question: Asked, shared: Words) -> list[Filling]:
    """The prompts that a question lists, with what was chosen for their slots."""
    if isinstance(question, ReachabilityQuestion) and question.cases:
        return [Filling(case.prompt, {}) for case in question.cases]
    if question.template is None:
        return [Filling(prompt, {}) for prompt in question.prompts]
    try:
        return fillings(question.templates(), words_of(question, shared))
    except ValueError as problem:
        raise KeyProblem("template", str(problem)) from None


def reference_of(question: ClaimQuestion, filling: Filling, shared: Words) -> str | None:
    """The prompt whose distribution is the target for this prompt, if one is."""
    reference = question.reference
    if reference is None or question.template is None:
        return reference
    words = words_of(question, shared)
    prompt = fill(reference, {name: words[name][filling.labels[name]] for name in slots_in(reference)})
    if prompt == filling.prompt:
        raise KeyProblem(
            "target.prompt", f"makes {prompt!r:.60} the target of itself: expected another prompt"
        )
    return prompt


def contrasts(question: DisparityQuestion, shared: Words) -> list[Contrast]:
    """For every choice of the other slots, the prompts that differ in the one."""
    words = words_of(question, shared)
    slot = question.differing
    others = {name: options for name, options in words.items() if name != slot}
    groups = list(words[slot])
    if len(groups) < 2:
        raise KeyProblem("groups", f"is {groups!r:.60}: expected two or more words to put into the slot")
    if question.reference is not None and question.reference not in groups:
        listed = ", ".join(groups)
        raise KeyProblem(
            "reference", f"is {question.reference!r:.60}: expected one of the groups ({listed:.200})"
        )
    made = []
    try:
        for template in question.templates():
            for context in fillings([template], {**others, slot: {slot: SLOT}}):
                chosen = {name: others[name][at] for name, at in context.labels.items() if name != slot}
                prompts = {
                    group: fill(template, {**chosen, slot: word}) for group, word in words[slot].items()
                }
                made.append(Contrast(context.prompt, prompts))
        check_prompts([prompt for contrast in made for prompt in contrast.prompts.values()])
    except ValueError as problem:
        raise KeyProblem("template", str(problem)) from None
    return made


def question_prompts(question: Question, shared: Words) -> Iterator[str]:
    """Every prompt that must be drawn for a question, repetitions among them."""
    if isinstance(question, DisparityQuestion):
        for contrast in contrasts(question, shared):
            yield from contrast.prompts.values()
    elif isinstance(question, Asked):
        asked = asked_prompts(question, shared)
        yield from (filling.prompt for filling in asked)
        if isinstance(question, ClaimQuestion):
            references = (reference_of(question, filling, shared) for filling in asked)
            yield from dict.fromkeys(prompt for prompt in references if prompt is not None)


def _held(question: Question) -> list[str]:
    return list(dict.fromkeys(name for template in question.templates() for name in slots_in(template)))
