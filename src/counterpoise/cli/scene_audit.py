"""`counterpoise scene audit`: drawn scenes read box by box and held against their plans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli import console
from counterpoise.cli.judged import judge_names, judge_of
from counterpoise.cli.lines import show
from counterpoise.cli.scene_draw import (
    SHEET,
    AsJson,
    BatchSize,
    Device,
    Dtype,
    Guidance,
    Judge,
    Model,
    Repair,
    Replace,
    Steps,
    drawing_of,
    drawn_with,
    side_of,
)
from counterpoise.cli.scene_sources import files_of, loaded
from counterpoise.world import MODEL_NAME, SCENES_NAME

if TYPE_CHECKING:
    from counterpoise.measure.reading import Measurer
    from counterpoise.scenes.auditing.audit import Audit
    from counterpoise.scenes.auditing.figures import Figure
    from counterpoise.scenes.auditing.seen import Seen
    from counterpoise.scenes.plan import Plan

RESULTS, PAGE, PICTURES = "audit.json", "report.html", "pictures"
AT_ONCE = 64  # pictures in memory


def register(app: typer.Typer) -> None:
    """Add the verb to the sub-command."""
    app.command()(audit)


def audit(
    scenes: Annotated[
        list[str],
        typer.Argument(help="Pictures (PNG) that carry their plan, plans (JSON) to draw first, or folders."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for audit.json, report.html and contact sheet.")],
    model: Model = SCENES_NAME,
    judge: Judge = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help='A disparity to look for: "exposure=revealing by skin"; the world has this one.'),
    ] = None,
    time: Annotated[
        bool, typer.Option("--time", help="Also time the model's scenes beside its plain pictures.")
    ] = False,
    correct: Annotated[
        float | None, typer.Option(min=0, max=1, help="Bar: boxes all right, at least.")
    ] = None,
    leak: Annotated[float | None, typer.Option(min=0, max=1, help="Bar: leak above chance, at most.")] = None,
    count: Annotated[float | None, typer.Option(min=0, max=1, help="Bar: right count, at least.")] = None,
    distance: Annotated[
        float | None, typer.Option(min=0, max=1, help="Bar: shares as read from those planned, at most.")
    ] = None,
    disparity: Annotated[
        float | None, typer.Option(min=1, help="Bar: highest over lowest group's rate, at most.")
    ] = None,
    deviation: Annotated[
        float | None, typer.Option(min=0, help="Bar: people from the target in any prefix, at most.")
    ] = None,
    slower: Annotated[
        float | None, typer.Option(min=0, help="Bar: time over a plain picture's, at most (with --time).")
    ] = None,
    repair: Repair = None,
    guidance: Guidance = None,
    steps: Steps = None,
    batch_size: BatchSize = 8,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Read every box of drawn scenes and compare it with the plan; plans (JSON) are drawn first.

    Exit 0: every bar passed, or none was set. 1: one failed. 3: one is not decided by these pictures.
    """
    limits = {
        "correct": correct,
        "leak": leak,
        "count": count,
        "distance": distance,
        "disparity": disparity,
        "deviation": deviation,
        "time": slower,
    }
    files = files_of(scenes, prefer=".png")
    names = judge_names(model, judge or ())
    drawing = drawing_of(model, guidance, steps) | {"batch_size": batch_size, "dtype": dtype}
    found, pictures = audited(
        files,
        out,
        model=model,
        names=names,
        rates=rate or (),
        timing=time or slower is not None,
        limits={name: limit for name, limit in limits.items() if limit is not None},
        drawing=drawing,
        repair=repair is not False,
        device=device,
        replace=replace,
    )
    page = written(found, pictures, out)
    if as_json:
        show([json.dumps(found.to_dict(), sort_keys=True, allow_nan=False)])
    else:
        show([*lines_of(found), f"report {page.resolve()}"])
    raise typer.Exit(found.exit_code)


def audited(
    files: Sequence[Path],
    out: Path,
    *,
    model: str,
    names: Sequence[str],
    rates: Sequence[str],
    timing: bool,
    limits: Mapping[str, float],
    drawing: dict[str, Any],
    repair: bool,
    device: str,
    replace: bool,
) -> tuple[Audit, list[Path]]:
    """Draws plans, reads all pictures, and measures."""
    from counterpoise.scenes.plan_files import is_png

    sources = loaded(files)  # all are checked before anything is drawn, and before torch is there
    from counterpoise.scenes.auditing.disparities import rate_of

    reader = judge_of(names)
    asked = list(rates) or (["exposure=revealing by skin"] if MODEL_NAME in names else [])
    wanted = [rate_of(text, dict(reader.attributes)) for text in asked]
    waiting = [named for named, path in zip(sources, files, strict=True) if not is_png(path)]
    if waiting:
        drawn, _ = drawn_with(
            waiting,
            model=model,
            judges=names if repair else (),
            out=out / PICTURES,
            drawing=drawing,
            device=device,
            replace=replace,
            measurer=reader,
        )
        fresh = iter(drawn.files)
        files = [path if is_png(path) else next(fresh) for path in files]
    from counterpoise.scenes.auditing.audit import audit_scenes
    from counterpoise.scenes.records import record_of

    plans = [named.plan for named in sources]
    seen = _seen(files, plans, reader, side=side_of(names))
    timed = _timed(plans, model, drawing, device) if timing else ()
    records = [record_of(path) for path in files]
    found = audit_scenes(seen, reader, rates=wanted, records=records, timed=timed, bars=limits)
    return found, list(files)


