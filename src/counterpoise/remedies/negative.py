"""A negative prompt as a remedy: guidance leads away from what a model draws too often.

Comes in: a bench, a goal, maybe the words. Goes out: a negative prompt with the strength at which it serves
the goal best, and its dose-response: strength against the rate of what it is to lower, and against quality.
It acts through classifier-free guidance alone, and on every prompt of the arm alike.

The strength is a place on the line between two embeddings (`Painter.negative_embedding`): 0 draws as
without, 1 as a stock pipeline draws with the negative prompt, and each costs guidance's two UNet calls a
step. A branch of its own, e0 + w (ec - e0) - s (en - e0), the negation of arXiv:2206.01714, would cost three;
it is the stock negative prompt at s = w - 1, and to first order in the embeddings this line at s / (w - 1).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import numpy as np

from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.files import remembered
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.phrases import told_apart, without_ends
from counterpoise.remedies.treatment import Bench, Cost, Effort, Prepared, Treatment
from counterpoise.stats.estimate import Estimate
from counterpoise.stats.proportions import clopper_pearson

SEED = 6_000_000
PUSHES = (0.0, 0.5, 1.0, 1.5, 2.0)
NEUTRAL, EXPLICIT = 60, 6  # pictures an edit, and a variant's own prompt, at each strength
LOST = 0.05  # of what was obeyed and readable, at most, for a strength to be chosen


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """How often neutral pictures of an edit show the value that it has too much of; target: its share."""

    neutral: str
    attribute: str
    value: str
    target: float
    rate: Estimate


@final
@dataclass(frozen=True, slots=True)
class Dose:
    """What a negative prompt does at a strength. distance: the mean over edits of the total variation to
    their targets. obeyed: of the variants' own prompts. readable: pictures of which the judge could say
    something. moved: mean absolute difference of colour values to strength 0 on the same seeds, in [0, 1]."""

    negative: str
    push: float
    rates: tuple[Rate, ...]
    distance: float
    obeyed: Estimate
    readable: Estimate
    moved: float


def why_idle(painter: Painter) -> str:
    """Why a negative prompt cannot act on this painter's pictures; "" where it can."""
    config = getattr(painter.pipeline.unet, "config", None)
    if getattr(config, "time_cond_proj_dim", None) is not None:
        return (
            "the model is distilled for guidance: it takes the scale as an input and has no negative branch"
        )
    if painter.guidance <= 1:
        return f"guidance is {painter.guidance:g}, and without guidance (above 1) there is no negative branch"
    return ""


def require_guidance(painter: Painter) -> None:
    """UsageError E_GUIDANCE where a negative prompt was asked for and cannot act."""
    reason = why_idle(painter)
    if reason:
        raise UsageError(
            f"a negative prompt cannot act here: {reason}; draw with guidance (--guidance 2), or choose "
            "another method",
            code="E_GUIDANCE",
        )


def effort(bench: Bench, goal: Goal) -> Effort:
    """Two wordings' pictures at every strength, and those of strength 0 again beside each."""
    return Effort(drawn=(4 * (len(PUSHES) - 1) + 1) * _pictures(bench, goal))


def prepare(bench: Bench, goal: Goal, *, words: str = "", push: float | None = None) -> Prepared:
    """The negative prompt that serves the goal best; an empty treatment with a note where none can.

    words: instead of the over-represented variants' own, which are tried by themselves ("male") and as
    prompts ("a picture of a male boss"): a model follows what it was trained on. push: instead of the
    strengths tried. Trained templates and variants' prompts decide among them (`chosen`).
    """
    started = time.monotonic()
    reason = why_idle(bench.painter)
    if reason:
        return Prepared(Treatment(), notes=(f"no negative prompt: {reason}",))
    doses = [_dose(bench, goal, "", 0.0)]
    notes: list[str] = []
    wordings = [words] if words else []
    if not words:
        wordings, notes = _wordings(goal, doses[0])
    for wording in wordings:
        doses += [_dose(bench, goal, wording, at) for at in ([push] if push else PUSHES[1:])]
    best = doses[-1] if words and push else chosen(doses)
    kept = len(best.negative.encode())
    cost = Cost(time.monotonic() - started, judged=len(doses) * _pictures(bench, goal), nbytes=kept)
    notes += [line(dose) for dose in doses]
    told: dict[str, Any] = {
        "negative": best.negative,
        "push": best.push,
        "doses": [asdict(dose) for dose in doses],
    }
    if not best.negative:
        notes.append("no strength brought the goal nearer without losing what prompts ask for")
        return Prepared(Treatment(), cost, tuple(notes), told)
    notes.append(
        f"negative prompt {best.negative!r} at {best.push:g} times its usual strength, two UNet calls a step"
    )
    return Prepared(Treatment(negative=best.negative, push=best.push), cost, tuple(notes), told)


