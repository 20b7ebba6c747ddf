"""The page of remedies side by side: the table of what each did and cost, before the audit that shows it.

Comes in: a `SideBySide` and its run. Goes out: report.html in the comparison's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from counterpoise.audit import read_run
from counterpoise.remedies.side_by_side import Outcome, SideBySide
from counterpoise.remedies.side_by_side.records import Tally, Timing
from counterpoise.report.charts import Bar, Drawing, bars
from counterpoise.report.data import ReportData
from counterpoise.report.from_run import facts_of, judges_of, pictures_of, targets_of
from counterpoise.report.lead import Section
from counterpoise.report.page import write_report
from counterpoise.report.tables import Cell, Mark, Table, figure, span
from counterpoise.report.text import NOT_MEASURED

_MARKS: dict[str, Mark] = {"repaired": "yes", "got worse": "no", "not shown": "none"}
MOST_NOTES = 3  # of a remedy
_QUALITY: dict[str, Mark] = {"acceptable": "yes", "not acceptable": "no"}
_SIGNS = {"repaired": "✓ repaired", "got worse": "✗ got worse", "not shown": "? not shown"}


def write_remedies(side: SideBySide, *, commands: Sequence[str] = (), more: Sequence[Section] = ()) -> Path:
    """Writes report.html into the comparison's folder and returns its path; `more` after its own sections."""
    with read_run(side.folder / "run") as evidence:
        data = ReportData(
            title="Remedies side by side",
            verdict=sentence(side),
            intro=_INTRO,
            lead=[_table_section(side), *_return_sections(side), *more],
            findings=side.findings.findings,
            claims=side.findings.claims,
            rates=side.findings.rates,
            disparities=side.findings.disparities,
            contrasts=side.findings.contrasts,
            reached=side.findings.reached,
            drifts=side.findings.drifts,
            coverage=side.findings.coverage,
            pictures=pictures_of(evidence),
            judges=judges_of(evidence),
            targets=targets_of(side.spec),
            facts={**side.facts, **facts_of(evidence)},
            commands=commands,
            confidence=side.spec.confidence,
            multiplicity=side.spec.multiplicity,
            stopping=side.spec.stopping,
            bar=side.spec.claims[0].tolerance,
        )
    path = side.folder / "report.html"
    write_report(data, path)
    return path


_INTRO = (
    "Every remedy was made from one goal and drawn by one audit: the same prompts, seeds and judge.",
    "A remedy counts as repaired if every prompt on which the base is shown to be biased is certified within "
    "the tolerance in wordings that no remedy saw, and nothing got worse.",
)


def sentence(side: SideBySide) -> str:
    """Who repaired, who made something worse, who showed neither; one sentence."""
    told = []
    for verdict in ("repaired", "got worse", "not shown"):
        names = [own.name for own in side.outcomes[1:] if own.verdict == verdict]
        if names:
            told.append(f"{verdict}: {', '.join(names)}")
    if side.refused:
        told.append(f"could not be made: {', '.join(side.refused)}")
    return "; ".join(told) + "."


def _table_section(side: SideBySide) -> Section:
    seeds = side.spec.seed
    notes = [
        f"{own.name}: {note}"
        for own in side.outcomes[1:]
        for note in (*own.reasons, *own.notes[:MOST_NOTES], *_more(own.notes))
    ]
    notes += [f"{name} could not be made: {why}" for name, why in side.refused.items()]
    effects = Table(
        "What each remedy did: worst distance to the target over the edited prompts (floor taken off; "
        "interval of that prompt), and findings decided the good way of those asked",
        ("remedy", "verdict", "templates seen", "held out", "on target", "explicit", "negative", "unmoved"),
        [_effects(own) for own in side.outcomes],
        notes,
    )
    costs = Table(
        "What each cost",
        (
            "remedy",
            "to make",
            "pictures judged",
            "steps trained",
            "to keep",
            "a picture",
            "folded",
            "weights back",
        ),
        [_costs(own) for own in side.outcomes[1:]],
        [
            "judged: pictures read to make it; trained: steps of gradient descent. Times a picture are "
            f"medians of alternating batches beside base; seeds from {seeds}."
        ],
    )
    return Section("The remedies", tables=[effects, costs, *_quality(side)])


def _more(notes: Sequence[str]) -> list[str]:
    over = len(notes) - MOST_NOTES
    return [f"{over} more notes are in comparison.json"] if over > 0 else []


def _quality(side: SideBySide) -> list[Table]:
    told = [(own.name, own.quality) for own in side.outcomes if own.quality is not None]
    if not told:
        return []
    names = list(dict.fromkeys(name for _, quality in told for name in quality["figures"]))
    spaces = ", ".join(dict.fromkeys(quality["space"] for _, quality in told))
    return [
        Table(
            "The pictures themselves, beside base's on the same seeds",
            ("remedy", "quality", *names),
            [
                [
                    Cell(arm, arm=arm),
                    Cell(quality["verdict"], mark=_QUALITY.get(quality["verdict"], "none")),
                    *(_figure(quality["figures"].get(name)) for name in names),
                ]
                for arm, quality in told
            ],
            [
                f"Distances in the {spaces}. following, unread: change of the share of explicit prompts "
                "obeyed and of pictures that the judge cannot read. diversity: spread within a prompt over "
                "base's. apart: energy distance to base's pictures over their own spread."
            ],
        )
    ]


def _figure(found: Mapping[str, Any] | None) -> Cell:
    if found is None:
        return Cell(NOT_MEASURED)
    limit = "" if found["limit"] is None else f", limit {found['limit']:g}"
    return Cell(f"{found['value']:.3f}", f"[{found['low']:.3f}, {found['high']:.3f}]{limit}")


def _effects(own: Outcome) -> list[Cell]:
    verdict = Cell("-") if own.changes is None else Cell(_SIGNS[own.verdict], mark=_MARKS[own.verdict])
    return [
        Cell(own.name, arm=own.name),
        verdict,
        _distance(own.trained),
        _distance(own.held_out),
        *map(_tally, (own.on_target, own.reached, own.negatives, own.unmoved)),
    ]


def _distance(found: tuple[float, float, float] | None) -> Cell:
    if found is None:
        return Cell(NOT_MEASURED)
    value, low, high = found
    return Cell(figure(value, "distance"), span(low, high, "distance"))


def _tally(found: Tally) -> Cell:
    if not found.asked:
        return Cell(NOT_MEASURED)
    return Cell(f"{found.met} of {found.asked}", f"{found.failed} failed" if found.failed else "")


def _costs(own: Outcome) -> list[Cell]:
    cost = own.cost
    back = {True: Cell("✓ byte for byte", mark="yes"), False: Cell("✗ differ", mark="no"), None: Cell("-")}
    return [
        Cell(own.name, arm=own.name),
        Cell(f"{cost.seconds:.0f} s" if cost.seconds >= 10 else f"{cost.seconds:.1f} s"),
        Cell(f"{cost.judged:,}"),
        Cell(f"{cost.trained:,}"),
        Cell(_bytes(cost.nbytes)),
        _time(own.timing),
        _time(own.folded) if own.folded else Cell("-"),
        back[own.restored],
    ]


def _time(timing: Timing | None) -> Cell:
    if timing is None:
        return Cell(NOT_MEASURED)
    ratio = f"{timing.ratio:.2f} of base [{timing.low:.2f}, {timing.high:.2f}], {timing.rounds} pairs"
    return Cell(f"{timing.arm_ms:.1f} ms", ratio)


def _bytes(count: int) -> str:
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} MB"
    return f"{count / 1e3:.0f} kB" if count else "nothing"


def _return_sections(side: SideBySide) -> list[Section]:
    return [
        Section(
            f"Does the bias come back: {name}",
            ["Each row takes the same repair and does something to it that users do; distances as above."],
            [
                Table(
                    f"{name}, put through it",
                    ("what was done", "templates seen", "held out", "on target", "explicit"),
                    [
                        [
                            Cell(_words(own.name)),
                            _distance(own.trained),
                            _distance(own.held_out),
                            _tally(own.on_target),
                            _tally(own.reached),
                        ]
                        for own in rows
                    ],
                    [f"{_words(own.name)}: {note}" for own in rows for note in own.notes]
                    + [f"{trial}: {why}" for (own, trial), why in side.not_tried.items() if own == name],
                )
            ],
            [("Worst held-out distance, with its interval.", drawing)]
            if (drawing := _returns_chart(name, rows)) is not None
            else [],
        )
        for name, rows in side.returns.items()
    ]


def _words(trial: str) -> str:
    """A trial's name, which is an arm's, as words."""
    return trial.replace("-", " ")


def _returns_chart(name: str, rows: Sequence[Outcome]) -> Drawing | None:
    told = [Bar(_words(own.name), name, *own.held_out) for own in rows if own.held_out is not None]
    if not told:
        return None
    return bars(
        told,
        arms=[name],
        axis="distance",
        label="Chart: worst held-out distance after each treatment of the repair.",
    )
