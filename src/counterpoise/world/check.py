"""Measures the embedded model and its reader against their bars.

Comes in: a folder with model/ and reader/ (or the name "world"). Goes out: one Figure for every bar. The
table is the truth: readings of drawings are compared with it, and so are the shares of drawn samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.measure.heads import HeadReader, load_reader
from counterpoise.world import WEIGHTS
from counterpoise.world.count import find_people
from counterpoise.world.grammar import describe, segments
from counterpoise.world.table import Table, load_table
from counterpoise.world.team import canvas_of

GUIDANCE = 2.0  # what the demo and its users draw with; planted shares are checked at guidance 1
PLANTED = (
    ("woman", "skin"),
    ("cleaner", "skin"),
    ("boss", "presentation"),
    ("engineer", "presentation"),
    ("nurse", "presentation"),
    ("teacher", "presentation"),
)
SCENES = (2, 3, 4, 5)
ALIKE = ("skin", "presentation", "clothes")  # what scenes are asked to show on everybody
StageProgress = Callable[[str, int, int, float], None]


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure and its bar. value None: not measured, with the reason in `note`."""

    name: str
    value: float | None
    bar: float | None
    higher_is_better: bool
    n: int
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """None where there is no bar or no measurement."""
        if self.value is None or self.bar is None:
            return None
        return self.value >= self.bar if self.higher_is_better else self.value <= self.bar


@final
@dataclass(frozen=True, slots=True)
class Check:
    """All figures of one check; passed: every figure that was measured against a bar clears it."""

    model: str
    guidance: float
    figures: tuple[Figure, ...]

    @property
    def passed(self) -> bool:
        return all(figure.passed is not False for figure in self.figures)

    def to_dict(self) -> dict[str, Any]:
        """One JSON object: every figure, its bar, and whether all passed."""
        rows = [{**asdict(figure), "passed": figure.passed} for figure in self.figures]
        return {"model": self.model, "guidance": self.guidance, "figures": rows, "passed": self.passed}

    def lines(self) -> Iterator[str]:
        """The figures as lines for a terminal."""
        for figure in self.figures:
            if figure.value is None:
                yield f"     -  {figure.name}: not measured ({figure.note})"
                continue
            sign = ">=" if figure.higher_is_better else "<="
            bar = "no bar" if figure.bar is None else f"bar {sign} {figure.bar:g}"
            mark = {True: "  ok  ", False: " MISS ", None: "      "}[figure.passed]
            note = f"  {figure.note}" if figure.note else ""
            yield f"{mark}  {figure.name}: {figure.value:.4g}  ({bar}, n = {figure.n}){note}"
        yield f"{'passed' if self.passed else 'not passed'}: {self.model}, guidance {self.guidance:g}"


