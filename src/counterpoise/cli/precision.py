"""The option that says in which type a model draws, for every verb that audits."""

from __future__ import annotations

from typing import Annotated

import typer

Dtype = Annotated[
    str,
    typer.Option(
        help="float32, bfloat16, or auto: bfloat16 where the machine has instructions for it. A run that was "
        "begun on another machine goes on in the type that it names."
    ),
]
