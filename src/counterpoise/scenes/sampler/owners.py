"""Whose each image token is, at any attention resolution: one person's, or the background's.

In: a scene and a grid (h, w) of tokens. Out: owners, and how strongly each person's own prompt holds there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.scene import Scene

BACKGROUND = -1
CELLS = 2  # of the coarsest grid that a box must measure at least, each way
Grid = tuple[int, int]


def owners(scene: Scene, grid: Grid) -> Tensor:
    """int64 (h * w,): the person's number from 0, or BACKGROUND; a token is where its centre lies.

    Where boxes overlap the highest z has the token, at equal z the box whose centre is nearest, so that the
    order of people means nothing.
    """
    down, across = _centres(grid)
    best = torch.full(grid, BACKGROUND, dtype=torch.int64)
    height = torch.full(grid, -(2**62), dtype=torch.int64)
    near = torch.full(grid, torch.inf, dtype=torch.float64)
    boxes = scene.fractions()
    # The last tie, two boxes about one centre, goes by the boxes' own numbers.
    for i in sorted(range(len(boxes)), key=lambda i: boxes[i]):
        left, top, right, bottom = boxes[i]
        inside = (across >= left) & (across < right) & (down >= top) & (down < bottom)
        away_x = (across - (left + right) / 2) * scene.width
        away_y = (down - (top + bottom) / 2) * scene.height
        away = away_x.square() + away_y.square()
        z = scene.people[i].z
        mine = inside & ((z > height) | ((z == height) & (away < near)))
        best[mine], height[mine], near[mine] = i, z, away[mine]
    return best.flatten()


def holds(scene: Scene, grid: Grid, *, feather: float) -> Tensor:
    """float32 (h * w,): how strongly the owner's prompt holds, 0 on the background, 1 well inside a box.

    It falls to 0 towards those edges of the box that are not the canvas's, over `feather` times the shorter
    side of the box; 0 is a sharp edge.
    """
    down, across = _centres(grid)
    owner = owners(scene, grid).reshape(grid)
    found = torch.zeros(grid, dtype=torch.float64)
    for i, (left, top, right, bottom) in enumerate(scene.fractions()):
        width = min((right - left) * scene.width, (bottom - top) * scene.height) * feather
        ramp = torch.ones(grid, dtype=torch.float64)
        if width > 0:
            for away, edge in (
                ((across - left) * scene.width, left > 1e-9),
                ((right - across) * scene.width, right < 1 - 1e-9),
                ((down - top) * scene.height, top > 1e-9),
                ((bottom - down) * scene.height, bottom < 1 - 1e-9),
            ):
                if edge:
                    ramp = torch.minimum(ramp, (away / width).clamp(0, 1))
        found = torch.where(owner == i, ramp, found)
    return found.flatten().float()


def check_cells(scene: Scene, coarsest: Grid) -> None:
    """UsageError E_BOX for a box under CELLS cells of the coarsest grid, or one that others hide there."""
    cell = (scene.width / coarsest[1], scene.height / coarsest[0])
    for number, (left, top, right, bottom) in enumerate(scene.fractions(), 1):
        sides = ((right - left) * scene.width, (bottom - top) * scene.height)
        if any(side < CELLS * own - 1e-6 for side, own in zip(sides, cell, strict=True)):
            reason = (
                f"box of person {number} measures {sides[0]:g} x {sides[1]:g} pixels, under {CELLS} cells"
            )
            reason += f" of the coarsest attention ({cell[0]:g} x {cell[1]:g} pixels each)"
            least = f"{CELLS * cell[0]:g} x {CELLS * cell[1]:g} pixels"
            raise UsageError(f"{reason}; make it {least} or more, or the canvas larger", code="E_BOX")
    seen = set(owners(scene, coarsest).tolist())
    for i in range(len(scene.people)):
        if i not in seen:
            reason = f"box of person {i + 1} is hidden by others at the coarsest attention"
            raise UsageError(f"{reason} ({coarsest[0]} x {coarsest[1]} tokens); move it", code="E_BOX")


def _centres(grid: Grid) -> tuple[Tensor, Tensor]:
    down = (torch.arange(grid[0], dtype=torch.float64) + 0.5) / grid[0]
    across = (torch.arange(grid[1], dtype=torch.float64) + 0.5) / grid[1]
    return down[:, None].expand(grid), across[None, :].expand(grid)
