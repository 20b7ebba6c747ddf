"""`counterpoise adapter ...`: what can be done with adapter files, with or without a model."""

from __future__ import annotations

import typer

from counterpoise.cli import adapter_algebra, adapter_files, adapter_fold

app = typer.Typer(no_args_is_help=True)
adapter_files.register(app)
adapter_algebra.register(app)
adapter_fold.register(app)
