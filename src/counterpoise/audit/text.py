"""Text files that a user names: decoded by their byte order mark, never anything but regular files.

The spec itself, and files beside it that it names. Refusals are one line; a prompt's has its line number.
"""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path

from counterpoise.audit.fields import MAX_PROMPT
from counterpoise.errors import UsageError

MAX_BYTES = 4_000_000
# Longest mark first: UTF-32's little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_bytes(path: Path, what: str) -> bytes:
    """A regular file of at most 4 MB; UsageError E_SPEC_FILE otherwise. what: "spec", for the message."""
    file = str(path)
    try:
        # A FIFO or a device would block or never end: only regular files are opened.
        if path.exists() and not path.is_file():
            raise UsageError(
                f"{path}: not a regular file; name the {what}'s file", code="E_SPEC_FILE", file=file
            )
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"{path}: cannot read the {what} ({reason}); check the path", code="E_SPEC_FILE", file=file
        ) from None
    if len(raw) > MAX_BYTES:
        raise UsageError(
            f"{path}: more than {MAX_BYTES} bytes; is it a {what}?", code="E_SPEC_FILE", file=file
        )
    return raw


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, or UTF-16 or -32 with its mark; UsageError names the byte that is not."""
    raw = read_bytes(path, what)
    mark, encoding = next(((m, e) for m, e in _MARKS if raw.startswith(m)), (b"", "utf-8"))
    try:
        return raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not {encoding.upper()} at byte {len(mark) + error.start} ({error.reason}); "
            "save it as UTF-8",
            code="E_SPEC_ENCODING",
            file=str(path),
        ) from None


def read_prompts(path: Path) -> list[str]:
    """One prompt a line (LF or CRLF), each as it stands: no comments, no stripping.

    UsageError E_PROMPTS with the line's number for a blank line, a repeated or overlong prompt, no prompts.
    """
    lines = read_text(path, "list of prompts").split("\n")
    if lines[-1] == "":  # the last line's own end
        lines.pop()
    first: dict[str, int] = {}
    for number, line in enumerate((line.removesuffix("\r") for line in lines), 1):
        problem = None
        if not line.strip():
            problem = "is blank: expected a prompt; write one or delete the line"
        elif line in first:
            problem = f"repeats line {first[line]} ({line!r:.60}): expected each prompt once; delete one"
        elif len(line) > MAX_PROMPT:
            problem = f"is longer than {MAX_PROMPT} characters; shorten it"
        if problem:
            raise UsageError(f"{path}: line {number} {problem}", code="E_PROMPTS", file=str(path))
        first[line] = number
    if not first:
        raise UsageError(
            f"{path}: holds no prompts: expected one a line; add some", code="E_PROMPTS", file=str(path)
        )
    return list(first)


def beside(folder: Path, name: str, key: str) -> Path:
    """The file that a spec in `folder` names; UsageError if it is not below that folder.

    A spec may come from somebody else: it must not have files read from elsewhere into a report.
    """
    path = folder / name
    try:
        inside = not Path(name).is_absolute() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # a loop of links; a NUL
        inside = False
    if not inside or name.startswith("~"):
        raise UsageError(
            f"{key} is {name!r:.80}: expected a file in the spec's own folder, or below it; copy it there",
            code="E_SPEC_FILE",
        )
    return path


def read_toml(path: Path, what: str, *, docs: str, code: str) -> dict[str, object]:
    """A TOML file's content; UsageError, one line, for a file that cannot be read, or (`code`) is not TOML.

    what: "spec", "policy". docs: the page that shows one.
    """
    text = read_text(path, what)
    try:
        return tomllib.loads(text)
    except RecursionError:
        said = f"nested too deeply to be a {what}; see {docs}"
    except ValueError as error:
        lines = text.count("\n") + 1
        where = str(error).replace("at end of document", f"at line {lines}, the end of the file")
        said = f"not valid TOML: {where}; correct that line (see {docs})"
    raise UsageError(f"{path}: {said}", code=code, file=str(path))
