"""The `counterpoise` command: its verbs, and how every error ends.

Exit codes: 0 done, 1 a bar was not met, 2 usage, 3 undecided, 4 input refused, 5 incomplete but resumable,
6 the machine lacks something, 70 a bug of ours, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from counterpoise.cli import (
    adapter,
    audit,
    compare,
    demo,
    export,
    gate,
    measure,
    repair,
    report,
    scene,
    verify,
    world,
)
from counterpoise.errors import CounterpoiseError

app = typer.Typer(
    name="counterpoise",
    help="Find what a text-to-image model's prompts are biased towards, repair it, prove the repair.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(world.app, name="world", help="The embedded model of known bias: draw, check, train it anew.")
app.add_typer(
    adapter.app, name="adapter", help="LoRA files: inspect, convert, compose, resize, extract, fold."
)
app.add_typer(
    scene.app,
    name="scene",
    help="Group pictures in exact proportions: planned, drawn and audited person by person.",
)
app.add_typer(measure.app, name="measure", help="Judges of pictures: read, label by people, calibrate.")
app.command("demo")(demo.demo)
app.command("audit")(audit.audit)
app.command("repair")(repair.repair)
app.command("report")(report.report)
app.command("verify")(verify.verify)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("gate")(gate.gate)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options that hold for every verb."""
    if debug:
        os.environ["COUNTERPOISE_DEBUG"] = "1"


def main() -> None:
    """Runs the command and turns every error into one line on stderr and an exit code."""
    wants_json = "--json" in sys.argv
    for theirs in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):  # read when they are first imported
        os.environ.setdefault(theirs, "error")
    try:
        app(standalone_mode=True)
    except CounterpoiseError as error:
        _end(error, error.exit_code, error.to_dict(), wants_json)
    except KeyboardInterrupt as error:
        line = "interrupted; the same command goes on from here"
        _end(error, 130, {"code": "E_INTERRUPTED", "file": None, "detail": line}, wants_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError as error:
        line = "out of memory; close other programs or use a smaller batch"
        _end(error, 6, {"code": "E_MEMORY", "file": None, "detail": line}, wants_json)
    except OSError as error:
        detail = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
        _end(error, 6, {"code": "E_OS", "file": error.filename, "detail": detail}, wants_json)
    except Exception as error:
        detail = f"{type(error).__name__}: {error} (a bug of ours; run with --debug and report it)"
        _end(error, 70, {"code": "E_INTERNAL", "file": None, "detail": detail}, wants_json)


def _end(error: BaseException, exit_code: int, said: dict[str, str | None], wants_json: bool) -> None:
    if os.environ.get("COUNTERPOISE_DEBUG"):
        raise error
    detail = " ".join(str(said["detail"]).split())
    if wants_json:
        sys.stdout.write(json.dumps({"error": {**said, "detail": detail}}) + "\n")
    sys.stderr.write(f"counterpoise: {detail} [{said['code']}]\n")
    sys.exit(exit_code)
