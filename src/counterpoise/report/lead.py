"""Sections of a caller's own, shown before an audit's: a heading, sentences, tables, charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from counterpoise.report.charts import Drawing
from counterpoise.report.tables import Table


@final
@dataclass(frozen=True, slots=True)
class Section:
    """title: short. prose: a sentence or two a paragraph. charts: (what it shows, the drawing) pairs."""

    title: str
    prose: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[tuple[str, Drawing]] = ()
