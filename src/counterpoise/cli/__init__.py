"""The command line: one file a verb; each parses, calls one library function and shows what came back."""

from counterpoise.cli.app import main

__all__ = ["main"]
