"""A planner for pictures of one person: it rewrites a neutral prompt into one explicit variant an image.

Comes in: a goal, prompts, seeds. Goes out: prompts to be drawn. Over a run the variants come in the goal's
exact shares: after every picture each has had its share, give or take less than one (Tijdeman's theorem, see
`stats.quota`). What the user has said is never overridden, in a prompt or in a negative prompt, and a prompt
that the goal does not know stays as it is. The model's own association no longer decides what was left
unsaid; nothing in the model changes.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from types import MappingProxyType
from typing import Literal, final

from counterpoise.errors import UsageError
from counterpoise.remedies.avoided import avoided
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.remedies.phrases import lexicon, naming, words_of
from counterpoise.remedies.treatment import Bench, Cost, Effort, Prepared, Treatment
from counterpoise.stats.quota import safe_next

Values = Mapping[str, tuple[str, ...]]
Words = Mapping[str, Mapping[str, tuple[str, ...]]]
Why = Literal["planned", "stated", "unknown", "several phrases", "all unwanted"]
_NO_WORDS: Words = MappingProxyType({})
# What may follow a phrase that is the whole of a person: punctuation, the end, or more about them.
_FOLLOWS = frozenset(
    words_of(
        "against as at before behind beside by for from holding in inside near on outside sitting smiling "
        "standing under wearing who with"
    )
)
_FINEST = 10_000  # shares are taken as fractions with denominators up to this


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """One prompt as it was asked and as it is drawn. variant: what an audit should read of it, by attribute;
    empty where it was left alone. why: "planned", or why not; word: the one that states it already."""

    asked: str
    drawn: str
    variant: Mapping[str, str] = field(default_factory=dict)
    why: Why = "planned"
    word: str = ""


@final
@dataclass(frozen=True, slots=True)
class _Found:
    """Where a prompt takes a variant's phrase: the edit, and the text before and after it."""

    edit: int = -1
    before: str = ""
    after: str = ""
    why: Why = "planned"
    word: str = ""


@final
class Planner:
    """A Rewrite. A picture's variant depends on its prompt and seed alone: seed - `seed` is its place in the
    prompt's own sequence of variants.

    values: attribute -> values as the judge names them; also: attribute -> value -> the user's other words
    for it. Prompts have sequences of their own, so that the pictures of one seed are not all one variant.
    negative: a negative prompt, whose variants are left out; the others keep their shares among themselves.
    """

    def __init__(
        self, goal: Goal, values: Values, *, seed: int = 0, also: Words = _NO_WORDS, negative: str = ""
    ) -> None:
        self.goal = goal
        self.seed = seed
        self.negative = negative
        self._words = values, also
        self._wanted = [
            _without(edit, avoided(edit, naming(edit, values, also=also), negative)) for edit in goal.edits
        ]
        self._lexicons = [lexicon(edit, values, also=also) for edit in goal.edits]
        self._known = {
            template.format(edit.neutral): _Found(i, template.partition("{}")[0], template.partition("{}")[2])
            for i, edit in enumerate(goal.edits)
            for template in (*goal.templates, *goal.held_out)
        }
        self._turns: dict[tuple[int, str], Turns] = {}

    @property
    def identity(self) -> str:
        """The rule's version, the first seed, and a sha256 of all words and shares."""
        edits = [edit.model_dump(mode="json") for edit in self.goal.edits]
        rests_on = json.dumps([edits, sorted(self._known), self._lexicons], sort_keys=True)
        digest = hashlib.sha256(rests_on.encode()).hexdigest()
        unwanted = f", without {self.negative!r}" if self.negative else ""
        return f"planner 2, one person, quota from seed {self.seed}, goal {digest}{unwanted}"

    def avoiding(self, negative: str) -> Planner:
        """The planner that leaves out what a negative prompt names."""
        values, also = self._words
        return Planner(self.goal, values, seed=self.seed, also=also, negative=negative)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """The prompts to be drawn."""
        return [row.drawn for row in self.plan(prompts, seeds)]

    def plan(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Planned]:
        """Before and after, a row a prompt."""
        rows = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            found = self._look(prompt)
            rows.append(self._row(prompt, found, turn=(prompt, seed - self.seed)))
        return rows

    def plan_list(self, prompts: Sequence[str]) -> list[Planned]:
        """Before and after for a user's own list, whose order is the run: each edit's variants come in exact
        shares over all of its prompts together, whatever their templates."""
        places: Counter[int] = Counter()
        rows = []
        for prompt in prompts:
            found = self._look(prompt)
            rows.append(self._row(prompt, found, turn=("", places[found.edit])))
            places[found.edit] += 1
        return rows

    def _row(self, prompt: str, found: _Found, *, turn: tuple[str, int]) -> Planned:
        if found.why != "planned":
            return Planned(prompt, prompt, why=found.why, word=found.word)
        edit, (sequence, place) = self._wanted[found.edit], turn
        if edit is None:
            return Planned(prompt, prompt, why="all unwanted", word=self.negative)
        turns = self._turns.get((found.edit, sequence))
        if turns is None:
            turns = self._turns[found.edit, sequence] = Turns(edit, lot=sequence)
        variant = edit.variants[turns.at(place)]
        phrase = variant.phrase
        if not found.before and prompt[0].isupper():
            phrase = phrase[0].upper() + phrase[1:]
        return Planned(prompt, found.before + phrase + found.after, edit.cell(variant))

    def _look(self, prompt: str) -> _Found:
        if prompt in self._known:  # what the goal itself calls neutral is
            return self._known[prompt]
        places = {i: _matches(prompt, edit.neutral) for i, edit in enumerate(self.goal.edits)}
        every = [match for matches in places.values() for match in matches]
        # "a woman with tan skin" is no "a woman": of two phrases the one that holds the other is meant.
        meant = [
            (i, match)
            for i, matches in places.items()
            for match in matches
            if not any(_inside(match, other) for other in every)
        ]
        if len(meant) != 1:
            return _Found(why="several phrases" if meant else "unknown")
        edit, match = meant[0]
        before, after = prompt[: match.start()], prompt[match.end() :]
        if not _may_follow(after):
            return _Found(why="unknown")
        said = f" {' '.join(words_of(f'{before} | {after}'))} "
        for word, attribute in self._lexicons[edit].items():
            if f" {word} " in said:
                return _Found(why="stated", word=f"{word} ({attribute})")
        return _Found(edit, before, after)


