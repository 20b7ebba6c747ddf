"""Making a remedy once: found again when it is there, gone on with when it was interrupted.

In a bench's work folder: `repair-KEY/`, where the remedy works; `adapter.safetensors`, if it ends as one; and
last `repair.json`, the story of the making.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

from counterpoise.errors import UsageError
from counterpoise.files import write_whole
from counterpoise.lora import Adapter, Host
from counterpoise.remedies import table
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.treatment import Bench, Cost, Prepared, Treatment

ADAPTER, STORY = "adapter.safetensors", "repair.json"
_CLOCK_SECONDS = 5.0
_NAMES = ("remedy", "goal", "drawing", "model_sha256", "judge", "seed", "fast", "parts")


@final
@dataclass(frozen=True, slots=True)
class Made:
    """A remedy that was made. story: what it rests on, what it cost, what it told; file: its adapter's."""

    prepared: Prepared
    story: Mapping[str, Any]
    file: Path | None


def make(named: str, bench: Bench, goal: Goal, *, metadata: Mapping[str, str] | None = None) -> Made:
    """The remedy `named` for the goal, in bench.work; the same call goes on where it was interrupted.

    Its cost counts all its runs. metadata: goes into the adapter's file. UsageError E_RUN_CHANGED where the
    folder holds a remedy of other settings; else errors as the remedy's.
    """
    settings = settings_of(named, bench, goal)
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
    file, story = bench.work / ADAPTER, bench.work / STORY
    known: dict[str, Any] = json.loads(story.read_text("utf-8")) if story.exists() else {}
    if known and _lasting(known) != _lasting(settings):
        raise UsageError(
            f"{bench.work} holds a repair of other settings (changed: {_changes(known, settings)}); "
            "choose another --out or delete it",
            code="E_RUN_CHANGED",
            file=str(bench.work),
        )
    if known.get("adapter") and file.exists():
        found = Prepared(
            Treatment(((Adapter.load(file), known["strength"]),)),
            Cost(**known["cost"]),
            tuple(known["notes"]),
            known["told"],
        )
        return Made(found, known, file)
    clock = _Clock(bench.work / f"repair-{key}" / "seconds.json", bench)
    found = table.prepare(named, replace(bench, work=clock.file.parent, progress=clock), goal)
    cost = Cost(**known["cost"]) if known else replace(found.cost, seconds=clock.total())
    found = replace(found, cost=cost)
    alone = _alone(found.treatment)
    if alone:
        ((adapter, strength),) = found.treatment.adapters
        Adapter(adapter.layers, {**adapter.metadata, **(metadata or {})}).save(file, dialect="diffusers")
        # From the file, so that a run that finds it draws with the same bits as the one that made it.
        found = replace(found, treatment=Treatment(((Adapter.load(file), strength),)))
    else:
        strength = None
    told = {
        "key": key,
        **settings,
        "adapter": alone,
        "strength": strength,
        "cost": asdict(cost),
        "notes": list(found.notes),
        "told": dict(found.told),
    }
    written = json.dumps(told, indent=1, default=list) + "\n"
    write_whole(story, written)  # last: a kill before it makes both again
    return Made(found, json.loads(written), file if alone else None)


def settings_of(named: str, bench: Bench, goal: Goal) -> dict[str, Any]:
    """All that a remedy's making depends on, as JSON values."""
    painter = bench.painter
    settings: dict[str, Any] = {
        "remedy": named,
        "goal": goal.model_dump(mode="json"),
        "drawing": {
            "guidance": painter.guidance,
            "steps": painter.steps,
            "negative_prompt": painter.negative_prompt,
            "batch_size": painter.batch_size,
            "dtype": painter.dtype,
        },
        "model_sha256": Host(painter.pipeline).fingerprint(),
        "judge": f"{bench.measurer.name} {bench.measurer.version}",
        "seed": bench.seed,
        "fast": bench.fast,
        "parts": bench.parts,
    }
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found


def _alone(treatment: Treatment) -> bool:
    """Whether one adapter is all of a treatment."""
    return len(treatment.adapters) == 1 and treatment == Treatment(treatment.adapters)


def _lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a finished remedy is known by: not by the batches that it was made in, which lack of memory may
    change on the way (its story says which they were)."""
    drawing = {name: value for name, value in settings.get("drawing", {}).items() if name != "batch_size"}
    return {name: settings.get(name) for name in _NAMES if name != "parts"} | {"drawing": drawing}


def _changes(known: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    old, new = _lasting(known), _lasting(settings)
    return ", ".join(name for name in new if old[name] != new[name])


@final
class _Clock:
    """Passes progress on, and keeps the seconds that all runs of a making took together."""

    def __init__(self, file: Path, bench: Bench) -> None:
        self.file = file
        self._bench = bench
        self._before = float(json.loads(file.read_text("utf-8"))) if file.exists() else 0.0
        self._started = self._kept = time.monotonic()

    def __call__(self, stage: str, step: int, total: int, loss: float) -> None:
        if time.monotonic() - self._kept > _CLOCK_SECONDS:
            self._kept = time.monotonic()
            write_whole(self.file, json.dumps(self.total()))
        self._bench.progress(stage, step, total, loss)

    def total(self) -> float:
        return self._before + time.monotonic() - self._started
