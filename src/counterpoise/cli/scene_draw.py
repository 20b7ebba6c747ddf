"""`counterpoise scene draw`: plans, or a prompt planned now, become pictures that carry their plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli import console
from counterpoise.cli.judged import judge_names, judge_of
from counterpoise.cli.lines import show
from counterpoise.cli.scene_sources import files_of, is_prompt, loaded, planned
from counterpoise.errors import UsageError
from counterpoise.world import MODEL_NAME, SCENES_NAME, is_embedded, model_folder

if TYPE_CHECKING:
    from counterpoise.measure.reading import Measurer
    from counterpoise.scenes.painting import Drawn, Named
    from counterpoise.scenes.records import Way

LOG, SHEET = "attempts.json", "sheet.png"
SIDE = 224  # pixels of what a judge other than the world's reads
PROFILES = {
    "Stable Diffusion": "sd15",
    "Stable Diffusion XL": "sdxl",
    "Stable Diffusion 3": "sd3",
    "Flux": "flux",
}
CLASSES = {
    "StableDiffusionPipeline": "sd15",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
}


def register(app: typer.Typer) -> None:
    """Add the verb to the sub-command."""
    app.command()(draw)


Model = Annotated[str, typer.Option(help="'world-scenes' or a diffusers folder.")]
Judge = Annotated[
    list[str] | None, typer.Option(help="Who reads boxes (docs/judges.md); the world has its own reader.")
]
Guidance = Annotated[
    float | None, typer.Option(min=1.0, max=100.0, help="As the model will be used; else its family's usual.")
]
Steps = Annotated[
    int | None, typer.Option(min=1, max=1000, help="As the model will be used; else its family's usual.")
]
BatchSize = Annotated[int, typer.Option(min=1, max=1024, help="Pictures drawn at once.")]
Dtype = Annotated[str, typer.Option(help="float32, or bfloat16 (faster where the machine has it).")]
Device = Annotated[str, typer.Option(help="cpu, or cuda where there is one.")]
Repair = Annotated[
    bool | None,
    typer.Option(
        "--repair/--no-repair",
        help="Draw boxes that are read otherwise again, three times at most; default where somebody reads.",
    ),
]
Replace = Annotated[bool, typer.Option("--replace", help="Draw over pictures that were drawn otherwise.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def draw(
    plans: Annotated[
        list[str],
        typer.Argument(help="Plans (JSON), pictures (PNG) that carry one, folders of them; or one prompt."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for pictures, contact sheet and log.")],
    model: Model = SCENES_NAME,
    judge: Judge = None,
    repair: Repair = None,
    guidance: Guidance = None,
    steps: Steps = None,
    batch_size: BatchSize = 8,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    replace: Replace = False,
    people: Annotated[int | None, typer.Option(help="Of a prompt: how many people.")] = None,
    share: Annotated[
        list[str] | None, typer.Option(help='Of a prompt: "skin: dark 2/5, tan 40 %, light 0.2".')
    ] = None,
    pictures: Annotated[int, typer.Option(help="Of a prompt: how many pictures.")] = 1,
    seed: Annotated[int, typer.Option(help="Of a prompt: the first picture's.")] = 0,
    profile: Annotated[
        str | None, typer.Option(help="Of a prompt: world, sd15, sdxl, sd3 or flux; else as the model.")
    ] = None,
    at_least_one: Annotated[
        bool, typer.Option("--at-least-one", help="Of a prompt: every picture is to show every value.")
    ] = False,
    words: Annotated[Path | None, typer.Option(help="Of a prompt: your own words (TOML).")] = None,
    insist: Annotated[bool, typer.Option("--insist", help="Of a prompt: plan in spite of a guard.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw each person from their own prompt in their own box; goes on where it was interrupted.

    The pictures carry their plan and every attempt: `scene show` shows it, `scene audit` reads the boxes.
    """
    prompted = is_prompt(plans, people)
    if prompted:
        known = profile or profile_of(model)
        sources = planned(
            plans[0],
            people=people,
            shares=share or (),
            profile=known,
            seed=seed,
            pictures=pictures,
            each=at_least_one,
            words=words,
            insist=insist,
        )
    else:
        files = files_of(plans, prefer=".json")
        _no_stray(
            people=people,
            share=share,
            profile=profile,
            words=words,
            pictures=pictures != 1,
            seed=seed,
            at_least_one=at_least_one,
            insist=insist,
        )
        sources = loaded(files)
    names = names_of(model, judge or (), repair)
    drawn, way = drawn_with(
        sources,
        model=model,
        judges=names,
        out=out,
        drawing=drawing_of(model, guidance, steps) | {"batch_size": batch_size, "dtype": dtype},
        device=device,
        replace=replace,
    )
    told = written(drawn, sources, way, out)
    show([json.dumps(told, sort_keys=True)] if as_json else lines_of(told, out))


