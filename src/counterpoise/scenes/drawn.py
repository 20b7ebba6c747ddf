"""A plan as something to look at before anything is drawn: SVG for a browser, letters for a terminal."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from counterpoise.scenes.plan import Plan

_FILLS = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#bbbbbb",
)  # Tol, safe for colour-blind
_COLUMNS = 72


def plan_svg(plan: Plan) -> str:
    """The canvas with every person's box, id and prompt; user text is escaped, no scripts, no links."""
    width, height = plan.canvas.width, plan.canvas.height
    size = max(width, height) / 40
    title = _visible(plan.scene.prompt)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label={quoteattr(title)} font-family="Helvetica, Arial, sans-serif" font-size="{size:.1f}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff" stroke="#333333"/>',
    ]
    for i, person in sorted(enumerate(plan.people), key=lambda item: item[1].z):
        left, top, right, bottom = plan.pixels(person)
        told = _visible(person.prompt)
        lines.append(
            f'<g><title>{escape(f"{person.id}: {told}")}</title><rect x="{left}" y="{top}" '
            f'width="{right - left}" height="{bottom - top}" fill="{_FILLS[i % len(_FILLS)]}" '
            f'fill-opacity="0.25" stroke="{_FILLS[i % len(_FILLS)]}"/>'
        )
        words = [person.id, *(_visible(value) for value in person.attributes.values())]
        for row, word in enumerate(words, 1):
            y = top + row * size * 1.2
            if y < bottom:
                lines.append(
                    f'<text x="{left + size * 0.4:.1f}" y="{y:.1f}" fill="#111111">{escape(word)}</text>'
                )
        lines.append("</g>")
    return "\n".join([*lines, "</svg>", ""])


def plan_text(plan: Plan) -> list[str]:
    """The boxes as letters, 72 columns wide, and a line for each person."""
    rows = max(6, min(24, round(_COLUMNS * plan.canvas.height / plan.canvas.width / 2)))
    grid = [[" "] * _COLUMNS for _ in range(rows)]
    for person in sorted(plan.people, key=lambda each: each.z):
        left, top, right, bottom = person.box
        x0, x1 = int(left * _COLUMNS), max(int(left * _COLUMNS) + 2, round(right * _COLUMNS) - 1)
        y0, y1 = int(top * rows), max(int(top * rows) + 1, round(bottom * rows) - 1)
        _frame(grid, (x0, y0, min(x1, _COLUMNS - 1), min(y1, rows - 1)), person.id)
    edge = "+" + "-" * _COLUMNS + "+"
    shown = [edge, *("|" + "".join(row) + "|" for row in grid), edge]
    return [*shown, *(f"{person.id}  {_visible(person.prompt)}" for person in plan.people)]


def _frame(grid: list[list[str]], box: tuple[int, int, int, int], name: str) -> None:
    left, top, right, bottom = box
    for y in range(top, bottom + 1):
        for x in range(left, right + 1):
            edge_y, edge_x = y in (top, bottom), x in (left, right)
            grid[y][x] = "+" if edge_x and edge_y else "-" if edge_y else "|" if edge_x else " "
    for i, letter in enumerate(name[: right - left - 1]):
        grid[min(top + 1, bottom)][left + 1 + i] = letter


def _visible(text: str) -> str:
    """What cannot be seen (escape sequences, changes of direction) written out; XML could not hold all
    of it.
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )
