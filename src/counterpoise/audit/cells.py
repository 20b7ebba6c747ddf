"""Which pictures a spec needs: a prompt that several questions ask about is drawn once, at the largest n."""

from __future__ import annotations

from collections.abc import Iterator

from ..diffusion.arm import Cell
from .spec import AuditSpec, all_prompts


def prompt_counts(spec: AuditSpec) -> dict[str, int]:
    """prompt -> pictures to draw of it in every arm, in the order in which the spec names them."""
    counts: dict[str, int] = {}
    for prompt, n in all_prompts(spec):
        counts[prompt] = max(n, counts.get(prompt, 0))
    return counts


def cells_of(spec: AuditSpec, arm: str) -> Iterator[Cell]:
    """An arm's cells: prompt by prompt, picture i on seed + i, so that arms share their seeds."""
    for prompt, n in prompt_counts(spec).items():
        for i in range(n):
            yield Cell(arm, prompt, spec.seed + i)
