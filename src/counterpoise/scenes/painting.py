"""Draws plans into a folder: a PNG a plan, which carries the plan and how it was drawn.

In: plans, a loaded pipeline, how to draw, and perhaps a judge. Out: pictures, written whole or not at all;
what lies there already, drawn in the same way, is not drawn again.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from counterpoise.errors import CounterpoiseError, UsageError
from counterpoise.files import write_atomic
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.host import Host
from counterpoise.measure.reading import Measurer
from counterpoise.scenes.mending import Attempt, draw_and_mend
from counterpoise.scenes.plan import Plan
from counterpoise.scenes.plan_files import embed
from counterpoise.scenes.records import Named, Record, Try, Way, key_of, record_of, with_record
from counterpoise.scenes.rendering import regional_of, scene_of
from counterpoise.scenes.sampler.drawing import ScenePainter
from counterpoise.scenes.sampler.hold import checked_levels, regional
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.settings import Regional

AT_ONCE = 4  # batches that are mended together: a batch of the few that fail is a full one
Progress = Callable[[int, int], None]


@final
@dataclass(frozen=True, slots=True)
class Bench:
    """What draws. model: its name, for the record. judge: reads boxes where `way.mended`."""

    pipeline: Any
    model: str
    way: Way
    judge: Measurer | None = None


@final
@dataclass(frozen=True, slots=True)
class Drawn:
    """files: a picture for each plan, in order. fresh: how many were drawn now; the others were there."""

    files: tuple[Path, ...]
    fresh: int


@final
@dataclass(frozen=True, slots=True)
class _Job:
    named: Named
    scene: Scene
    settings: Regional
    adapters: Mapping[str, tuple[str, Adapter, float]]
    prints: dict[str, str]
    weights: str
    key: str
    file: Path


def draw_plans(
    plans: Sequence[Named],
    bench: Bench,
    out: Path,
    *,
    replace: bool = False,
    progress: Progress = lambda done, total: None,
) -> Drawn:
    """Draw every plan into `out`, and nothing before all of them are known to fit the model.

    UsageError E_SCENE_NAMES for two plans of one name, E_SCENE_EXISTS where a picture of this name was drawn
    otherwise (`replace` draws it anew), and, with the plan's name first, what the sampler refuses (E_CANVAS,
    E_BOX, E_MODEL); E_ATTRIBUTE where the judge can read nothing of a plan that is to be mended. Adapters'
    errors are `Adapter.load`'s and `Host.mount`'s.
    """
    jobs = _jobs(plans, bench, out)
    todo = [job for job in jobs if not _there(job, replace=replace)]
    done = len(jobs) - len(todo)
    progress(done, len(jobs))
    for group in _groups(todo, bench.way):
        for job, picture, record in _drawn(group, bench):
            write_atomic(job.file, [with_record(embed(_png(picture), job.named.plan), record)])
            done += 1
            progress(done, len(jobs))
    return Drawn(tuple(job.file for job in jobs), len(todo))


def _jobs(plans: Sequence[Named], bench: Bench, out: Path) -> list[_Job]:
    weights = Host(bench.pipeline).fingerprint()
    known: dict[Path, Adapter] = {}
    jobs: list[_Job] = []
    taken: set[str] = set()
    judged = bench.judge.attributes if bench.judge is not None and bench.way.mended else None
    for named in plans:
        if named.name in taken:
            raise UsageError(
                f"two plans would be drawn into {named.name}.png: rename one, or draw them into two folders",
                code="E_SCENE_NAMES",
            )
        taken.add(named.name)
        with _naming(named):
            adapters = _adapters(named, bench.pipeline, known)
            names = {person: name for person, (name, _, _) in adapters.items()}
            scene = scene_of(named.plan, judged=judged, adapters=names)
            checked_levels(bench.pipeline, [scene])
            planned = any(person.attributes for person in named.plan.people)
            if judged is not None and planned and not any(person.attributes for person in scene.people):
                raise _nothing_to_check(named.plan, judged)
        prints = {person: adapter.fingerprint() for person, (_, adapter, _) in adapters.items()}
        key = key_of(named.plan, bench.way, weights=weights, adapters=prints)
        settings, file = regional_of(named.plan), out / f"{named.name}.png"
        jobs.append(_Job(named, scene, settings, adapters, prints, weights, key, file))
    return jobs


def _nothing_to_check(plan: Plan, judged: Mapping[str, Sequence[str]]) -> UsageError:
    asked = sorted({axis for person in plan.people for axis in person.attributes})
    reason = f"nothing to check: its people have {', '.join(asked)}, and the judge reads "
    reason += f"{', '.join(judged)}; name another judge, or draw with --no-repair"
    return UsageError(reason, code="E_ATTRIBUTE")


def _adapters(
    named: Named, pipeline: Any, known: dict[Path, Adapter]
) -> dict[str, tuple[str, Adapter, float]]:
    """A person's id -> the name to mount under, the adapter, its strength; equal ones share a name."""
    found: dict[str, tuple[str, Adapter, float]] = {}
    for person in named.plan.people:
        if person.lora is None:
            continue
        path = (named.folder / person.lora).resolve()
        if path not in known:
            known[path] = Adapter.load(path, model=pipeline)
        name = f"{known[path].fingerprint()[:12]}-{person.weight:g}".replace(".", "_")
        found[person.id] = (name, known[path], person.weight)
    return found


