"""`counterpoise scene plan | show`: who is in a picture, where, with which words; nothing is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterpoise.cli.lines import show as show_lines
from counterpoise.cli.lines import write_text
from counterpoise.errors import UsageError

if TYPE_CHECKING:
    from counterpoise.scenes import Plan, Planned, SceneRequest
    from counterpoise.scenes.writing import Writer


def register(app: typer.Typer) -> None:
    """Add the verbs to the sub-command."""
    app.command()(plan)
    app.command()(show)


def plan(
    prompt: Annotated[
        str | None,
        typer.Argument(help='What to show, or a short form: "5 women basketball team | hair: mixed".'),
    ] = None,
    people: Annotated[int | None, typer.Option(help="How many people; else the prompt's own number.")] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(help='Shares of an attribute: "skin: dark 2/5, tan 40 %, light 0.2", or counts.'),
    ] = None,
    profile: Annotated[str, typer.Option(help="The canvas: world, sd15, sdxl, sd3 or flux.")] = "sdxl",
    seed: Annotated[int, typer.Option(help="Of the layout and of ties; picture i has seed + i.")] = 0,
    pictures: Annotated[int, typer.Option(help="How many pictures; --out and --svg are then folders.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the plan here (JSON).")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw its boxes here (SVG).")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Go on from this file's counts, and keep them there for next time.")
    ] = None,
    at_least_one: Annotated[
        bool, typer.Option("--at-least-one", help="Every picture is to show every value.")
    ] = False,
    words: Annotated[
        Path | None, typer.Option(help="Your own words, attributes and vague words (TOML), over the shipped.")
    ] = None,
    llm: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible endpoint that finds the words.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The endpoint's model.")] = None,
    local_llm: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A language model on this machine that finds them.")
    ] = None,
    insist: Annotated[
        bool,
        typer.Option("--insist", help="Plan although the prompt seems to name people or a historical scene."),
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the plan's JSON schema and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Plan a picture of several people in exact proportions: values, places and boxes by code, words at
    the end.
    """
    from counterpoise import scenes

    if schema:
        show_lines([json.dumps(scenes.schema(), indent=2)])
        return
    if prompt is None:
        raise UsageError(
            'no prompt: counterpoise scene plan "a basketball team" --people 5', code="E_SCENE_PROMPT"
        )
    vocabulary = scenes.load_vocabulary(scenes.profile_named(profile).vocabulary, over=words)
    request = scenes.scene_request(
        prompt,
        people=people,
        shares=share or (),
        profile=profile,
        vocabulary=vocabulary,
        each=at_least_one,
        seed=seed,
        insist=insist,
    )
    writer = _writer(llm, model, local_llm)
    before = scenes.load_state(state, request.units, request.roles) if state else None
    planned = scenes.plan_many(request, pictures, state=before, writer=writer)
    _write(planned, out, svg)
    # After the plans: a kill between the two leaves plans that the same command makes again, not a gap.
    if state is not None and before is not None:
        scenes.save_state(state, planned.state, before=before)
    if as_json:
        show_lines([json.dumps(_content(planned, request), ensure_ascii=True, allow_nan=False)])
    else:
        show_lines(_lines(planned, request))


def show(
    path: Annotated[Path, typer.Argument(help="A plan (JSON), or a picture (PNG) that carries one.")],
    svg: Annotated[Path | None, typer.Option(help="Also draw its boxes here (SVG).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The plan as JSON on stdout.")] = False,
) -> None:
    """Check a plan and show it; exit 2 with what is wrong where it was edited, 4 for a picture without a
    plan.
    """
    from counterpoise import scenes
    from counterpoise.scenes.drawn import plan_svg

    found = scenes.load_plan(path)
    if svg is not None:
        write_text(svg, plan_svg(found))
    show_lines([json.dumps(found.model_dump(mode="json"))] if as_json else _plan_lines(found))


def _writer(llm: str | None, model: str | None, local_llm: Path | None) -> Writer | None:
    from counterpoise import scenes

    if llm is not None and local_llm is not None:
        raise UsageError("--llm and --local-llm both find words: give one of them", code="E_SCENE_LLM")
    if local_llm is not None:
        return scenes.local_model(local_llm)
    if llm is not None:
        return scenes.endpoint(llm, model or "")
    if model is not None:
        raise UsageError("--model names an endpoint's model: give --llm too", code="E_SCENE_LLM")
    return None


def _write(planned: Planned, out: Path | None, svg: Path | None) -> None:
    from counterpoise.scenes import save_plan
    from counterpoise.scenes.drawn import plan_svg

    several = len(planned.plans) > 1
    for number, each in enumerate(planned.plans):
        if out is not None:
            save_plan(out / f"plan-{number:05d}.json" if several else out, each)
        if svg is not None:
            write_text(svg / f"plan-{number:05d}.svg" if several else svg, plan_svg(each))


def _lines(planned: Planned, request: SceneRequest) -> list[str]:
    from counterpoise.scenes import position_table
    from counterpoise.scenes.balance import table_lines

    lines = [f"note: {note}" for note in planned.notes]
    lines += [
        f"note: plan {i}: words are templates', since {each.provenance.fallback}"
        for i, each in enumerate(planned.plans)
        if each.provenance.fallback
    ]
    if len(planned.plans) == 1:
        return _visible([*lines, *_plan_lines(planned.plans[0], notes=False)])
    lines.append(
        f"{len(planned.plans)} plans of {request.people} people; furthest from any share in a prefix: "
    )
    lines[-1] += f"{planned.plans[-1].allocation.max_deviation} people"
    for axis in planned.plans[0].allocation.counts:
        groups, places, counts = position_table(planned.plans, axis)
        lines += ["", *table_lines(axis, groups, places, counts)]
    return _visible(lines)


def _plan_lines(plan: Plan, *, notes: bool = True) -> list[str]:
    from counterpoise.scenes import short_form
    from counterpoise.scenes.drawn import plan_text

    lines = [f"note: {note}" for note in plan.notes] if notes else []
    width, height = plan.canvas.width, plan.canvas.height
    lines += [
        short_form(plan),
        f"scene: {plan.scene.prompt}  ({width} x {height} px, seed {plan.render.seed})",
    ]
    return _visible([*lines, *plan_text(plan)])


def _visible(lines: list[str]) -> list[str]:
    """User text with what cannot be seen written out: a prompt may hold escape sequences."""
    return [
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line) for line in lines
    ]


def _content(planned: Planned, request: SceneRequest) -> dict[str, Any]:
    from counterpoise.scenes import position_table

    positions = {}
    for axis in planned.plans[0].allocation.counts:
        groups, places, counts = position_table(planned.plans, axis)
        positions[axis] = {"groups": groups, "places": places, "counts": counts}
    return {
        "people": request.people,
        "pictures": len(planned.plans),
        "notes": list(planned.notes),
        "positions": positions,
        "plans": [each.model_dump(mode="json") for each in planned.plans],
    }
