"""`counterpoise adapter ...`: what can be done with adapter files without a model."""

from __future__ import annotations

import typer

from counterpoise.cli import adapter_algebra

app = typer.Typer(no_args_is_help=True)
adapter_algebra.register(app)
