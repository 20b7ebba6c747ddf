"""Evidence of two ways of drawing in, what changed between them out: paired by prompt and seed.

with read_run("runs/a") as a, read_run("runs/b") as b:
    (found,) = compare([("runs/a", a), ("runs/b", b)])
"""

from counterpoise.audit.comparing.compare import Change, Comparison, compare, compare_sides
from counterpoise.audit.comparing.sides import Side
from counterpoise.audit.comparing.words import compare_markdown, lines

__all__ = ["Change", "Comparison", "Side", "compare", "compare_markdown", "compare_sides", "lines"]
