"""Behind `counterpoise compare MODEL --goal`: makes the remedies, draws them, writes page and results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from counterpoise.audit import load_spec
from counterpoise.audit.arms import Ways
from counterpoise.audit.comparing.compare import Answer
from counterpoise.audit.spec import Drawing
from counterpoise.cli import console
from counterpoise.cli.judged import judge_names, judge_of
from counterpoise.cli.lines import show
from counterpoise.diffusion.load import load_pipeline
from counterpoise.errors import UsageError
from counterpoise.files import write_whole
from counterpoise.lora import Host
from counterpoise.remedies import table
from counterpoise.remedies.captioned import captioned_pairs
from counterpoise.remedies.contradictions import contradictions
from counterpoise.remedies.goal import load_goal
from counterpoise.remedies.own import fitting
from counterpoise.remedies.questions import LEAST, questions_of, usual
from counterpoise.remedies.repair import check_goal
from counterpoise.remedies.resurfacing import Company
from counterpoise.remedies.side_by_side import Outcome, SideBySide, side_by_side
from counterpoise.remedies.side_by_side.run import Contest
from counterpoise.report.remedies import sentence, write_remedies
from counterpoise.report.stack import read_stack, stack_section
from counterpoise.world import model_folder


@final
@dataclass(frozen=True, slots=True)
class Own:
    """A user's files to put a repair through: a style, other adapters, a folder of captioned pictures."""

    style: Path | None = None
    beside: tuple[Path, ...] = ()
    pictures: Path | None = None


def compare_remedies(
    model: str,
    goal_file: Path,
    *,
    names: Sequence[str],
    trials: Sequence[str],
    own: Own,
    ask: Path | None,
    stack: Path | None,
    out: Path,
    n: int,
    judges: Sequence[str],
    drawing: Drawing,
    device: str,
    dtype: str,
    as_json: bool,
) -> None:
    """Prepare, draw, judge, show; goes on where it was interrupted."""
    goal = load_goal(goal_file)
    contradictions(goal)
    also = load_spec(ask) if ask is not None else None
    more = [stack_section(read_stack(stack))] if stack is not None else []
    chosen = list(names) or default_names(drawing)
    for name in chosen:
        table.names_of(name)  # a wrong name is refused before anything is loaded
    if strange := [name for name in trials if name not in chosen]:
        raise UsageError(
            f"--trial {strange[0]!r:.80} is not one of the remedies compared ({', '.join(chosen)}); add it "
            "with --remedy",
            code="E_REMEDY",
        )
    readers = judge_names(model, judges)
    judge = judge_of(readers)
    check_goal(goal, judge)
    spec = questions_of(
        goal,
        judges=readers,
        attributes=judge.attributes,
        drawing=drawing,
        extent=usual(n),
        also=also,
    )
    host = Host(load_pipeline(model_folder(model), device=device))
    with console.bars() as bars:
        contest = Contest(
            Ways(host, drawing, model=model, dtype=dtype),
            judge,
            goal,
            spec,
            out,
            looks=max(LEAST, n // 8),
            returns=tuple(dict.fromkeys(trials)),
            company=_company(host, own),
            facts={"goal": goal_file.name},
            progress=bars,
        )
        side = side_by_side(contest, chosen)
    command = f"counterpoise compare {model} --goal {goal_file.name}"
    page = write_remedies(side, commands=[command], more=more)
    told = told_of(side)
    write_whole(out / "comparison.json", json.dumps(told, indent=1, sort_keys=True) + "\n")
    if as_json:
        console.write_json(json.dumps(told, sort_keys=True))
        return
    show([*(line_of(own) for own in side.outcomes), sentence(side), f"report {page.resolve()}"])


def _company(host: Host, own: Own) -> Company:
    """The user's files loaded, each held against the model; refused before anything is drawn."""
    style = fitting(host, own.style, 1.0)[0] if own.style else None
    if own.pictures is not None:
        captioned_pairs(own.pictures)
    beside = tuple(fitting(host, path, 1.0)[0] for path in own.beside)
    return Company(style=style, others=beside, pictures=own.pictures)


def default_names(drawing: Drawing) -> list[str]:
    """Every remedy that takes minutes; those that act through guidance only where there is some. Retraining
    and suppression are compared where they are named."""
    usual = (row for row in table.ROWS if not row.data and row.name != "suppress")
    return [row.name for row in usual if drawing.guidance > 1 or not row.guided]


def line_of(own: Outcome) -> str:
    """One remedy on one line: verdict, distances, findings decided the good way, cost."""
    seen, held = (
        f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]" if found else "not measured"
        for found in (own.trained, own.held_out)
    )
    verdict = "" if own.changes is None else own.verdict
    counts = ", ".join(
        f"{found.met}/{found.asked} {what}"
        for what, found in (
            ("on target", own.on_target),
            ("reached", own.reached),
            ("negatives", own.negatives),
            ("unmoved", own.unmoved),
        )
        if found.asked
    )
    time = f", {own.timing.ratio:.2f} x base's time" if own.timing else ""
    return (
        f"{own.name:<16} {verdict:<10} worst distance seen {seen}, held out {held}; {counts}; "
        f"{own.cost.seconds:.0f} s to make{time}"
    )


def told_of(side: SideBySide) -> dict[str, object]:
    """The comparison as JSON values: each outcome without the rows of its changes, which its run holds."""
    return {
        "outcomes": [_row(own) for own in side.outcomes],
        "returns": {name: [_row(own) for own in rows] for name, rows in side.returns.items()},
        "not_tried": [[*names, why] for names, why in side.not_tried.items()],
        "refused": dict(side.refused),
        "facts": dict(side.facts),
        "verdict": sentence(side),
    }


def _row(own: Outcome) -> dict[str, object]:
    answers: tuple[Answer, ...] = ("improved", "got worse", "not shown")
    changes = None if own.changes is None else {answer: own.changes.count(answer) for answer in answers}
    return {**asdict(replace(own, changes=None)), "changes": changes}
