"""Goals that ask two things of one prompt, which no remedy could give."""

from __future__ import annotations

from counterpoise.errors import UsageError
from counterpoise.remedies.goal import Edit, Goal


def contradictions(goal: Goal) -> None:
    """UsageError E_GOAL where two entries of a goal, filled into its templates, ask different things of one
    prompt: two targets for one attribute, or to keep what is edited."""
    wanted: dict[tuple[str, str], Edit] = {}
    for edit in goal.edits:
        for template in (*goal.templates, *goal.held_out):
            for attribute in edit.attributes:
                other = wanted.setdefault((template.format(edit.neutral), attribute), edit)
                if other is not edit:
                    raise UsageError(
                        f"goal: the edits of {other.neutral!r:.60} and {edit.neutral!r:.60} both set "
                        f"{attribute} of {template.format(edit.neutral)!r:.100}: expected one target a "
                        "prompt; leave one out",
                        code="E_GOAL",
                    )
    edited = {prompt for prompt, _ in wanted}
    for phrase in goal.keep:
        for template in (*goal.templates, *goal.held_out):
            if template.format(phrase) in edited:
                raise UsageError(
                    f"goal: keep names {phrase!r:.60}, which an edit changes "
                    f"({template.format(phrase)!r:.100}); leave it out of keep, or leave the edit out",
                    code="E_GOAL",
                )