def names_of(model: str, judges: Sequence[str], repair: bool | None) -> tuple[str, ...]:
    """Who checks and mends: the judges named, the world's own for the world, or nobody.

    UsageError E_MEASURER where --repair has nobody to read.
    """
    if repair is False:
        return ()
    if repair is None and not judges and not is_embedded(model):
        return ()
    return judge_names(model, judges)


def drawn_with(
    sources: Sequence[Named],
    *,
    model: str,
    judges: Sequence[str],
    out: Path,
    drawing: dict[str, Any],
    device: str,
    replace: bool,
    measurer: Measurer | None = None,
) -> tuple[Drawn, Way]:
    """The plans drawn into `out`, mended where there are judges; and how."""
    from counterpoise.measure.cards import make_card
    from counterpoise.scenes.painting import Bench, draw_plans
    from counterpoise.scenes.records import Way

    reader = (measurer or judge_of(judges)) if judges else None
    said = {**drawing}
    if reader is not None:
        said |= {"mended": True, "judge": f"{reader.name} {reader.version}", "side": side_of(judges)}
    way = make_card(Way, said, where="scene draw")
    from counterpoise.diffusion.load import load_pipeline

    pipeline = load_pipeline(model_folder(model), device=device)
    with console.bars() as bars:
        bench = Bench(pipeline, model, way, reader)
        found = draw_plans(
            sources, bench, out, replace=replace, progress=lambda done, total: bars("drawing", done, total)
        )
    return found, way


def side_of(judges: Sequence[str]) -> int:
    """Pixels a side of what these judges read."""
    from counterpoise.world.drawing import SIZE

    return SIZE if MODEL_NAME in judges else SIDE


def written(drawn: Drawn, sources: Sequence[Named], way: Way, out: Path) -> dict[str, Any]:
    """Writes the contact sheet and the log of attempts, both made from the pictures; returns the log."""
    from counterpoise.files import write_atomic
    from counterpoise.report.scenes import sheet_of
    from counterpoise.scenes.records import record_of

    rows = []
    for named, file in zip(sources, drawn.files, strict=True):
        record = record_of(file)
        assert record is not None
        tries = [each.model_dump() for each in record.tries]
        rows.append({"picture": file.name, "key": record.key, "calls": record.calls, "again": record.again})
        rows[-1] |= {"people": len(named.plan.people), "tries": tries}
    told = {
        "format": "counterpoise-attempts",
        "way": way.model_dump(),
        "pictures": rows,
        "drawn_now": drawn.fresh,
    }
    sheet_of(drawn.files).save(out / SHEET)
    kept = {key: value for key, value in told.items() if key != "drawn_now"}
    write_atomic(out / LOG, [(json.dumps(kept, indent=1, sort_keys=True) + "\n").encode()])
    return told


def lines_of(told: dict[str, Any], out: Path) -> list[str]:
    """What was drawn, for a terminal."""
    rows = told["pictures"]
    lines = [f"{len(rows)} pictures in {out}, {told['drawn_now']} of them drawn now; sheet {out / SHEET}"]
    first = [each for row in rows for each in row["tries"] if each["attempt"] == 0 and each["asked"]]
    if first:
        held = [each for row in rows for each in row["tries"] if each["kept"]]
        wrong, left = _wrong(first), _wrong(held)
        again = sum(each["attempt"] > 0 for row in rows for each in row["tries"])
        lines.append(
            f"boxes read otherwise than planned: {wrong} of {len(first)} as first drawn, {left} after "
            f"{again} were drawn again; read by the judge that mended ({told['way']['judge']})"
        )
        lines.append(f"every attempt: {out / LOG}")
    return lines


def _wrong(tries: Sequence[dict[str, Any]]) -> int:
    return sum(any(each["read"][a] != v for a, v in each["asked"].items()) for each in tries)


def profile_of(model: str) -> str:
    """The canvas profile of a model, by what its folder says of itself."""
    if is_embedded(model):
        return "world"
    try:
        index = json.loads((model_folder(model) / "model_index.json").read_text("utf-8"))
        return CLASSES[index["_class_name"]]
    except (OSError, ValueError, KeyError, TypeError):  # loading it says what is wrong with it
        from counterpoise.diffusion.load import load_pipeline
        from counterpoise.scenes.sampler.families import family_of

        return PROFILES[family_of(load_pipeline(model_folder(model))).name]


def drawing_of(model: str, guidance: float | None, steps: int | None) -> dict[str, Any]:
    """Guidance and steps as given, else as the model's family is usually drawn with."""
    from counterpoise.scenes import profile_named

    if guidance is not None and steps is not None:
        return {"guidance": guidance, "steps": steps}
    usual = profile_named(profile_of(model))
    return {
        "guidance": usual.guidance if guidance is None else guidance,
        "steps": usual.steps if steps is None else steps,
    }


def _no_stray(**given: Any) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} is for a prompt, and plans were given: plan with `scene plan`",
                code="E_SCENE_PROMPT",
            )
