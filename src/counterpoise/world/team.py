"""Pictures of several people: captions that count or list them, and drawings on wider canvases.

Each person is drawn as on a portrait, SIZE pixels square, on one common background. Up to four stand in one
row, more in two; what a row has to spare lies in gaps between its people.

Two ways: LOOSE scenes have people anywhere along a row, and captions that mostly list them. In PLACED ones
everybody has one of a row's places, as the planner lays scenes out, and most captions say the same of all:
that is where a network learns to draw what is said in every place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoise.world.drawing import SIZE, draw
from counterpoise.world.grammar import GENDER_WORD, GENDERED_SUBJECTS, segments, subject_phrase
from counterpoise.world.table import Person, Table

ONE_ROW = 4  # people at most; more stand in two rows
COUNT_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}
PLURALS = {"woman": "women", "man": "men", "person": "people", "boss": "bosses"}
MENTIONS = {2: 2.0, 3: 1.4, 4: 0.9, 5: 0.5}  # attributes said of each person of a list, on average
LONGEST = 44  # words and commas, of the 46 that fit between the ends of a caption
Box = tuple[int, int, int, int]


@final
@dataclass(frozen=True, slots=True)
class Team:
    """A captioned scene. people: in reading order, back row first. boxes: each person's left, top, right and
    bottom in pixels. width, height: of the canvas in pixels. background: the table's word."""

    caption: str
    people: tuple[Person, ...]
    boxes: tuple[Box, ...]
    width: int
    height: int
    background: str


@final
@dataclass(frozen=True, slots=True)
class Way:
    """How scenes are laid out and captioned.

    slack: pixels that a full row has to spare. step: of the gaps between people, in pixels. listed, counted:
    shares of captions that list everybody, and that say the same of all; the others say only how many there
    are. common: attributes said of all, on average.
    """

    name: str
    slack: int
    step: int
    listed: float
    counted: float
    common: float


LOOSE = Way("loose", slack=32, step=8, listed=0.6, counted=0.25, common=0.8)
PLACED = Way("placed", slack=0, step=SIZE, listed=0.25, counted=0.65, common=2.5)


def rows_of(count: int) -> tuple[int, ...]:
    """People in each row, the back one first: (3,), (2, 3)."""
    return (count,) if count <= ONE_ROW else (count // 2, count - count // 2)


def canvas_of(count: int, way: Way = PLACED) -> tuple[int, int]:
    """Width and height in pixels of the canvas for so many people."""
    rows = rows_of(count)
    return SIZE * max(rows) + way.slack, SIZE * len(rows)


def place(count: int, rng: np.random.Generator, way: Way = PLACED) -> tuple[Box, ...]:
    """A box a person, SIZE square, on the latent grid; a row's spare room is shared out at random."""
    width, _ = canvas_of(count, way)
    boxes = []
    for row, members in enumerate(rows_of(count)):
        spare = (width - SIZE * members) // way.step
        gaps = rng.multinomial(spare, [1 / (members + 1)] * (members + 1))
        for i in range(members):
            left = SIZE * i + way.step * int(gaps[: i + 1].sum())
            boxes.append((left, SIZE * row, left + SIZE, SIZE * (row + 1)))
    return tuple(boxes)


def plural(stated: Mapping[str, str]) -> str:
    """ "women", "female bosses", "basketball players" for a subject and what is said of its presentation."""
    subject = stated["subject"]
    words = PLURALS.get(subject, f"{subject}s")
    presentation = stated.get("presentation")
    if presentation is None or subject in GENDERED_SUBJECTS:
        return words
    return f"{GENDER_WORD[presentation]} {words}"


def counted(count: int, stated: Mapping[str, str], *, frame: str) -> str:
    """ "three women side by side", "a team of three women with tan skin": one phrase for all of them."""
    words = f"{COUNT_WORDS[count]} {plural(stated)}"
    return ", ".join([" ".join([frame.format(words), *segments(stated)[:1]]), *segments(stated)[1:]])


def listed(stated: Sequence[Mapping[str, str]], *, frame: str) -> str:
    """ "two people side by side: a woman with tan skin and a boss": a phrase a person, in reading order."""
    phrases = [" ".join([subject_phrase(own), ", ".join(segments(own))]).strip() for own in stated]
    head = frame.format(f"{COUNT_WORDS[len(stated)]} people")
    return f"{head}: {' and '.join(phrases)}"


def draw_team(team: Team, rng: np.random.Generator) -> np.ndarray:
    """The scene as uint8 (height, width, 3)."""
    blank = draw({**team.people[0], "background": team.background}, rng)[0, 0]
    canvas = np.empty((team.height, team.width, 3), np.uint8)
    canvas[:] = blank
    for person, (left, top, right, bottom) in zip(team.people, team.boxes, strict=True):
        canvas[top:bottom, left:right] = draw(person, rng)
    return canvas


FRAMES = ("{} side by side", "a group of {}", "a team of {}")


def sample_team(table: Table, count: int, rng: np.random.Generator, way: Way = PLACED) -> Team:
    """A captioned scene of `count` people; what is left out comes from the table, for each alone."""
    template = table.templates[rng.integers(len(table.templates))]
    frame = FRAMES[rng.integers(len(FRAMES))]
    kind = rng.random()
    if kind < way.listed:
        stated = [_state(table, MENTIONS.get(count, 0.3), rng) for _ in range(count)]
        words = listed(stated, frame=frame)
        while _length(template.format(words)) > LONGEST:
            longest = max(stated, key=len)
            longest.pop(next(reversed([key for key in longest if key != "subject"])))
            words = listed(stated, frame=frame)
    else:
        alike = kind < way.listed + way.counted
        common = _state(table, way.common, rng) if alike else {"subject": "person"}
        stated = [common] * count
        words = counted(count, common, frame=frame)
    background = table.complete({"subject": "person"}, rng)["background"]
    if rng.random() < table.mention["background"] and _length(template.format(words)) <= LONGEST - 5:
        words += f", on a {background} background"
    people = tuple(table.complete({**own, "background": background}, rng) for own in stated)
    width, height = canvas_of(count, way)
    return Team(template.format(words), people, place(count, rng, way), width, height, background)


def _state(table: Table, mentions: float, rng: np.random.Generator) -> dict[str, str]:
    """A subject and about so many attributes of one person; the background is the scene's, not theirs."""
    stated = {"subject": table.subjects[rng.integers(len(table.subjects))]}
    if stated["subject"] in GENDERED_SUBJECTS:
        stated["presentation"] = stated["subject"]
    chances = {name: chance for name, chance in table.mention.items() if name != "background"}
    scale = mentions / sum(chances.values())
    for name, chance in chances.items():
        if name in stated or rng.random() >= chance * scale:
            continue
        if name == "beard" and stated.get("presentation") != "man":
            continue
        if name == "clothes_color" and "clothes" not in stated:
            continue
        if name == "clothes":
            stated.pop("exposure", None)
        values = table.attributes[name]
        stated[name] = values[rng.integers(len(values))]
    return stated


def _length(words: str) -> int:
    return len(words.replace(",", " ,").replace(":", " :").split())