@final
class Turns:
    """An edit's variants one after the other: what an audit reads comes in exact shares in every prefix, give
    or take less than one picture; so do the phrases that read alike, among themselves.

    lot: decides, as a die would, whose turn it is where several may come next and all prefixes can still keep
    their shares, so that two sequences do not walk in step.
    """

    def __init__(self, edit: Edit, *, lot: str) -> None:
        groups: dict[tuple[str, ...], list[int]] = {}
        for i, variant in enumerate(edit.variants):
            groups.setdefault(tuple(edit.cell(variant).values()), []).append(i)
        shares = _exact([variant.share for variant in edit.variants])
        self._groups = list(groups.values())
        sums = [sum((shares[i] for i in group), Fraction(0)) for group in self._groups]
        self._outer = _Cycle(sums, lot)
        self._inner = [
            _Cycle([shares[i] / total for i in group], f"{lot}\n{g}")
            for g, (group, total) in enumerate(zip(self._groups, sums, strict=True))
        ]

    def at(self, place: int) -> int:
        """The variant's number in this place, which may be any whole number."""
        group, times = self._outer.at(place)
        return self._groups[group][self._inner[group].at(times)[0]]


@final
class _Cycle:
    """A sequence of indices, within one of their shares in every prefix, that begins again where every share
    of its length is whole: no prefix is off by one there, so that all counts are exact."""

    def __init__(self, shares: Sequence[Fraction], lot: str) -> None:
        self._shares = shares
        self._period = lcm(*(share.denominator for share in shares))
        self._chance = random.Random(hashlib.sha256(lot.encode("utf-8", "backslashreplace")).digest())
        self._drawn: list[tuple[int, int]] = []
        self._counts = [0] * len(shares)

    def at(self, place: int) -> tuple[int, int]:
        """(the index in this place, how often it came before)."""
        rounds, within = divmod(place, self._period)
        while len(self._drawn) <= within:
            index = self._next()
            self._drawn.append((index, self._counts[index]))
            self._counts[index] += 1
        index, times = self._drawn[within]
        return index, rounds * int(self._shares[index] * self._period) + times

    def _next(self) -> int:
        may = safe_next(self._shares, self._counts)
        left = self._chance.random() * float(sum(self._shares[index] for index in may))
        for index in may:
            left -= float(self._shares[index])
            if left < 0:
                return index
        return may[-1]


def _without(edit: Edit, unwanted: frozenset[int]) -> Edit | None:
    """The edit without some variants, the others' shares in proportion; None where none is left."""
    kept = [variant for i, variant in enumerate(edit.variants) if i not in unwanted]
    if len(kept) == len(edit.variants):
        return edit
    total = sum(variant.share for variant in kept)
    shared = tuple(variant.model_copy(update={"share": variant.share / total}) for variant in kept)
    return edit.model_copy(update={"variants": shared}) if kept else None


def _inside(match: re.Match[str], other: re.Match[str]) -> bool:
    return other.start() <= match.start() and match.end() <= other.end() and match.span() != other.span()


def _matches(prompt: str, phrase: str) -> list[re.Match[str]]:
    """Where a prompt has a phrase as whole words, whatever their case."""
    pattern = r"\s+".join(re.escape(word) for word in phrase.split())
    return list(re.finditer(rf"(?<![\w'-]){pattern}(?![\w'-])", prompt, re.IGNORECASE))


def _may_follow(rest: str) -> bool:
    """Whether a person's phrase may end before this: ", smiling" but not " doctor" or " and a man"."""
    if not rest.strip() or rest.lstrip()[0] in ",.;:!?)]}|/":
        return True
    words = words_of(rest)
    return bool(words) and words[0] in _FOLLOWS


def _exact(shares: Sequence[float]) -> list[Fraction]:
    """Shares as fractions that sum to 1: 0.3333 three times is a third each."""
    near = [Fraction(share).limit_denominator(_FINEST) for share in shares]
    if not all(near):
        least = min(shares)
        raise UsageError(
            f"a share of {least!r} is too small to plan: expected at least {1 / _FINEST:g}; leave the "
            "variant out",
            code="E_GOAL",
        )
    return [share / sum(near) for share in near]


def effort(bench: Bench, goal: Goal) -> Effort:
    """None: words alone."""
    return Effort()


def prepare(bench: Bench, goal: Goal) -> Prepared:
    """The planner as a remedy: nothing is drawn, read or trained."""
    planner = Planner(goal, bench.measurer.attributes, seed=bench.seed)
    notes = [
        f"before: {row.asked!r}; after: {row.drawn!r}"
        for edit in goal.edits
        for row in planner.plan([goal.templates[0].format(edit.neutral)] * 2, [bench.seed, bench.seed + 1])
    ]
    notes.append("prompts that state the attribute, or that the goal does not know, are drawn as they are")
    return Prepared(Treatment(rewrite=planner), Cost(), tuple(notes))
