"""Prompts that leave open what an edit is about and lie elsewhere: between them noise decides.

Of five tones no weighted mean of explicit prompts draws five: halfway from pale to dark lies tan. But half of
"a woman", drawn light, and half of "a female cleaner", drawn dark, leaves the tone as open as either did, and
draws all five. To first order such a mean pools what each draws: log p = sum_i w_i log p_i, normalised.

Comes in: an edit, what the frozen model draws of its neutral phrase and of others. Goes out: the phrases to
borrow from, with the weights at which the pooled shares are nearest to the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import LinearConstraint, minimize
from scipy.special import softmax

from counterpoise.files import remembered
from counterpoise.measure.reading import Reading
from counterpoise.remedies.directions import cells, class_of, target
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.phrases import lexicon, words_of
from counterpoise.remedies.treatment import Bench

Rows = Sequence[Mapping[str, Reading]]
"""What was read of one phrase's pictures."""

DONOR_SEED = 5_500_000
MOST = 3  # donors of an edit
SEEN = 0.5  # added to every count before logarithms are taken
ALIKE = 0.3  # total variation at most in whatever else the goal's edits are about
DEAR = 0.1  # what a donor's full weight costs, for each unit of that, beside a squared Hellinger distance
SLIGHT = 0.05  # weights below this are not worth a donor


class Donor(NamedTuple):
    """A phrase, the weight to begin with, and the log odds [cells] of what it draws over what the edit's
    neutral phrase does."""

    phrase: str
    weight: float
    lean: tuple[float, ...]


def lenders(bench: Bench, goal: Goal, *, readings: int) -> tuple[list[tuple[Donor, ...]], int]:
    """The donors of each edit, by `readings` pictures of each phrase that the frozen model draws, and how
    many were read. None with 0 readings; what was read is kept in bench.work. The goal's last template is
    never drawn, where it has others."""
    phrases, by_edit = asked(bench, goal)
    if not readings or not phrases:
        return [()] * len(goal.edits), 0
    templates = goal.templates[:-1] or goal.templates

    def read() -> list[dict[str, str | None]]:
        # All phrases on the same seeds, so that they differ by their words alone.
        prompts = [
            templates[k % len(templates)].format(phrase) for phrase in phrases for k in range(readings)
        ]
        seeds = [*range(DONOR_SEED, DONOR_SEED + readings)] * len(phrases)
        rows = bench.measurer(bench.painter(prompts, seeds))
        bench.progress("priors", len(phrases), len(phrases), float("nan"))
        return [{name: one.value for name, one in row.items()} for row in rows]

    rows = [
        {name: Reading(value, 1.0) for name, value in row.items()}
        for row in remembered(bench.work / "priors.json", read)
    ]
    told = {phrase: rows[i * readings : (i + 1) * readings] for i, phrase in enumerate(phrases)}
    lent = [
        donors(goal, edit, told[edit.neutral], {phrase: told[phrase] for phrase in own}) if own else ()
        for edit, own in zip(goal.edits, by_edit, strict=True)
    ]
    return lent, len(rows)


def asked(bench: Bench, goal: Goal) -> tuple[list[str], list[tuple[str, ...]]]:
    """All phrases to be read, and each edit's candidates among them."""
    by_edit = [candidates(goal, edit, bench.measurer.attributes) for edit in goal.edits]
    neutrals = [edit.neutral for edit, own in zip(goal.edits, by_edit, strict=True) if own]
    return list(dict.fromkeys([*neutrals, *(phrase for own in by_edit for phrase in own)])), by_edit


def candidates(goal: Goal, edit: Edit, values: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The goal's phrases, to keep or neutral, that say nothing of what the edit's variants say.

    values: the judge's, by attribute. None for an edit of two cells, whose explicit prompts' mean is drawn as
    now one and now the other.
    """
    if len(cells(edit)) < 3:
        return ()
    said = lexicon(edit, values, also={})
    phrases = dict.fromkeys([*goal.keep, *(other.neutral for other in goal.edits)])
    return tuple(
        phrase
        for phrase in phrases
        if phrase != edit.neutral
        and not any(f" {word} " in f" {' '.join(words_of(phrase))} " for word in said)
    )


def donors(goal: Goal, edit: Edit, own: Rows, others: Mapping[str, Rows]) -> tuple[Donor, ...]:
    """At most MOST of `others` to borrow from, none where that brings the edit no nearer to its target.

    own: of the neutral phrase; others: phrase -> what was read of it, as many pictures.
    """
    here = _logs(edit, own)
    besides = {name for each in goal.edits for name in each.attributes} - set(edit.attributes)
    odd = {
        phrase: max((_apart(own, rows, name) for name in besides), default=0.0)
        for phrase, rows in others.items()
    }
    kept = [phrase for phrase in others if odd[phrase] <= ALIKE]
    goal_shares = np.sqrt(np.array(target(edit)))

    def pooled(phrases: Sequence[str]) -> tuple[np.ndarray, float]:
        """Weights of the phrases, and how far the pool is from the target."""
        leans = np.array([_logs(edit, others[phrase]) - here for phrase in phrases])
        price = DEAR * np.array([odd[phrase] for phrase in phrases])

        def loss(weights: np.ndarray) -> float:
            shares = softmax(here + weights @ leans)
            return float(np.square(np.sqrt(shares) - goal_shares).sum() + price @ weights)

        bounds = [(0.0, 1.0)] * len(phrases)
        room = LinearConstraint(np.ones((1, len(phrases))), ub=1.0)
        start = np.full(len(phrases), 1.0 / (len(phrases) + 1))
        found = minimize(loss, start, bounds=bounds, constraints=[room], method="SLSQP")
        return found.x, float(found.fun)

    if not kept:
        return ()
    weights, _ = pooled(kept)
    best = [kept[k] for k in np.argsort(-weights)[:MOST] if weights[k] >= SLIGHT]
    alone = float(np.square(np.exp(here / 2) - goal_shares).sum())
    if not best or (last := pooled(best))[1] >= alone:
        return ()
    return tuple(
        Donor(phrase, float(weight), tuple((_logs(edit, others[phrase]) - here).tolist()))
        for phrase, weight in zip(best, last[0], strict=True)
    )


def _logs(edit: Edit, rows: Rows) -> np.ndarray:
    """log shares [cells] of what was read as one of the edit's cells."""
    classes = [k for k in (class_of(edit, row) for row in rows) if k >= 0]
    counts = np.bincount(classes, minlength=len(cells(edit))) + SEEN
    return np.asarray(np.log(counts / counts.sum()))


def _apart(one: Rows, other: Rows, attribute: str) -> float:
    """Total variation between two phrases' readings of an attribute."""
    values = {row[attribute].value for row in (*one, *other)}
    shares = [
        [sum(row[attribute].value == v for row in rows) / len(rows) for v in values] for rows in (one, other)
    ]
    return 0.5 * sum(abs(a - b) for a, b in zip(*shares, strict=True))