def _seen(files: Sequence[Path], plans: Sequence[Plan], reader: Measurer, *, side: int) -> list[Seen]:
    from counterpoise.measure.pictures import load_picture
    from counterpoise.scenes.auditing.seen import read_boxes

    names = [path.name for path in files]
    unique = [name if names.count(name) == 1 else str(path) for name, path in zip(names, files, strict=True)]
    found: list[Seen] = []
    for start in range(0, len(files), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        pixels = [load_picture(path).pixels for path in files[part]]
        _sizes_fit(files[part], pixels, plans[part])
        found += read_boxes(pixels, plans[part], reader, side=side, names=unique[part])
    return found


def written(found: Audit, pictures: Sequence[Path], out: Path) -> Path:
    """audit.json, sheet.png and report.html; the page's path."""
    from counterpoise.files import write_atomic
    from counterpoise.report.scenes import sheet_of, write_scenes

    text = json.dumps(found.to_dict(), indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomic(out / RESULTS, [text.encode()])
    sheet_of(pictures).save(out / SHEET)
    return write_scenes(found, pictures, out / PAGE)


def lines_of(found: Audit) -> list[str]:
    """Every figure on a line, then the bars."""
    lines = [f"{len(found.seen)} pictures, read by {found.judge}"]
    for each in found.figures:
        name = f"{each.kind} {each.of}".strip()
        lines.append(f"{name:<44} {shown(each)}")
    for table in found.places:
        lines.append(
            f"{'places of ' + table.axis:<44} chi-square {table.statistic:.2f}, {table.expected:.2f} by lot, "
            f"p = {table.p:.3f}"
        )
    lines += [f"note: {note}" for note in found.notes]
    for decision in found.decisions:
        name = f"{decision.bar} {decision.of}".strip()
        lines.append(f"{decision.answer:<12} {name}, bar {decision.limit:g}")
    return lines


def shown(figure: Figure) -> str:
    """A figure with its interval, n and method, or why there is none."""
    e = figure.estimate
    if e is None:
        return f"not measured: {figure.note}"
    note = f"; {figure.note}" if figure.note else ""
    return f"{e.value:.4f} [{e.low:.4f}, {e.high:.4f}]  n = {e.n}, {e.method}{note}"


def _timed(plans: Sequence[Plan], model: str, drawing: dict[str, Any], device: str) -> list[Figure]:
    from counterpoise.diffusion.load import load_pipeline
    from counterpoise.scenes.auditing.timing import time_figures
    from counterpoise.scenes.rendering import regional_of, scene_of
    from counterpoise.scenes.sampler.drawing import ScenePainter
    from counterpoise.scenes.sampler.hold import regional
    from counterpoise.world import model_folder

    pipeline = load_pipeline(model_folder(model), device=device)
    shapes: dict[tuple[int, int, int], Plan] = {}
    for plan in plans:
        shapes.setdefault((len(plan.people), plan.canvas.width, plan.canvas.height), plan)
    figures = []
    with console.bars() as bars:
        for i, ((people, _, _), plan) in enumerate(sorted(shapes.items(), key=lambda item: item[0])):
            painter = ScenePainter(pipeline, regional(regional_of(plan)), **drawing)
            figures += time_figures(painter, [scene_of(plan)], of=f"{people} people")
            bars("timing", i + 1, len(shapes))
    return figures


def _sizes_fit(files: Sequence[Path], pixels: Sequence[Any], plans: Sequence[Plan]) -> None:
    from counterpoise.errors import RefusedInputError

    for path, picture, plan in zip(files, pixels, plans, strict=True):
        height, width = picture.shape[:2]
        if (width, height) != (plan.canvas.width, plan.canvas.height):
            raise RefusedInputError(
                f"{path}: {width} x {height} pixels, but its plan's canvas has {plan.canvas.width} x "
                f"{plan.canvas.height}: it was scaled or cropped, so that boxes lie elsewhere; audit the "
                "picture as it was drawn",
                code="E_SCENE_SIZE",
                file=str(path),
            )