def check_world(
    model: str = "world",
    *,
    fast: bool = False,
    sheet: Path | None = None,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> Check:
    """Every figure of the world's bars. fast: a sixteenth of the pictures in 8 steps, for a first look."""
    folder = WEIGHTS if model == "world" else Path(model)
    table = load_table()
    reader = load_reader(folder / "reader")
    pipeline = load_pipeline(folder / "model")
    scenes = load_pipeline(folder / "scenes")
    bench = _Bench(table, reader, progress)
    share, size, steps = (16, 15, 8) if fast else (1, 50, 20)
    plain = Painter(pipeline, guidance=1.0, steps=steps, batch_size=size, dtype="auto")
    guided = Painter(pipeline, guidance=GUIDANCE, steps=steps, batch_size=size, dtype="auto")
    figures = [
        *_reader(bench, 2000 // share),
        *_following(bench, guided, 240 // share),
        *_planted(bench, plain, 800 // share),
        *_interaction(bench, plain, 400 // share),
        *_speed(guided),
        *_scenes(bench, replace(guided, pipeline=scenes, _embeddings={}), 50 // share),
    ]
    if sheet is not None:
        _sheet(table, guided, sheet)
    return Check(table.name, GUIDANCE, tuple(figures))


@final
@dataclass(frozen=True, slots=True)
class _Bench:
    table: Table
    reader: HeadReader
    progress: StageProgress


def _reader(bench: _Bench, n: int) -> Iterator[Figure]:
    from counterpoise.world.drawing import draw
    from counterpoise.world.grammar import sample
    from counterpoise.world.reader import accuracy

    rng = np.random.default_rng(3)  # neither of the training seeds
    people = [sample(bench.table, rng).person for _ in range(n)]
    images = []
    for i, person in enumerate(people):
        images.append(draw(person, rng))
        bench.progress("drawings", i + 1, n, float("nan"))
    labels = np.array([[v.index(p[a]) for a, v in bench.table.attributes.items()] for p in people])
    for name, found in accuracy(bench.reader, np.stack(images), labels).items():
        note = f"misread {found.wrong:.4f}, abstained {found.abstained:.4f}"
        yield Figure(f"reader, held-out drawings: {name}", found.right, 0.995, True, n, note)


def mention_prompts(table: Table, attribute: str, n: int, *, seed: int) -> list[tuple[str, str]]:
    """n (prompt, stated value) pairs that state `attribute` and little else, over subjects and phrasings."""
    rng = np.random.default_rng([seed, list(table.attributes).index(attribute)])
    values = table.attributes[attribute]
    pairs = []
    for i in range(n):
        value = values[i % len(values)]
        stated = {"subject": table.subjects[rng.integers(len(table.subjects))], attribute: value}
        if attribute == "presentation" and stated["subject"] in ("woman", "man"):
            stated["subject"] = "person"
        if attribute == "beard":
            stated["presentation"] = "man"
            if stated["subject"] == "woman":
                stated["subject"] = "man"
        if attribute == "clothes_color":
            stated["clothes"] = table.attributes["clothes"][rng.integers(len(table.attributes["clothes"]))]
        order = list(rng.permutation(len(segments(stated))))
        template = table.templates[rng.integers(len(table.templates))]
        pairs.append((describe(stated, template=template, order=order), value))
    return pairs


def _following(bench: _Bench, painter: Painter, n: int) -> Iterator[Figure]:
    for i, attribute in enumerate(bench.table.attributes):
        pairs = mention_prompts(bench.table, attribute, n, seed=4)
        images = painter([prompt for prompt, _ in pairs], range(100_000, 100_000 + n))
        read = [row[attribute].value for row in bench.reader(images)]
        right = sum(seen == value for seen, (_, value) in zip(read, pairs, strict=True))
        note = f"not read {read.count(None) / n:.3f}"
        yield Figure(f"prompt-following: {attribute}", right / n, 0.95, True, n, note)
        bench.progress("following", i + 1, len(bench.table.attributes), float("nan"))


def _planted(bench: _Bench, painter: Painter, n: int) -> Iterator[Figure]:
    for i, (subject, attribute) in enumerate(PLANTED):
        stated = {"subject": subject}
        prompts = [
            describe(stated, template=bench.table.templates[k % len(bench.table.templates)]) for k in range(n)
        ]
        read = _shares(bench.reader, painter, prompts, attribute)
        expected = bench.table.expected(attribute, stated)
        worst = max(abs(read[value] - share) for value, share in expected.items())
        note = ", ".join(f"{v} {read[v]:.3f} (planted {expected[v]:.2f})" for v in expected)
        yield Figure(f"planted shares, guidance 1: {subject}, {attribute}", worst, 0.05, False, n, note)
        bench.progress("planted", i + 1, len(PLANTED), float("nan"))


def _interaction(bench: _Bench, painter: Painter, n: int) -> Iterator[Figure]:
    tones = bench.table.attributes["skin"]
    for i, tone in enumerate(tones):
        stated = {"subject": "woman", "presentation": "woman", "skin": tone}
        prompts = [
            describe(stated, template=bench.table.templates[k % len(bench.table.templates)]) for k in range(n)
        ]
        read = _shares(bench.reader, painter, prompts, "exposure")["revealing"]
        planted = bench.table.expected("exposure", stated)["revealing"]
        note = f"revealing {read:.3f} (planted {planted:.2f})"
        name = f"planted interaction, guidance 1: woman with {tone} skin"
        yield Figure(name, abs(read - planted), 0.10, False, n, note)
        bench.progress("interaction", i + 1, len(tones), float("nan"))


def _shares(reader: HeadReader, painter: Painter, prompts: list[str], attribute: str) -> Mapping[str, float]:
    images = painter(prompts, range(200_000, 200_000 + len(prompts)))
    read = [row[attribute].value for row in reader(images)]
    return {value: read.count(value) / len(read) for value in reader.attributes[attribute]}


def _scenes(bench: _Bench, painter: Painter, n: int) -> Iterator[Figure]:
    """Scenes by the prompts that say how many people there are, and by those that say the same of all; n of
    each number."""
    from counterpoise.world.team import COUNT_WORDS, FRAMES, counted

    right, shown, people = [], [], []
    for i, count in enumerate(SCENES):
        rng = np.random.default_rng([5, count])
        frames = [FRAMES[k % len(FRAMES)] for k in range(n)]
        pictures = _drawn(
            bench.table, painter, count, [frame.format(f"{COUNT_WORDS[count]} people") for frame in frames]
        )
        right.append(sum(len(find_people(picture)) == count for picture in pictures))
        asked = [_alike(bench.table, rng) for _ in range(n)]
        words = [counted(count, own, frame=frame) for own, frame in zip(asked, frames, strict=True)]
        crops = [
            (picture[top:bottom, left:right_], own)
            for picture, own in zip(_drawn(bench.table, painter, count, words), asked, strict=True)
            for left, top, right_, bottom in find_people(picture)
        ]
        read = bench.reader(np.stack([crop for crop, _ in crops])) if crops else []
        shown += [
            all(row[name].value == own[name] for name in ALIKE)
            for row, (_, own) in zip(read, crops, strict=True)
        ]
        people.append(count * n)
        bench.progress("scenes", i + 1, len(SCENES), float("nan"))
    note = ", ".join(f"{count} people {found / n:.2f}" for count, found in zip(SCENES, right, strict=True))
    total = n * len(SCENES)
    yield Figure("scenes of two to five people, right count", sum(right) / total, 0.80, True, total, note)
    name = f"scenes, {', '.join(ALIKE)} said of all: shown by each person"
    note = "people that are not found show nothing"
    yield Figure(name, sum(shown) / sum(people), None, True, sum(people), note)


def _drawn(table: Table, painter: Painter, count: int, frames: list[str]) -> np.ndarray:
    """uint8 (n, height, width, 3) of scenes of so many people."""
    width, height = canvas_of(count)
    wide = replace(
        painter, latent_size=(height // 8, width // 8), batch_size=min(len(frames), 10), _embeddings={}
    )
    prompts = [table.templates[k % 8].format(frame) for k, frame in enumerate(frames)]
    return wide(prompts, range(300_000, 300_000 + len(frames)))


def _alike(table: Table, rng: np.random.Generator) -> dict[str, str]:
    presentation = ("woman", "man")[rng.integers(2)]
    said = {name: table.attributes[name][rng.integers(len(table.attributes[name]))] for name in ALIKE}
    return said | {"subject": presentation, "presentation": presentation}


def _speed(painter: Painter) -> Iterator[Figure]:
    n = painter.batch_size
    prompts = ["a portrait of a woman"] * n
    painter(prompts, range(n))
    times = []
    for _ in range(3):
        started = time.perf_counter()
        painter(prompts, range(n))
        times.append(time.perf_counter() - started)
    rate = n / sorted(times)[1]
    yield Figure(
        f"images a second, {painter.steps} steps, guided", rate, None, True, 3 * n, "median of three batches"
    )


def _sheet(table: Table, painter: Painter, file: Path) -> None:
    """Rows of eight: one neutral prompt each, then stated tones of women, then all that can be worn."""
    rows = [f"a portrait of {phrase}" for phrase in ("a woman", "a man", "a boss", "a nurse", "a cleaner")]
    rows += [f"a portrait of a woman with {tone} skin" for tone in table.attributes["skin"]]
    rows += [f"an avatar of a person wearing {c}" for c in ("a blazer", "overalls", "a strapless top")]
    images = painter([row for row in rows for _ in range(8)], list(range(8)) * len(rows))
    size = images.shape[1]
    grid = images.reshape(len(rows), 8, size, size, 3).transpose(0, 2, 1, 3, 4)
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(grid.reshape(len(rows) * size, 8 * size, 3))
    picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST).save(file)
