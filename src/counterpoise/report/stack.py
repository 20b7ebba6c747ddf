"""A section of the page: many adapters at once, as `python -m benchmarks.stack` measured them.

In: its summary, a JSON file. Out: a `Section`: what is left of each adapter's effect and of the model, by how
many are stacked and how.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from counterpoise.errors import RefusedInputError
from counterpoise.report.charts import Bar, Drawing, bars
from counterpoise.report.lead import Section
from counterpoise.report.tables import Cell, Table

CHARTED = 4  # ways of stacking in the chart: the best of the most adapters, then those of most sizes
HEADS = (
    "adapters",
    "stacked as",
    "own effects kept",
    "following",
    "pictures",
    "bias",
    "time",
    "weights back",
)

Finite = Annotated[float, Field(allow_inf_nan=False)]


@final
class Row(BaseModel):
    """One stack.

    n: adapters in it. kept: mean share of their effects alone, over `measured` of them, with its standard
    error; None where none has one to keep. following_of_base: prompts obeyed, of the base's. distance: of
    explicit prompts' pictures from the base's, over that between two of the base's. bias_shift: mean total
    variation of planted shares from the base's. *_ms: a picture, mounted and without any.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    n: Annotated[int, Field(ge=1)]
    stack: str
    says: str
    kept: Finite | None
    kept_error: Finite | None
    measured: int
    following_of_base: Finite
    distance: Finite
    bias_shift: Finite
    mounted_ms: Finite
    base_ms: Annotated[Finite, Field(gt=0)]
    restored: bool


@final
class _Summary(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


def read_stack(path: Path) -> tuple[Row, ...]:
    """A summary's rows, by number; RefusedInputError E_STACK, one line, where the file is none."""
    try:
        rows = _Summary.model_validate_json(path.read_bytes()).rows
        return tuple(sorted(rows, key=lambda row: (row.n, row.stack)))
    except OSError as error:
        reason = f"{path}: {error.strerror}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{path}: {f'{where}: ' if where else ''}{first['msg']}"
    expected = "expected the stack.json of `python -m benchmarks.stack --out FOLDER`"
    raise RefusedInputError(f"{reason}; {expected}", code="E_STACK", file=str(path))


NOTES = (
    "own effects kept: mean share of what each does alone, with its standard error over adapters. following: "
    "explicit prompts obeyed, of the base's. pictures: how far explicit prompts' moved, over the distance "
    "between two of the base's. bias: mean total variation of the planted shares from the base's. time: a "
    "picture's, mounted, over the base's.",
)


def stack_section(rows: Sequence[Row]) -> Section:
    """What it does to adapters and to the model to stack so many."""
    back = sum(row.restored for row in rows)
    returned = f"after {back} of {len(rows)} stacks the weights were the base's, byte for byte"
    caption = "What is left of each adapter, and of the model, under so many"
    table = Table(caption, HEADS, [_cells(row) for row in rows], [*NOTES, returned])
    return Section("Many adapters at once", list(_prose(rows)), [table], list(_charts(rows)))


def _charts(rows: Sequence[Row]) -> Iterator[tuple[str, Drawing]]:
    told = [row for row in rows if row.kept is not None]
    counts = Counter(row.stack for row in told)
    ways = [best.stack] if (best := _best(told)) is not None else []
    arms = list(dict.fromkeys([*ways, *(stack for stack, _ in counts.most_common())]))[:CHARTED]
    told = [row for row in told if row.stack in arms]
    if told:
        label = "Chart: share of its own effect that an adapter keeps, by how many are stacked and how."
        words = "Share of its own effect that an adapter keeps; below nothing is drawn as nothing."
        yield words, bars([_bar(row) for row in told], arms=arms, axis="own effect kept", label=label)


def _prose(rows: Sequence[Row]) -> Iterator[str]:
    best = _best(rows)
    if best is None:
        return
    at = [row for row in rows if row.n == best.n and row.kept is not None]
    worst = min(at, key=lambda row: row.kept or 0.0)
    told = [
        f"{row.kept:.0%} and {row.following_of_base:.0%} ({row.says})"
        for row in ([best] if worst is best else [best, worst])
    ]
    what = f"{best.n} adapters at once, their own effects kept and prompt-following of the base's"
    yield f"{what}: {'; '.join(told)}."


def _best(rows: Sequence[Row]) -> Row | None:
    """Of the most adapters, the stack whose adapters and prompts are least lost; None where none tells."""
    most = max(row.n for row in rows) if rows else 0
    at = [row for row in rows if row.n == most and row.kept is not None]
    return max(at, key=lambda row: min(row.kept or 0.0, row.following_of_base)) if at else None


def _bar(row: Row) -> Bar:
    kept, error = row.kept or 0.0, row.kept_error or 0.0
    low, value, high = (min(1.0, max(0.0, end)) for end in (kept - error, kept, kept + error))
    return Bar(f"{row.n}", row.stack, value, low, high)


def _cells(row: Row) -> list[Cell]:
    kept = "-" if row.kept is None else f"{row.kept:.2f}"
    error = "" if row.kept_error is None else f"± {row.kept_error:.2f}, "
    back = Cell("✓ byte for byte", mark="yes") if row.restored else Cell("✗ differ", mark="no")
    return [
        Cell(str(row.n)),
        Cell(row.says, row.stack),
        Cell(kept, f"{error}{row.measured} counted"),
        Cell(f"{row.following_of_base:.3f}"),
        Cell(f"{row.distance:.2f}"),
        Cell(f"{row.bias_shift:.2f}"),
        Cell(f"{row.mounted_ms / row.base_ms:.2f}"),
        back,
    ]