@contextmanager
def _naming(named: Named) -> Iterator[None]:
    """Errors of this plan begin with its name."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{named.name}: {error}", code=error.code, file=error.file) from None


def _there(job: _Job, *, replace: bool) -> bool:
    if not job.file.exists():
        return False
    try:
        record = record_of(job.file)
    except CounterpoiseError:
        if replace:
            return False
        raise
    if record is not None and record.key == job.key:
        return True
    if replace:
        return False
    raise UsageError(
        f"{job.file} is there, drawn from another plan, model or settings: name another --out, or --replace "
        "it",
        code="E_SCENE_EXISTS",
        file=str(job.file),
    )


def _groups(jobs: Sequence[_Job], way: Way) -> Iterator[list[_Job]]:
    """Jobs that are drawn together: of one canvas and one setting; alone where people have adapters."""
    alike: dict[Any, list[_Job]] = {}
    for number, job in enumerate(jobs):
        alone = number if job.adapters else -1
        key = (job.settings, job.scene.width, job.scene.height, alone)
        alike.setdefault(key, []).append(job)
    size = way.batch_size * (AT_ONCE if way.mended else 1)
    for own in alike.values():
        yield from (own[at : at + size] for at in range(0, len(own), size))


def _drawn(group: Sequence[_Job], bench: Bench) -> Iterator[tuple[_Job, np.ndarray, Record]]:
    way, first = bench.way, group[0]
    host = Host(bench.pipeline) if first.adapters else None
    painter = ScenePainter(
        bench.pipeline,
        regional(first.settings),
        guidance=way.guidance,
        steps=way.steps,
        batch_size=1 if first.adapters else way.batch_size,
        dtype=way.dtype,
        host=host,
    )
    scenes, seeds = [job.scene for job in group], [job.named.plan.render.seed for job in group]
    with ExitStack() as stack:
        mounted = {name: (adapter, strength) for name, adapter, strength in first.adapters.values()}
        for name, (adapter, strength) in mounted.items():
            assert host is not None
            stack.enter_context(host.mounted(adapter, strength=strength, name=name))
        attempts: Sequence[Attempt] = ()
        if way.mended and bench.judge is not None:
            mended = draw_and_mend(
                painter, scenes, seeds, bench.judge, size=way.side, strength=way.strength, tries=way.tries
            )
            pictures, attempts = mended.pictures, mended.attempts
            calls = mended.calls - mended.redrawing_calls
        else:
            pictures = painter(scenes, seeds)
            calls = painter.calls
    each = calls // math.ceil(len(group) / painter.batch_size)
    for s, job in enumerate(group):
        own = [one for one in attempts if one.scene == s]
        yield job, pictures[s], _record(job, own, bench, calls=each)


def _record(job: _Job, attempts: Sequence[Attempt], bench: Bench, *, calls: int) -> Record:
    people, way = job.named.plan.people, bench.way
    rounds = max((one.attempt for one in attempts), default=0)
    again = calls // way.steps * min(int(way.steps * way.strength), way.steps)  # as diffusers counts them
    return Record(
        key=job.key,
        model=bench.model,
        weights=job.weights,
        way=way,
        adapters=job.prints,
        calls=calls,
        again=rounds * again,
        tries=tuple(
            Try(
                person=people[one.person].id,
                attempt=one.attempt,
                seed=one.seed,
                asked=dict(one.asked),
                read=dict(one.read),
                kept=one.kept,
            )
            for one in attempts
        ),
    )


def _png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
