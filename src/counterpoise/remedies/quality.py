"""Whether a repair left the pictures good: a share can also be righted by destroying what it is counted on.

In: a goal, a drawer of the base's pictures and one of the treated, a judge. Out: figures with intervals on
the same seeds, and whether they are acceptable. What is drawn: the variants' own prompts and what the goal
keeps, from both; and the neutral prompts from the treated, against the base's pictures of the variants in the
goal's shares, which is what they ought to look like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, final

import numpy as np
import torch
from scipy.spatial.distance import cdist
from scipy.stats import norm

from counterpoise.diffusion.arm import Drawer
from counterpoise.errors import UsageError
from counterpoise.measure.heads import HeadReader
from counterpoise.measure.reading import Measurer
from counterpoise.remedies.captions import stated_in
from counterpoise.remedies.drawings import next_value
from counterpoise.remedies.goal import Goal
from counterpoise.stats import Estimate, Pairs, paired_difference

_AT_ONCE = 400  # pictures
SEED = 6_000_000  # of the first picture: neither a training's nor an audit's
ACCEPTABLE, NOT_ACCEPTABLE, NOT_SHOWN = "acceptable", "not acceptable", "not shown"


@final
@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to draw. treated, base: what either draws (one prompt each, or as many as there are seeds).
    attribute and value: what the prompt states, None where it states nothing that the judge reads."""

    name: str
    treated: str
    base: tuple[str, ...]
    attribute: str | None = None
    value: str | None = None

    @property
    def neutral(self) -> bool:
        """Whether the treated draws another prompt here than the base."""
        return self.base != (self.treated,)


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """How much worse than the base is still acceptable. following: fall of the share obeyed; unread: rise of
    the share that the judge cannot read; diversity: lowest spread within a prompt, as a ratio to the base's;
    apart: highest energy distance to the base's pictures, in units of their own spread (two kinds of picture
    with nothing in common reach about 1)."""

    following: float = 0.05
    unread: float = 0.05
    diversity: float = 0.75
    apart: float = 0.25


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; limit None: shown, not judged. decision: of ACCEPTABLE and its neighbours."""

    name: str
    estimate: Estimate
    limit: float | None
    decision: str


@final
@dataclass(frozen=True, slots=True)
class Quality:
    """space: where distances were taken. verdict: NOT_ACCEPTABLE where a figure lies beyond its limit with
    its whole interval, ACCEPTABLE where all lie within theirs, else NOT_SHOWN."""

    figures: tuple[Figure, ...]
    space: str
    pictures: int

    @property
    def verdict(self) -> str:
        decisions = {figure.decision for figure in self.figures if figure.limit is not None}
        if NOT_ACCEPTABLE in decisions:
            return NOT_ACCEPTABLE
        return ACCEPTABLE if decisions == {ACCEPTABLE} else NOT_SHOWN

    def figure(self, name: str) -> Figure:
        """The figure of this name."""
        return next(figure for figure in self.figures if figure.name == name)

    def to_dict(self) -> dict[str, Any]:
        """As results and pages show it."""
        rows = {
            figure.name: {
                **asdict(figure.estimate),
                "limit": figure.limit,
                "decision": figure.decision,
            }
            for figure in self.figures
        }
        return {"verdict": self.verdict, "space": self.space, "pictures": self.pictures, "figures": rows}


def topics(goal: Goal, measurer: Measurer, *, n: int) -> list[Topic]:
    """What to draw for a goal, on its held-out templates if it has some.

    The neutral prompts against the base's variants in the goal's shares, spread evenly over n seeds; every
    variant's own prompt; the phrases to keep, with what they state where they are of the world's grammar.
    """
    templates = goal.held_out or goal.templates
    found: dict[str, Topic] = {}

    def put(phrase: str, attribute: str | None, value: str | None) -> None:
        prompt = templates[len(found) % len(templates)].format(phrase)
        found.setdefault(phrase, Topic(phrase, prompt, (prompt,), attribute, value))

    for edit in goal.edits:
        template = templates[len(found) % len(templates)]
        phrases = {variant.phrase: variant.share for variant in edit.variants}
        base = tuple(template.format(next_value(phrases, i)) for i in range(n))
        name = f"{edit.neutral}, as its variants"
        found[name] = Topic(name, template.format(edit.neutral), base, edit.attributes[0])
        for k, variant in enumerate(edit.variants):
            cell = list(edit.cell(variant).items())  # one of what it says, in turn
            put(variant.phrase, *cell[k % len(cell)])
    for phrase in goal.keep:
        put(phrase, *_states(phrase, measurer))
    return list(found.values())


def _states(phrase: str, measurer: Measurer) -> tuple[str | None, str | None]:
    """The last thing that a phrase of the world states and the judge reads; nothing of other phrases."""
    try:
        stated = stated_in(phrase)
    except UsageError:
        return None, None
    read = [(key, value) for key, value in stated.items() if value in measurer.attributes.get(key, ())]
    return read[-1] if read else (None, None)


class Seen(NamedTuple):
    """Pictures as they were perceived: features (topics, n, dim); read[topic][i]: the topic's attribute."""

    features: np.ndarray
    read: list[list[str | None]]