def chosen(doses: Sequence[Dose]) -> Dose:
    """The dose nearest to the goal among those that lose at most LOST of what was obeyed and readable at the
    first, which is none."""
    plain = doses[0]
    kept = [
        dose
        for dose in doses
        if dose.obeyed.value >= plain.obeyed.value - LOST
        and dose.readable.value >= plain.readable.value - LOST
    ]
    return min(kept, key=lambda dose: (dose.distance, dose.push))


def line(dose: Dose) -> str:
    """A dose in words."""
    rates = "; ".join(
        f"{rate.neutral}: {rate.value} {rate.rate.value:.2f} [{rate.rate.low:.2f}, {rate.rate.high:.2f}] "
        f"of {rate.target:.2f}"
        for rate in dose.rates
    )
    return (
        f"{dose.negative!r} at strength {dose.push:g}: distance {dose.distance:.3f}, obeyed "
        f"{dose.obeyed.value:.2f}, readable {dose.readable.value:.2f}, moved {dose.moved:.3f}; {rates}"
    )


def _wordings(goal: Goal, plain: Dose) -> tuple[list[str], list[str]]:
    """(the over-represented values by their words, and as prompts; notes on where one prompt would need the
    opposite of another). None where nothing is over-represented."""
    parts, prompts, notes = [], [], []
    too_much = [
        (edit, rate)
        for edit, rate in zip(_edits(goal), plain.rates, strict=True)
        if rate.rate.low > rate.target
    ]
    for (edit, _), rate in too_much:
        parts.append(value_phrase(edit, rate.attribute, rate.value))
        mine = [own for own in edit.variants if edit.cell(own)[rate.attribute] == rate.value]
        prompts += [goal.templates[0].format(max(mine, key=lambda own: own.share).phrase)] if mine else []
        for (other, attribute), its in zip(_edits(goal), plain.rates, strict=True):
            wanted = other.target(attribute).get(rate.value, 0.0) if attribute == rate.attribute else 0.0
            if wanted and its.value != rate.value:
                notes.append(
                    f"{rate.neutral!r} has too much {rate.value} and {its.neutral!r} does not: one negative "
                    "prompt acts on both"
                )
    if not parts:
        notes.append(f"nothing was shown to be drawn too often, {plain.rates[0].rate.n} pictures an edit")
    wordings = [", ".join(dict.fromkeys(said)) for said in (parts, prompts)]
    return list(dict.fromkeys(text for text in wordings if text)), notes


def value_phrase(edit: Edit, attribute: str, value: str) -> str:
    """What to write into a negative prompt for a value: what its phrases begin alike with beyond the neutral
    one ("tan skin"), else all that they say ("hoodie, blazer")."""
    said = [
        told_apart(edit.neutral, variant.phrase).split()
        for variant in edit.variants
        if edit.cell(variant)[attribute] == value
    ]
    alike = 0
    while all(len(words) > alike and words[alike].strip(",") == said[0][alike].strip(",") for words in said):
        alike += 1
    common = " ".join(without_ends(said[0][:alike]))
    return common.strip(" ,") or ", ".join(dict.fromkeys(" ".join(words) for words in said))


