"""Errors that teach, each with the exit code that the command line ends with.

Every refusal that a user can cause is one of these: one line that names what is wrong, the value seen,
what was expected, where, and the next step. Anything else that escapes is a bug (exit 70).
"""

from __future__ import annotations

from typing import ClassVar, final


class CounterpoiseError(Exception):
    """A refusal with a stable code and exit status; `str(error)` is one line fit for a terminal."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, code: str, file: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code
        self.file = file

    def to_dict(self) -> dict[str, str | None]:
        """The error as the command line prints it under `--json`."""
        return {"code": self.code, "file": self.file, "detail": str(self)}


@final
class UsageError(CounterpoiseError):
    """The request itself is wrong: a spec, an option, a name. Exit 2."""

    exit_code = 2


@final
class InconclusiveError(CounterpoiseError):
    """The evidence does not decide the question that was asked. Exit 3."""

    exit_code = 3


@final
class RefusedInputError(CounterpoiseError):
    """A file (adapter, model, picture) is damaged, unsafe or does not fit. Exit 4."""

    exit_code = 4


@final
class IncompleteError(CounterpoiseError):
    """The work stopped before its end and can be resumed. Exit 5."""

    exit_code = 5


@final
class EnvironmentLackError(CounterpoiseError):
    """The machine lacks something: disk, memory, an optional package. Exit 6."""

    exit_code = 6


@final
class StateError(CounterpoiseError):
    """A move that the host's present state does not allow. Exit 2."""

    exit_code = 2


def shown(text: object, limit: int = 120) -> str:
    """`text` made safe for one line of a terminal: control, bidi and invisible characters are escaped."""
    raw = str(text)
    cut = raw if len(raw) <= limit else f"{raw[:limit]}... ({len(raw)} characters)"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut
    )
