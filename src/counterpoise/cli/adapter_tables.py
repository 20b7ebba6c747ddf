"""The adapter verbs' reports as rich tables; names from files are shown as text, never as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Column, Table
from rich.text import Text

from counterpoise.errors import shown

if TYPE_CHECKING:
    from counterpoise.lora.algebra import Interference
    from counterpoise.lora.algebra.report import Kept

MOST_ROWS = 40
"""A model has hundreds of layers: those with the largest error are shown, `--json` has all."""


def kept(layers: Mapping[str, Kept], distances: Mapping[str, float] | None = None) -> Table:
    """One row a layer, the largest errors first: ranks before and after, error, distance."""
    order = sorted(layers, key=lambda path: (-layers[path].error, path))
    rest = f"{len(order) - MOST_ROWS} more with smaller errors: --json" if len(order) > MOST_ROWS else None
    table = Table(_name("layer"), "rank", "of", "error", *(["distance"] if distances else []), caption=rest)
    for path in order[:MOST_ROWS]:
        row = layers[path]
        apart = [f"{distances[path]:.3g}"] if distances else []
        table.add_row(Text(shown(path)), str(row.rank), str(row.before), f"{row.error:.3g}", *apart)
    return table


def leftovers(found: Mapping[str, str]) -> list[str]:
    """One line for each changed tensor that the adapter does not hold."""
    lines = [f"left out {shown(name)}: {reason}" for name, reason in found.items()]
    return lines[:MOST_ROWS] + (
        [f"and {len(lines) - MOST_ROWS} more: --json"] if len(lines) > MOST_ROWS else []
    )


def interference(found: Interference, names: Sequence[str]) -> list[Table | str]:
    """The members, then each pair of them, over all layers."""
    overall = found.overall
    members = Table("", _name("adapter"), "strength", "share of energy", "suggested strength")
    total = sum(overall.energies) or 1.0
    for i, name in enumerate(names):
        share = f"{overall.energies[i] / total:.1%}"
        numbers = f"{found.strengths[i]:.3g}", share, f"{found.suggested[i]:.3g}"
        members.add_row(str(i + 1), Text(shown(name)), *numbers)
    pairs = Table(
        "pair", "cosine", "outputs shared", "inputs shared", caption="shared: times what chance gives"
    )
    for i in range(len(names)):
        for j in range(i):
            output = _times(overall.output_overlap[j][i], overall.output_chance[j][i])
            inputs = _times(overall.input_overlap[j][i], overall.input_chance[j][i])
            pairs.add_row(f"{j + 1} {i + 1}", _number(overall.cosine[j][i]), output, inputs)
    ratio = f"energy of the sum / sum of energies: {_number(overall.energy_ratio)} (1: orthogonal)"
    blocks: list[Table | str] = [members, *([pairs] if len(names) > 1 else []), ratio]
    for i, disturbance in enumerate(overall.disturbance or ()):
        blocks.append(f"on the inputs of {i + 1}: the others add {_number(disturbance)} of its own energy")
    return blocks


def _name(header: str) -> Column:
    """A column of names: broken over lines where they are long, where rich would cut them."""
    return Column(header, overflow="fold")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _times(value: float | None, chance: float | None) -> str:
    return "-" if value is None or not chance else f"{value:.3f} ({value / chance:.1f}x)"
