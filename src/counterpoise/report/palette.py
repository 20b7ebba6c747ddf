"""Colours: one an arm through the whole page, in a light and a dark form that CSS swaps.

Charts are drawn in the light colours; the style sheet maps each to a variable that dark mode redefines.
Before the repair is warm, after it is cool, so that the pairs that should agree (base and restored,
repaired and folded) share a hue. Orange against blue is told apart in every common colour blindness.
"""

from __future__ import annotations

from collections.abc import Iterable

INK = "#1d2329"
MUTED = "#59636e"
GRID = "#dfe3e7"
ALARM = "#a40e4c"

# (light form on white, dark form on near-black); each at least 3:1 against its ground.
ARM_COLOURS: tuple[tuple[str, str], ...] = (
    ("#b23c06", "#f08a4b"),
    ("#0a58a0", "#5aa9f0"),
    ("#3b8fd0", "#a3d0f7"),
    ("#d57717", "#f9c08b"),
    ("#007a5a", "#3cc79b"),
    ("#8a4fa8", "#c99be0"),
    ("#6b6f1a", "#c3c75c"),
    ("#5c6570", "#aab4be"),
)
_FIXED = {"base": 0, "repaired": 1, "folded": 2, "restored": 3}
# Names are CSS variables; values are their light and dark forms.
_NEUTRALS = {
    "ink": (INK, "#e8eaed"),
    "muted": (MUTED, "#a3adb8"),
    "grid": (GRID, "#343b43"),
    "alarm": (ALARM, "#ff7aa8"),
}


def slots(arms: Iterable[str]) -> dict[str, int]:
    """Each arm -> its place in ARM_COLOURS: the known arms have fixed places, others follow in order."""
    free = len(_FIXED)
    places: dict[str, int] = {}
    for arm in dict.fromkeys(arms):
        if arm in _FIXED:
            places[arm] = _FIXED[arm]
        else:
            places[arm] = free % len(ARM_COLOURS)
            free += 1
    return places


def style() -> str:
    """CSS that defines every colour for light, dark and print, and recolours the charts' marks."""
    names = {**_NEUTRALS, **{f"arm-{i}": pair for i, pair in enumerate(ARM_COLOURS)}}
    light = "".join(f"--{name}:{pair[0]};" for name, pair in names.items())
    dark = "".join(f"--{name}:{pair[1]};" for name, pair in names.items())
    rules = [f":root{{{light}}}", f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"]
    for name, (shade, _) in names.items():
        rules.append(f'.chart [fill="{shade}"]{{fill:var(--{name})}}')
        rules.append(f'.chart [stroke="{shade}"]{{stroke:var(--{name})}}')
    rules += [f".arm-{i}{{--arm:var(--arm-{i})}}" for i in range(len(ARM_COLOURS))]
    return "\n".join(rules)
