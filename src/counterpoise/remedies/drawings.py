"""The data that a retraining of the planted world learns from, with the goal's shares in it.

In: a goal, a version ("same", "replace", "add"), a size. Out: captioned drawings, as the model's latents.
The world's own captions say some things and leave the rest open; where a caption leaves open what an edit is
of, "replace" draws its picture anew with the target's shares (so what was the majority loses examples), and
"add" keeps it and adds drawings of what is missing until the shares are the target's (so the data grow).
Captions in templates that the goal holds out are left out: what is held out stays unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, final

import numpy as np
import torch

from counterpoise.errors import UsageError
from counterpoise.files import whole
from counterpoise.remedies.captions import check_phrases, leaves_open, stated_in
from counterpoise.remedies.goal import Edit, Goal
from counterpoise.world.autoencoder import encode
from counterpoise.world.grammar import Captioned, bare_rows, sample
from counterpoise.world.table import Person, load_table

Version = Literal["same", "replace", "add"]
Values = tuple[str, ...]
T = TypeVar("T")
Look = Callable[[np.ndarray], np.ndarray]
"""Pictures uint8 (n, s, s, 3) in, the same with another look out."""

CHUNK = 500


class Item(NamedTuple):
    """A caption and who is drawn for it; seed: of gaze and smile. edits: those that it leaves open."""

    caption: str
    person: Person
    seed: tuple[int, ...]
    edits: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Data:
    """captions, and latents float32 (n, channels, h, w) that are already scaled. dwell: row numbers that the
    noisiest steps dwell on, or None. added: how many rows the version added to what was there."""

    captions: list[str]
    latents: torch.Tensor
    dwell: torch.Tensor | None = None
    added: int = 0

    def __len__(self) -> int:
        return len(self.captions)


def ordinary(goal: Goal, size: int, *, seed: int) -> list[tuple[Captioned, Item]]:
    """`size` captioned people of the planted table; row i depends on (seed, i) and the held-out templates.

    UsageError E_TEMPLATE where the goal holds out all of the world's templates.
    """
    table = load_table()
    templates = tuple(text for text in table.templates if text not in goal.held_out)
    if not templates:
        raise UsageError(
            "the goal holds out every template of the world's captions; leave one to train on",
            code="E_TEMPLATE",
        )
    seen = replace(table, templates=templates)
    rows = []
    for i in range(size):
        said = sample(seen, np.random.default_rng([seed, i]))
        edits = tuple(e for e, edit in enumerate(goal.edits) if leaves_open(edit, said.stated))
        rows.append((said, Item(said.caption, said.person, (seed, i), edits)))
    return rows


def items(goal: Goal, version: Version, size: int, *, seed: int) -> list[Item]:
    """What is drawn: `size` rows, more for "add"."""
    rows = ordinary(goal, size, seed=seed)
    if version == "same":
        return [item for _, item in rows]
    if version == "replace":
        counts: Counter[int] = Counter()
        return [_redrawn(goal, said, item, counts) for said, item in rows]
    kept = [item for _, item in rows]
    asked = [(said.stated, item) for said, item in rows]
    for e in range(len(goal.edits)):
        new = list(_missing(goal, e, asked, first=len(kept), seed=seed))
        kept += [item for _, item in new]
        asked += new
    return kept


def _redrawn(goal: Goal, said: Captioned, item: Item, counts: Counter[int]) -> Item:
    """The row with the target's values for what it leaves open; counts: the edits' rows so far."""
    if not item.edits:
        return item
    rng = np.random.default_rng([*item.seed, 1])
    values = []
    for e in item.edits:
        values.append(next_value(shares_of(goal.edits[e]), counts[e]))
        counts[e] += 1
    person = _person([goal.edits[e] for e in item.edits], values, said.stated, rng)
    return item._replace(person=person, seed=(*item.seed, 1))


def _missing(
    goal: Goal, e: int, rows: Sequence[tuple[Mapping[str, str], Item]], *, first: int, seed: int
) -> Sequence[tuple[Mapping[str, str], Item]]:
    """The drawings that edit `e` lacks: captions of its rows, in turn, each with a value that is too rare."""
    edit = goal.edits[e]
    open_rows = [(stated, item) for stated, item in rows if e in item.edits]
    target = shares_of(edit)
    there = Counter(tuple(item.person[name] for name in edit.claimed) for _, item in open_rows)
    whole = max(there[value] / share for value, share in target.items())
    lacking = [
        value for value, share in target.items() for _ in range(max(0, round(whole * share) - there[value]))
    ]
    rng = np.random.default_rng([seed, e, 2])
    found = []
    for i, k in enumerate(rng.permutation(len(lacking)).tolist()):
        stated, item = open_rows[i % len(open_rows)]
        own = np.random.default_rng([seed, first + i, 3])
        others = [goal.edits[k] for k in item.edits if k != e]
        values = [lacking[k], *(_drawn(shares_of(other), own) for other in others)]
        person = _person([edit, *others], values, stated, own)
        found.append((stated, item._replace(person=person, seed=(seed, first + i, 3))))
    return found


def shares_of(edit: Edit) -> dict[Values, float]:
    """Values of the edit's `claimed` attributes together -> the share of pictures that should have them."""
    found: dict[Values, float] = {}
    for variant in edit.variants:
        values = tuple(edit.cell(variant)[name] for name in edit.claimed)
        found[values] = found.get(values, 0.0) + variant.share
    return found


