"""`counterpoise scene ...`: pictures of several people, planned person by person, drawn, audited."""

from __future__ import annotations

import typer

from counterpoise.cli import scene_audit, scene_draw, scene_plan

app = typer.Typer(no_args_is_help=True)
scene_plan.register(app)
scene_draw.register(app)
scene_audit.register(app)