def look(
    draw: Drawer,
    measurer: Measurer,
    asked: Sequence[Topic],
    *,
    n: int,
    side: str,
    seed: int = SEED,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Seen:
    """Draws n pictures a topic as its `side` ("base" or "treated") asks; each topic has seeds of its own."""
    prompts, names = [], []
    for topic in asked:
        prompts += [topic.treated] * n if side == "treated" else _stretched(topic.base, n)
        names += [topic.attribute] * n
    embed = features_of(measurer)[1]
    features: list[np.ndarray] = []
    read: list[str | None] = []
    for start in range(0, len(prompts), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        images = draw(prompts[part], range(seed, seed + len(prompts))[part])
        features.append(embed(images))
        rows = measurer(images)
        # Of a topic that states nothing: whether anything at all can be read.
        read += [row[k].value if k else _anything(row) for row, k in zip(rows, names[part], strict=True)]
        progress(min(start + _AT_ONCE, len(prompts)), len(prompts))
    flat = np.concatenate(features)
    split = [read[start : start + n] for start in range(0, len(read), n)]
    return Seen(flat.reshape(len(asked), n, -1), split)


def _anything(row: Any) -> str | None:
    return "read" if any(reading.value is not None for reading in row.values()) else None


def _stretched(prompts: tuple[str, ...], n: int) -> list[str]:
    return [prompts[i % len(prompts)] for i in range(n)]


def features_of(measurer: Measurer) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """Where to compare pictures, and how they get there: the judge's own embedding, the last layer of the
    world's reader averaged over the picture, or, of any other judge, thumbnails of 8 x 8 colours."""
    embed = getattr(measurer, "embed", None)
    if embed is not None:
        return f"embedding of {measurer.name}", embed
    if isinstance(measurer, HeadReader):
        return f"last layer of {measurer.name}", lambda images: _last_layer(measurer, images)
    return "thumbnails of 8 x 8 colours", thumbnails


@torch.inference_mode()
def _last_layer(reader: HeadReader, images: np.ndarray) -> np.ndarray:
    pictures = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    maps = [reader.network.body[:-2](part) for part in pictures.split(128)]  # before flatten and dropout
    return torch.cat(maps).mean((2, 3)).double().numpy()


def thumbnails(images: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w, 3) to float (n, 192): mean colours of 8 x 8 fields, in [0, 1]."""
    pictures = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).double() / 255
    return torch.nn.functional.adaptive_avg_pool2d(pictures, 8).flatten(1).numpy()


def quality(
    asked: Sequence[Topic],
    base: Seen,
    treated: Seen,
    *,
    again: Seen,
    space: str,
    limits: Limits | None = None,
    confidence: float = 0.95,
) -> Quality:
    """The figures of `treated` against `base`, of the same seeds; again: the base on other seeds.

    following and unread: paired differences, valid at any number of pictures. Distances: energy distance,
    spread and same-seed distance over all topics together, with jackknife intervals over seeds (for large n,
    within topics); "apart, base again" is what the base reaches against itself.
    """
    limit = limits or Limits()
    stating = [t for t, topic in enumerate(asked) if topic.value is not None]
    same = [t for t, topic in enumerate(asked) if not topic.neutral]
    neutral = [t for t, topic in enumerate(asked) if topic.neutral]
    obeyed = _pairs(treated, base, [(t, asked[t].value) for t in stating])
    unread = _pairs(treated, base, [(t, None) for t in range(len(asked))])
    far = [pair_distances(base.features[t], treated.features[t]) for t in range(len(asked))]
    floor = [pair_distances(base.features[t], again.features[t]) for t in range(len(asked))]

    def taken(name: str, rows: Sequence[int], tables: list[np.ndarray], of: Any) -> Iterator[Figure]:
        if rows:
            top = {"diversity": limit.diversity, "apart": limit.apart, "apart, neutral prompts": limit.apart}
            estimate = jackknife([tables[t] for t in rows], of, confidence=confidence)
            yield _judged(name, estimate, top.get(name), low=name == "diversity")

    figures = [
        _judged("following", paired_difference(obeyed, confidence=confidence), -limit.following, low=True),
        _judged("unread", paired_difference(unread, confidence=confidence), limit.unread, low=False),
        *taken("diversity", same, far, spread_ratio),
        *taken("apart", same, far, apart),
        *taken("apart, neutral prompts", neutral, far, apart),
        *taken("apart, base again", range(len(asked)), floor, apart),
        *taken("moved on the same seeds", same, far, moved),
    ]
    return Quality(tuple(figures), space, treated.features.shape[0] * treated.features.shape[1])


def _pairs(treated: Seen, base: Seen, wanted: Sequence[tuple[int, str | None]]) -> Pairs:
    counts = [0, 0, 0, 0]
    for t, value in wanted:
        for mine, theirs in zip(treated.read[t], base.read[t], strict=True):
            counts[2 * (mine != value) + (theirs != value)] += 1
    return Pairs(*counts)


def _judged(name: str, estimate: Estimate, limit: float | None, *, low: bool) -> Figure:
    """low: the limit is the lowest that is acceptable, else the highest."""
    if limit is None:
        return Figure(name, estimate, None, "")
    inside = estimate.low >= limit if low else estimate.high <= limit
    outside = estimate.high < limit if low else estimate.low > limit
    decision = ACCEPTABLE if inside else NOT_ACCEPTABLE if outside else NOT_SHOWN
    return Figure(name, estimate, limit, decision)


def pair_distances(base: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """All distances of both sets' pictures (n each), base first: (2n, 2n)."""
    rows = np.concatenate([base, treated])
    if not np.isfinite(rows).all():
        raise ValueError("features are not all finite")
    table: np.ndarray = cdist(rows, rows)
    return table


class Sums(NamedTuple):
    """Mean distances of two pictures: of the base's, of the treated's, of one each (of other seeds), and of
    one each of the same seed."""

    base: float
    treated: float
    across: float
    same: float


def spread_ratio(sums: Sums) -> float:
    """How far two treated pictures of a prompt lie apart, over how far two of the base's do."""
    return sums.treated / sums.base


def apart(sums: Sums) -> float:
    """The energy distance (see `measure.embedding`) without pairs of one seed, over the base's spread."""
    return (2 * sums.across - sums.base - sums.treated) / sums.base


def moved(sums: Sums) -> float:
    """How far a treated picture lies from the base's of its seed, over the base's spread: 0 is the same
    picture, 1 is another picture of the same prompt."""
    return sums.same / sums.base


def jackknife(
    tables: Sequence[np.ndarray], of: Callable[[Sums], float], *, confidence: float = 0.95
) -> Estimate:
    """A figure of mean distances over topics, with a normal interval from leaving out one seed at a time.

    tables: (2n, 2n) each, base first. Source: Efron and Stein, Annals of Statistics 9 (1981) 586-596.
    """
    n = len(tables[0]) // 2
    whole, without = [], []
    for table in tables:
        blocks = table[:n, :n], table[n:, n:], table[:n, n:]
        off = [block.sum() - np.trace(block) for block in blocks]
        pairs = n * (n - 1)
        whole.append([*(total / pairs for total in off), np.trace(blocks[2]) / n])
        rows = [block.sum(0) + block.sum(1) - 2 * np.diag(block) for block in blocks]
        fewer = (n - 1) * (n - 2)
        left = [(total - row) / fewer for total, row in zip(off, rows, strict=True)]
        own = np.diag(blocks[2])
        without.append(np.stack([*left, (own.sum() - own) / (n - 1)], 1))
    means = np.mean(whole, 0)
    value = float(of(Sums(*means)))
    variance = 0.0
    for mine, less in zip(whole, without, strict=True):
        # One topic at a time, the others whole: seeds of different topics are different seeds.
        changed = means + (less - np.array(mine)) / len(tables)
        values = np.array([of(Sums(*row)) for row in changed])
        variance += (n - 1) / n * float(((values - values.mean()) ** 2).sum())
    half = float(norm.ppf(0.5 + confidence / 2)) * variance**0.5
    return Estimate(value, value - half, value + half, n * len(tables), "jackknife over seeds")