def _edits(goal: Goal) -> list[tuple[Edit, str]]:
    return [(edit, attribute) for edit in goal.edits for attribute in edit.claimed]


def _asked(bench: Bench, goal: Goal) -> Iterator[tuple[str, int, Mapping[str, str] | None, int]]:
    """(prompt, seed, what an explicit one asks for, its edit) of every picture of a dose."""
    neutral, explicit = (8, 1) if bench.fast else (NEUTRAL, EXPLICIT)
    templates = goal.templates
    for e, edit in enumerate(goal.edits):
        for i in range(neutral):
            yield templates[i % len(templates)].format(edit.neutral), SEED + i, None, e
        for v, variant in enumerate(edit.variants):
            for i in range(explicit):
                prompt = templates[(v + i) % len(templates)].format(variant.phrase)
                yield prompt, SEED + neutral + i, edit.cell(variant), e


def _pictures(bench: Bench, goal: Goal) -> int:
    return sum(1 for _ in _asked(bench, goal))


def _dose(bench: Bench, goal: Goal, words: str, push: float) -> Dose:
    """A strength's figures, measured now or before the work was interrupted."""
    asked = list(_asked(bench, goal))
    seen = _seen(bench, asked, words, push)
    rates, distances = [], []
    for edit, attribute in _edits(goal):
        mine = [
            row[attribute]
            for row, (_, _, explicit, e) in zip(seen["read"], asked, strict=True)
            if explicit is None and goal.edits[e] is edit
        ]
        target = edit.target(attribute)
        shares = {value: mine.count(value) / len(mine) for value in {*mine, *target} - {None}}
        most = max(sorted(shares), key=lambda value: shares[value] - target.get(value, 0.0))
        rate = clopper_pearson(mine.count(most), len(mine))
        rates.append(Rate(edit.neutral, attribute, most, target.get(most, 0.0), rate))
        unread = mine.count(None) / len(mine)
        apart = sum(abs(shares[value] - target.get(value, 0.0)) for value in shares)
        distances.append((apart + unread) / 2)
    wanted = [
        (row, want) for row, (_, _, want, _) in zip(seen["read"], asked, strict=True) if want is not None
    ]
    obeyed = sum(all(row[name] == value for name, value in want.items()) for row, want in wanted)
    readable = sum(any(value is not None for value in row.values()) for row in seen["read"])
    return Dose(
        words,
        push,
        tuple(rates),
        float(np.mean(distances)),
        clopper_pearson(obeyed, len(wanted)),
        clopper_pearson(readable, len(asked)),
        seen["moved"],
    )


def _seen(
    bench: Bench, asked: Sequence[tuple[str, int, Mapping[str, str] | None, int]], words: str, push: float
) -> dict[str, Any]:
    """read: a row of attribute -> value (or None) a picture; moved: as `Dose.moved`."""
    named = hashlib.sha256(f"{push!r} {words}".encode("utf-8", "backslashreplace")).hexdigest()[:12]
    return remembered(bench.work / f"dose-{named}.json", lambda: _drawn(bench, asked, words, push))


def _drawn(
    bench: Bench, asked: Sequence[tuple[str, int, Mapping[str, str] | None, int]], words: str, push: float
) -> dict[str, Any]:
    plain = replace(bench.painter, _embeddings={})
    pushed = replace(plain, pushed=words, push=push, _embeddings={})
    read: list[dict[str, str | None]] = []
    moved = 0.0
    for start in range(0, len(asked), plain.batch_size):
        rows = asked[start : start + plain.batch_size]
        prompts, seeds = [row[0] for row in rows], [row[1] for row in rows]
        pictures = pushed(prompts, seeds)
        if words and push:
            moved += float(
                np.abs(pictures.astype(np.int16) - plain(prompts, seeds)).mean(axis=(1, 2, 3)).sum()
            )
        read += [{name: one.value for name, one in row.items()} for row in bench.measurer(pictures)]
        bench.progress(f"negative {push:g}", len(read), len(asked), float("nan"))
    return {"read": read, "moved": moved / 255 / len(asked)}
