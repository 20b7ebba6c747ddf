"""The table of remedies: a name -> what makes a treatment of a goal. A new remedy is one row.

"a+b" is two or more together, each made for the plain model; "own:FILE[=STRENGTH]" is a user's own adapter.
Rows are imported when they are first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import final

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter
from counterpoise.measure.cards import nearest
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.treatment import Bench, Cost, Effort, Prepare, Prepared, Treatment, join

OWN = "own:"


@final
@dataclass(frozen=True, slots=True)
class Remedy:
    """One row. module: holds `function(bench, goal) -> Prepared` and, maybe, `effort(bench, goal) -> Effort`.
    told: what it does, in a line. source: where from. keeps: what it ends as: "adapter", "negative",
    "rewrite" or "model". guided: it acts through guidance alone. data: it learns from captioned pictures,
    which only the world's drawings are made for; other models refuse it (E_DATA)."""

    name: str
    module: str
    told: str
    source: str
    keeps: str
    guided: bool = False
    data: bool = False
    function: str = "prepare"

    @property
    def prepare(self) -> Prepare:
        """The module's function, imported now."""
        found: Prepare = getattr(import_module(self.module), self.function)
        return found


_HERE = "counterpoise.remedies"
ROWS = (
    Remedy(
        "negative",
        f"{_HERE}.negative",
        "a negative prompt of what is drawn too often, at the strength that serves best",
        "arXiv:2207.12598 (guidance), arXiv:2206.01714 (negation)",
        "negative",
        guided=True,
    ),
    Remedy(
        "planner",
        f"{_HERE}.planner",
        "rewrites a neutral prompt into one explicit variant an image, in exact shares",
        "R. Tijdeman, Discrete Mathematics 32 (1980)",
        "rewrite",
    ),
    Remedy(
        "distil",
        f"{_HERE}.distilled",
        "a LoRA trained so that a neutral prompt draws the mixture of the explicit ones",
        "remedies/distil.py",
        "adapter",
    ),
    Remedy(
        "closed-form",
        f"{_HERE}.closed_form",
        "a LoRA on cross-attention's keys and values, solved for in seconds, its weights found by audit",
        "arXiv:2308.14761",
        "adapter",
    ),
    Remedy(
        "suppress",
        f"{_HERE}.suppression",
        "a LoRA that brings one concept to one rate in all groups",
        "remedies/suppression.py",
        "adapter",
    ),
    Remedy(
        "replace",
        f"{_HERE}.retrain",
        "W retrained on data whose shares are the goal's, of the size that they had",
        "remedies/retrain.py",
        "model",
        data=True,
        function="replaced",
    ),
    Remedy(
        "add",
        f"{_HERE}.retrain",
        "W retrained on its data and as many more as make the goal's shares",
        "remedies/retrain.py",
        "model",
        data=True,
        function="added",
    ),
    Remedy(
        "add-deeper",
        f"{_HERE}.retrain",
        "as add, by a model of more capacity",
        "remedies/retrain.py",
        "model",
        data=True,
        function="added_deeper",
    ),
    Remedy(
        "same",
        f"{_HERE}.retrain",
        "W trained on with its data as they were: the control of the three above",
        "remedies/retrain.py",
        "model",
        data=True,
        function="unchanged",
    ),
)
REMEDIES: Mapping[str, Remedy] = {row.name: row for row in ROWS}


def names_of(named: str) -> tuple[str, ...]:
    """The parts of "a+b"; UsageError E_REMEDY for one that is unknown or named twice, or for two that both
    replace the model or both rewrite prompts, before either is made."""
    parts = tuple(part.strip() for part in named.split("+"))
    for part in parts:
        if part not in REMEDIES and not part.startswith(OWN):
            known = [*REMEDIES, f"{OWN}FILE"]
            raise UsageError(f"remedy {part!r:.80} is unknown; {nearest(part, known)}", code="E_REMEDY")
        if parts.count(part) > 1:
            raise UsageError(f"remedy {part!r:.80} is named twice; name it once", code="E_REMEDY")
    for keeps, what in (("model", "replace the model"), ("rewrite", "rewrite prompts")):
        same = [part for part in parts if part in REMEDIES and REMEDIES[part].keeps == keeps]
        if len(same) > 1:
            raise UsageError(
                f"{', '.join(same)} all {what}, and one picture has room for one; leave the others out",
                code="E_REMEDY",
            )
    return parts


def prepare(named: str, bench: Bench, goal: Goal) -> Prepared:
    """The remedy of this name, or several together ("planner+own:style.safetensors=0.7").

    Each works in a folder of its own under bench.work. Their costs add up. UsageError E_REMEDY where two
    cannot go together (see `join`), and what a remedy itself raises.
    """
    return together(
        {
            part: _own(part, bench) if part.startswith(OWN) else _one(part, bench, goal)
            for part in names_of(named)
        }
    )


def effort(named: str, bench: Bench, goal: Goal) -> Effort | None:
    """What all parts of "a+b" are going to take together; None where one of them does not tell."""
    parts = [REMEDIES[name] for name in names_of(named) if not name.startswith(OWN)]
    modules = [import_module(part.module) for part in parts]
    if not all(hasattr(module, "effort") for module in modules):
        return None
    found: list[Effort] = [module.effort(bench, goal) for module in modules]
    return Effort(
        drawn=sum(own.drawn for own in found),
        trained=sum(own.trained for own in found),
        batch=max((own.batch for own in found), default=0),
        kept=max((own.kept for own in found), default=0),
    )


def together(prepared: Mapping[str, Prepared]) -> Prepared:
    """Several prepared remedies as one."""
    made = list(prepared.values())
    if len(made) == 1:
        return made[0]
    costs = [own.cost for own in made]
    return Prepared(
        join(*(own.treatment for own in made)),
        Cost(
            seconds=sum(cost.seconds for cost in costs),
            judged=sum(cost.judged for cost in costs),
            trained=sum(cost.trained for cost in costs),
            nbytes=sum(cost.nbytes for cost in costs),
        ),
        tuple(f"{name}: {note}" for name, own in prepared.items() for note in own.notes),
        {name: dict(own.told) for name, own in prepared.items()},
    )


def own_adapter(text: str) -> tuple[Path, float]:
    """(file, strength) of FILE or FILE=STRENGTH; UsageError E_STRENGTH for a strength that is no number."""
    before, equals, after = text.rpartition("=")
    if not equals or Path(text).exists():
        return Path(text), 1.0
    try:
        strength = float(after)
    except ValueError:
        strength = math.nan
    if not math.isfinite(strength):
        raise UsageError(
            f"{text!r:.200}: expected FILE or FILE=STRENGTH, such as style.safetensors=0.7", code="E_STRENGTH"
        )
    return Path(before), strength


def _one(name: str, bench: Bench, goal: Goal) -> Prepared:
    return REMEDIES[name].prepare(replace(bench, work=bench.work / name), goal)


def _own(part: str, bench: Bench) -> Prepared:
    file, strength = own_adapter(part.removeprefix(OWN))
    adapter = Adapter.load(file, model=bench.painter.pipeline)
    return Prepared(
        Treatment(((adapter, strength),)),
        Cost(nbytes=file.stat().st_size if file.is_file() else 0),
        (f"the user's own adapter {file.name} at strength {strength:g}",),
    )


def adapters_of(prepared: Prepared) -> Sequence[Adapter]:
    """The adapters that a remedy ends as."""
    return [adapter for adapter, _ in prepared.treatment.adapters]
