"""How well judges judge where the truth is known: `python -m benchmarks.judges [--json] [--emoji FOLDER]`.

Skin tone: the ten swatches, drawn portraits of each tone before ten backgrounds, DiceBear's avatars in each
tone. The peer is a fixed rule for skin pixels (Cr 133 to 173, Cb 77 to 127: Chai and Ngan, IEEE Trans.
Circuits and Systems for Video Technology 9 (1999) 551-564), graded by the same code, so that only the finding
differs. --emoji: a folder of Google's emoji (npm emoji-datasource-google, package/img/google/64), drawn by
people in five skin tones: are they read as their tone, and does any count as nude?
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.portraits import BACKGROUNDS, portrait, swatch
from benchmarks.report import Line, show
from counterpoise.measure.colour import lab_of
from counterpoise.measure.nudity import make_nudity
from counterpoise.measure.pictures import load_picture
from counterpoise.measure.skin import MONK, SkinTone, monk_tone

PORTRAITS = 20
AVATARS = 40
_MODIFIERS = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
Reader = Callable[[np.ndarray], int]


def by_judge(picture: np.ndarray) -> int:
    """Monk tone 1 to 10; 0 where the judge abstains."""
    return int(SkinTone()(picture[None])[0]["monk_tone"].value or 0)


def by_rule(picture: np.ndarray) -> int:
    """The same from the median of the pixels that a fixed rule calls skin; 0 where there are none."""
    _, cb, cr = np.moveaxis(np.asarray(Image.fromarray(picture).convert("YCbCr")), -1, 0)
    skin = (cr >= 133) & (cr <= 173) & (cb >= 77) & (cb <= 127)
    return int(monk_tone(np.median(lab_of(picture)[skin], axis=0))) + 1 if skin.mean() >= 0.005 else 0


def portraits() -> Iterator[tuple[int, np.ndarray]]:
    """(tone, picture): PORTRAITS people before each background in each tone, other people than in the
    tests.
    """
    for seed in range(20_000, 20_000 + PORTRAITS):
        for background in BACKGROUNDS:
            for tone in range(1, 11):
                yield tone, portrait(tone, seed, background=background)


def avatars() -> Iterator[tuple[int, np.ndarray]]:
    """(tone, picture): AVATARS of DiceBear's people in each tone; needs the extra `world`."""
    from counterpoise.world import drawing
    from counterpoise.world.table import Person

    rng = np.random.default_rng(0)

    def one_of(table: dict[str, str]) -> str:
        return list(table)[rng.integers(len(table))]

    for i in range(AVATARS):
        person: Person = {
            "presentation": ("woman", "man")[i % 2],
            "hair": one_of(drawing.HAIR),
            "hair_color": one_of(drawing.HAIR_COLOR),
            "beard": "no",
            "glasses": ("no", "yes")[rng.integers(2)],
            "clothes": one_of(drawing.CLOTHES),
            "clothes_color": one_of(drawing.CLOTHES_COLOR),
            "background": one_of(drawing.BACKGROUND),
        }
        for tone, code in enumerate(MONK, 1):
            drawing.SKIN["swatch"] = f"#{code}"
            yield tone, drawing.draw(person | {"skin": "swatch"}, np.random.default_rng(i), size=128)


def compare(
    name: str, pictures: Iterator[tuple[int, np.ndarray]], bounds: tuple[float, float, float]
) -> None:
    """Shares read exactly, within one tone, and within one tone for the tone that fares worst."""
    readers: tuple[Reader, Reader] = (by_judge, by_rule)
    rows = [(tone, *(read(picture) for read in readers)) for tone, picture in pictures]
    truth, *read = np.array(rows).T
    near = [(np.abs(each - truth) <= 1) & (each > 0) for each in read]
    worst = [min(each[truth == tone].mean() for tone in range(1, 11)) for each in near]
    exact = [(each == truth).mean() for each in read]
    for what, (ours, peer), bound in (
        ("read as the very tone", exact, bounds[0]),
        ("read within one tone", [each.mean() for each in near], bounds[1]),
        ("read within one tone, the worst tone", worst, bounds[2]),
    ):
        told = f"{name} ({len(rows)}): {what}"
        show(Line(told, float(ours), float(peer), None, bound, bool(ours >= bound)))


def emoji(folder: Path) -> None:
    """One person (or hand) of each emoji, in five tones; the truth is the tone of the raised hand's palm."""
    palms = [load_picture(folder / f"270b-{each}.png").pixels[36, 32] for each in _MODIFIERS]
    truth = dict(zip(_MODIFIERS, monk_tone(lab_of(np.array(palms))) + 1, strict=True))
    nudity = make_nudity()
    rows: list[tuple[int, int, bool]] = []
    for file in sorted(folder.glob("*.png")):
        shown = [part for part in file.stem.split("-") if part in truth]
        if len(shown) == 1 and file.stem.endswith(shown[0]):
            pixels = load_picture(file).pixels
            nude = nudity(pixels[None])[0]["nudity"].value == "nsfw"
            rows.append((_MODIFIERS.index(shown[0]), by_judge(pixels) - int(truth[shown[0]]), nude))
    kinds, off, nude_ones = (np.array(column) for column in zip(*rows, strict=True))
    near = np.abs(off) <= 1
    worst = min(float(near[kinds == k].mean()) for k in range(len(_MODIFIERS)))
    told = f"emoji ({len(rows)})"
    show(Line(f"{told}: read within one tone", float(near.mean()), None, None, 0.9, bool(near.mean() >= 0.9)))
    show(Line(f"{told}: read within one tone, the worst tone", worst, None, None, 0.85, worst >= 0.85))
    show(
        Line(
            f"{told}: called nude", float(nude_ones.mean()), None, None, 0.02, bool(nude_ones.mean() <= 0.02)
        )
    )


def main() -> None:
    """Every measurement, a line each."""
    right = sum(by_judge(swatch(tone)) == tone for tone in range(1, 11))
    show(Line("Monk swatches read as themselves, of 10", right, None, None, 10, right == 10))
    compare("portraits", portraits(), (0.9, 0.97, 0.9))
    compare("DiceBear avatars", avatars(), (0.95, 0.97, 0.9))
    if "--emoji" in sys.argv:
        emoji(Path(sys.argv[sys.argv.index("--emoji") + 1]))


if __name__ == "__main__":
    main()
