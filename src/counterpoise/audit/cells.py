"""Which pictures a spec needs: a prompt that several questions ask about is drawn once, at the largest n.

A plain arm ("base", an adapter's) draws every prompt. A question with a negative prompt needs one arm more
beside each: "base.negative.1" draws only that question's prompts, with the spec's first negative prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from counterpoise.audit.expand import question_prompts
from counterpoise.audit.spec import AuditSpec, all_prompts
from counterpoise.diffusion.arm import Cell
from counterpoise.errors import UsageError

_NEGATIVE = re.compile(r"(?P<arm>.+)\.negative\.(?P<number>[1-9][0-9]*)")


def negatives(spec: AuditSpec) -> tuple[str, ...]:
    """The negative prompts that are asked about, each once, in order: number k has the arms X.negative.k."""
    return tuple(dict.fromkeys(q.negative.prompt for q in spec.reachability if q.negative))


def negative_arm(arm: str, number: int) -> str:
    """The name of the arm that draws as `arm` does, with negative prompt `number` (from 1)."""
    return f"{arm}.negative.{number}"


def negative_of(arm: str) -> tuple[str, int] | None:
    """(the arm beside it, the negative prompt's number) if this is the name of a negative prompt's arm."""
    found = _NEGATIVE.fullmatch(arm)
    return (found["arm"], int(found["number"])) if found else None


def prompt_counts(spec: AuditSpec, arm: str = "base") -> dict[str, int]:
    """prompt -> pictures to draw of it in an arm, in the order in which the spec names them.

    UsageError for a slot without words, and for an arm of a negative prompt that the spec does not have.
    """
    counts: dict[str, int] = {}
    for prompt, n in _needed(spec, arm):
        counts[prompt] = max(n, counts.get(prompt, 0))
    return counts


def cells_of(spec: AuditSpec, arm: str) -> Iterator[Cell]:
    """An arm's cells, picture i on seed + i, so that arms share their seeds.

    Prompt by prompt, or, when stopping is sequential, look by look: what decided prompts no longer need is
    then in batches that need not be drawn.
    """
    counts = prompt_counts(spec, arm)
    most = max(counts.values(), default=0)
    step = spec.pictures_a_look if spec.stopping == "sequential" else max(most, 1)
    for start in range(0, most, step):
        for prompt, n in counts.items():
            for i in range(start, min(n, start + step)):
                yield Cell(arm, prompt, spec.seed + i)


def _needed(spec: AuditSpec, arm: str) -> Iterator[tuple[str, int]]:
    negative = negative_of(arm)
    if negative is None:
        yield from all_prompts(spec)
        return
    asked = negatives(spec)
    if negative[1] > len(asked):
        raise UsageError(
            f"arm {arm}: the spec asks about {len(asked)} negative prompts: expected a name that ends in "
            f".negative.1 to .negative.{len(asked)} at most; rename the arm",
            code="E_ARM",
        )
    list(all_prompts(spec))  # a slot without words is refused here as there
    for question in spec.reachability:
        if question.negative and question.negative.prompt == asked[negative[1] - 1]:
            yield from ((p, spec.n_of(question)) for p in question_prompts(question, spec.slots))
