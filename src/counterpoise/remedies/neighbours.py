"""The prompts next to those that are edited, which a repair must leave as they are.

A repair that cured two associations broke, unseen, one tone that users ask for by name: "a woman with brown
skin" was drawn so in 16 % instead of 100 %. What lies next to an edit follows from the goal itself: the
variants' own phrases with one more thing said, the subject with some of a variant's words ("a female boss",
"a boss with tan skin"; not where the goal has these follow), those words alone, as negative prompts say
them, and the empty prompt.

Comes in: a goal. Goes out: prompts, none of which an edit changes.
"""

from __future__ import annotations

from collections.abc import Iterator

from counterpoise.remedies.goal import Goal
from counterpoise.remedies.partly import added, parts, with_detail


def neighbours(goal: Goal) -> list[str]:
    """Prompts: each such phrase in every template that the repair may see; negative words and "" as often."""
    edited = {edit.neutral for edit in goal.edits} | set(goal.keep)
    phrases = [phrase for phrase in dict.fromkeys(_phrases(goal)) if phrase not in edited]
    pairs = [(edit.neutral, variant.phrase) for edit in goal.edits for variant in edit.variants]
    words = dict.fromkeys(word for neutral, phrase in pairs for word in added(neutral, phrase))
    bare = [*words, ""] * len(goal.templates)
    return [template.format(phrase) for phrase in phrases for template in goal.templates] + bare


def _phrases(goal: Goal) -> Iterator[str]:
    for edit in goal.edits:
        for variant in edit.variants:
            if goal.partial == "keep":
                yield from parts(edit.neutral, variant.phrase)
    every = [variant.phrase for edit in goal.edits for variant in edit.variants]
    for i, phrase in enumerate(dict.fromkeys(every)):
        if goal.details:
            yield with_detail(phrase, goal.details[i % len(goal.details)])