def _person(
    edits: Sequence[Edit], values: Sequence[Values], stated: Mapping[str, str], rng: np.random.Generator
) -> Person:
    """A person as stated, with these values, and with what else a variant that reads so says, if it fits."""
    known = dict(stated)
    for edit, value in zip(edits, values, strict=True):
        fitting = []
        for variant in edit.variants:
            more = stated_in(variant.phrase)
            reads = tuple(edit.cell(variant)[name] for name in edit.claimed)
            if reads == value and all(known.get(key, own) == own for key, own in more.items()):
                fitting.append((more, variant.share))
        if fitting:
            shares = np.array([share for _, share in fitting])
            known |= fitting[rng.choice(len(fitting), p=shares / shares.sum())][0]
        known |= dict(zip(edit.claimed, value, strict=True))
    return load_table().complete(known, rng)


def next_value(shares: Mapping[T, float], at: int) -> T:
    """The value of the `at`-th row: multiples of the golden ratio fill any shares evenly from the start,
    where independent draws would give a few hundred rows shares of their own."""
    place = (0.5 + at * (5**0.5 - 1) / 2) % 1.0
    ends = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(ends / ends[-1], place, side="right"))]


def _drawn(shares: Mapping[T, float], rng: np.random.Generator) -> T:
    weights = np.array(list(shares.values()))
    return list(shares)[rng.choice(len(weights), p=weights / weights.sum())]


def world_data(
    pipeline: Any,
    goal: Goal,
    version: Version,
    size: int,
    *,
    seed: int,
    cache: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Data:
    """The version's drawings as latents of the pipeline's autoencoder; chunks are kept under `cache`."""
    check_phrases(goal)
    rows = items(goal, version, size, seed=seed)
    captions = [item.caption for item in rows]
    bare = set(bare_rows(load_table(), captions))
    dwell = [i for i, item in enumerate(rows) if item.edits or i in bare]
    latents = latents_of(pipeline, rows, cache=cache, progress=progress)
    return Data(captions, latents, torch.tensor(dwell), added=len(rows) - size)


def latents_of(
    pipeline: Any,
    rows: Sequence[Item],
    *,
    cache: Path,
    look: Look = lambda pictures: pictures,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Scaled latents of the drawings of `rows`. A chunk that was made before, in `cache`, is read."""
    found: list[torch.Tensor] = [torch.empty(0)] * len(rows)
    done = 0
    for numbers in _chunks(rows):
        made = _chunk([rows[i] for i in numbers], pipeline, cache=cache, look=look)
        for i, latents in zip(numbers, made, strict=True):
            found[i] = latents
        done += len(numbers)
        progress(done, len(rows))
    scaled: torch.Tensor = torch.stack(found) * pipeline.vae.config.scaling_factor
    return scaled


def _chunks(rows: Sequence[Item]) -> Iterator[list[int]]:
    """Row numbers, CHUNK at a time; rows of one making together, so that versions share what they share."""
    groups: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
    for i, item in enumerate(rows):
        groups.setdefault((bool(item.edits), item.seed[2:]), []).append(i)
    for numbers in groups.values():
        yield from (numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK))


def _chunk(part: Sequence[Item], pipeline: Any, *, cache: Path, look: Look) -> torch.Tensor:
    """Unscaled latents of a chunk, from the cache where it was made before."""
    from counterpoise.world.drawing import draw

    told = json.dumps([(item.person, item.seed) for item in part], sort_keys=True)
    file = cache / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.pt"
    if not file.exists():
        pictures = np.stack([draw(item.person, np.random.default_rng(item.seed)) for item in part])
        with whole(file) as unfinished:
            torch.save(encode(pipeline.vae, look(pictures)), unfinished)
    latents: torch.Tensor = torch.load(file, weights_only=True)
    return latents
