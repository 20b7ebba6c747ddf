"""What can be said of a person and how: axes, values, the words that say them. TOML in, `Vocabulary` out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, final

from pydantic import Field

from counterpoise.errors import UsageError
from counterpoise.measure.cards import Card, make_card, nearest, read_text

PERSON = (
    "woman|women|man|men|person|people|player|players|team|group|boss|bosses|nurse|nurses|engineer|engineers"
    "|teacher|teachers|doctor|doctors|cleaner|cleaners|chef|chefs|student|students|artist|artists|ceo|ceos"
    "|director|lawyer|lawyers|scientist|scientists|couple|family|friends|crowd|squad|crew|board|surgeon|musician"
)
_GARMENT = "hoodie|blazer|overalls|striped shirt|tank top|strapless top|shirt|jersey|kit|dress|suit"
# "a white team jersey" is a white jersey.
_THING = r"(?:jerseys?|kits?|uniforms?|shirts?|shoes|clothes|photos?|rooms?|buses|bus|logos?|cars?|coats?)\b"
# Words that end what an adjective can belong to: "black and white photo of women" says nothing of skin.
_STOP = r"(?!(?:and|or|of|in|on|with|without|wearing|a|an|the|for|by)\b)"
_FILLER = rf"(?:{_STOP}[\w'-]+ ){{0,2}}"


@final
class Axis(Card):
    """One way in which people differ."""

    values: dict[str, tuple[str, ...]] = Field(description="a table: value = [the phrases that say it]")
    place: Literal["noun", "before", "after"] = Field(
        default="after", description='"noun", "before" (the noun) or "after"'
    )
    phrase: str = Field(default="{}", description="words with {} where the value stands")
    per_picture: bool = Field(default=False, description="true where it is counted in every picture")
    scene: bool = Field(default=False, description="true where it is said of the whole picture too")


@final
class Named(Card):
    """What makes a word a person's name."""

    titles: tuple[str, ...]
    names: tuple[str, ...]
    common: tuple[str, ...]
    places: tuple[str, ...]


@final
class History(Card):
    """Phrases of scenes whose people are known."""

    phrases: tuple[str, ...]


@final
class Vocabulary(Card):
    """A vocabulary file and guards.toml together."""

    name: str
    grammar: Literal["plain", "world"]
    closed: bool = Field(description="true where only the world's words may be used")
    person: str = Field(description="words with {} where a person's phrase stands")
    scene: str = Field(description="words with {group} and {prompt}")
    negative: str
    subjects: dict[str, str] = Field(description="a table: words of a prompt = what one person is called")
    vague: dict[str, tuple[str, ...]] = Field(description='a table: word = ["axis: value share, ..."]')
    axes: dict[str, Axis]
    named: Named
    history: History
    forbidden: dict[str, tuple[str, ...]] = Field(description="a table: kind = [words]")
    pronouns: dict[str, tuple[str, ...]] = Field(description="a table: presentation = [words]")

    def axis(self, name: str) -> Axis:
        """The axis of that name; UsageError E_SCENE_ATTRIBUTE for another."""
        if name not in self.axes:
            raise UsageError(
                f"no attribute {name!r:.60} in the vocabulary {self.name!r}; {nearest(name, self.axes)}",
                code="E_SCENE_ATTRIBUTE",
            )
        return self.axes[name]

    def stated(self, text: str) -> list[tuple[str, str, str]]:
        """(axis, value, the words) of everything that a text says of people, axis by axis."""
        return [
            (name, value, found[0].strip())
            for name, axis in self.axes.items()
            for value, phrases in axis.values.items()
            if (found := first_match(phrases, text)) is not None
        ]


SHIPPED = ("people", "world")


def load_vocabulary(name: str, *, over: Path | None = None) -> Vocabulary:
    """A shipped vocabulary, with the user's own TOML laid over it table by table.

    UsageError E_SCENE_WORDS for a name that is not shipped, a file that is no TOML, or a wrong key or value.
    """
    if name not in SHIPPED:
        raise UsageError(f"no vocabulary {name!r:.40}; {nearest(name, SHIPPED)}", code="E_SCENE_WORDS")
    content = _shipped("guards.toml") | _shipped(f"{name}.toml")
    where = f"vocabulary {name}"
    if over is not None:
        where = str(over)
        try:
            content = _laid_over(content, tomllib.loads(read_text(over)))
        except UsageError as error:
            raise UsageError(str(error), code="E_SCENE_WORDS", file=where) from None
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise UsageError(
                f"{over}: not valid TOML ({error}); correct that line", code="E_SCENE_WORDS", file=where
            ) from None
    try:
        return make_card(Vocabulary, content, where=where)
    except UsageError as error:
        raise UsageError(str(error), code="E_SCENE_WORDS", file=error.file) from None


def first_match(phrases: Iterable[str], text: str) -> re.Match[str] | None:
    """Where a text says one of these phrases, as whole words, whatever their case."""
    return next((found for phrase in phrases if (found := matcher(phrase).search(text))), None)


@cache
def matcher(phrase: str) -> re.Pattern[str]:
    """A vocabulary's phrase as a pattern; all but its {slots} is taken literally."""
    parts = re.split(r"(\{\w+\}\s?)", " ".join(phrase.split()))
    known = {
        "{person}": rf"{_FILLER}(?:{PERSON})(?!\s+{_THING})",
        "{any}": _FILLER,
        "{garment}": rf"(?:{_GARMENT})",
    }
    pattern = "".join(known.get(part.strip()) or re.escape(part) for part in parts)
    return re.compile(rf"(?<![\w-]){pattern}(?![\w-])", re.IGNORECASE)


def _shipped(file: str) -> dict[str, Any]:
    return tomllib.loads(files("counterpoise.scenes").joinpath("vocabularies", file).read_text("utf-8"))


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = _laid_over(made[key], value) if both else value
    return made
