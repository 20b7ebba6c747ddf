"""What a user's text says by itself: attributes that win over any quota, vague words, and reasons to leave
it.

Nothing is ever inferred from a name or a picture. The text is only matched, never followed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, final

from counterpoise.errors import UsageError
from counterpoise.scenes.vocabulary import PERSON, Vocabulary, first_match, matcher

MAX_PROMPT = 2000
V = TypeVar("V")
_NUMBERS = {
    word: number
    for number, word in enumerate(
        (
            *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
            *("twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
        ),
        1,
    )
}
_COUNT = re.compile(
    rf"(?<![\w.,/-])(\d{{1,9}}|{'|'.join(_NUMBERS)})\s+(?:[a-z'-]+\s+){{0,3}}?(?:{PERSON})(?![\w-])", re.I
)
# One person, unless the noun is a plural or a group's.
_GROUP = "team|group|crew|squad|crowd|board|family|couple|people|friends|women|men"
_ONE = re.compile(
    rf"\b(?:an?|one)\s+(?:[\w'-]+\s+){{0,3}}?(?!(?:{_GROUP})\b)(?:{PERSON})\b(?<!s)(?!\s+(?:{_GROUP})\b)",
    re.I,
)
_YEAR = re.compile(r"(?<![\w.])1[0-8]\d\d(?:s\b|\b)|(?<![\w.])19[0-4]\d(?:s\b|\b)|\b1\dth[ -]century\b", re.I)


@final
@dataclass(frozen=True, slots=True)
class Told:
    """What a prompt says.

    people: how many it counts, if it counts them once. stated: axis -> values that it names itself. single:
    the axes that it names of one person only ("a female boss"). vague: word -> the shares that it is taken
    for, as text. subject: what one of the people is called, "" where the text names nobody or several. scene:
    the text without what is said of persons.
    """

    people: int | None
    stated: dict[str, tuple[str, ...]]
    single: frozenset[str]
    vague: dict[str, tuple[str, ...]]
    subject: str
    scene: str


def read_prompt(prompt: str, vocabulary: Vocabulary) -> Told:
    """What the user's text says, in this vocabulary; UsageError E_SCENE_PROMPT for a blank or overlong
    text.
    """
    _check(prompt)
    stated: dict[str, list[str]] = {}
    for axis, value, _ in vocabulary.stated(prompt):
        stated.setdefault(axis, []).append(value)
    return Told(
        people=counted_people(prompt),
        stated={axis: tuple(values) for axis, values in stated.items()},
        vague=_vague(prompt, vocabulary),
        single=frozenset(axis for axis, _, words in vocabulary.stated(prompt) if _of_one(words, prompt)),
        subject=_subject(prompt, vocabulary),
        scene=_without_people(prompt, vocabulary),
    )


def _check(prompt: str) -> None:
    problem = None
    if not prompt.strip():
        problem = "is blank: say what the picture shows"
    elif len(prompt) > MAX_PROMPT:
        problem = f"has {len(prompt)} characters: expected at most {MAX_PROMPT}; shorten it"
    elif any("\ud800" <= c <= "\udfff" for c in prompt):
        problem = "is not Unicode text (a lone surrogate); write it again"
    if problem:
        raise UsageError(f"the prompt {problem}", code="E_SCENE_PROMPT")


def number_word(n: int) -> str:
    """5 as "five"; figures above sixteen."""
    return next((word for word, number in _NUMBERS.items() if number == n), str(n))


def counted_people(prompt: str) -> int | None:
    """The number that the text gives its people, if it gives one number only."""
    found = {_NUMBERS.get(n.lower()) or int(n) for n in _COUNT.findall(prompt)}
    return found.pop() if len(found) == 1 else None


def _subject(prompt: str, vocabulary: Vocabulary) -> str:
    """What all of the people are called: nothing where some are one thing and some another."""
    found, rest = set(), prompt
    for words, subject in _longest_first(vocabulary.subjects):
        if first_match([words], rest):
            found.add(subject)
            rest = matcher(words).sub(" ", rest)
    return found.pop() if len(found) == 1 else ""


def _of_one(words: str, prompt: str) -> bool:
    """Whether a text says these words of a single person: "a female boss", but not "a female team"."""
    return any(words.lower() in found[0].lower() for found in _ONE.finditer(prompt))


def _vague(prompt: str, vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    rest = prompt
    for word, shares in _longest_first(vocabulary.vague):
        if first_match([word], rest):
            found[word] = shares
            rest = matcher(word).sub(" ", rest)  # "mixed-gender" is not "mixed" as well
    return found


def reason_to_leave(prompt: str, vocabulary: Vocabulary) -> str:
    """Why the people of this text are to be drawn as the text has them; "" where nothing says so."""
    if name := _named(prompt, vocabulary):
        return f"it names a person ({name!r}), who is drawn as who they are"
    if found := first_match(vocabulary.history.phrases, prompt) or _YEAR.search(prompt):
        return f"{found[0]!r} is a scene whose people history has fixed"
    return ""


def _named(prompt: str, vocabulary: Vocabulary) -> str:
    """A name as it stands in the text: a known one, a title with a name, or two capitalised words."""
    named = vocabulary.named
    words = re.findall(r"[^\s,;:!?()\"]+", prompt)
    plain = [re.sub(r"['\u2019]s$|\.$", "", word) for word in words]
    for i, word in enumerate(plain):
        if word in named.names:
            return word
        # A name goes on at once: in "Anna, Maria" a comma is between two persons, each of one word.
        following = plain[i + 1] if i + 1 < len(plain) and f"{words[i]} {words[i + 1]}" in prompt else ""
        if following[:1].isupper() and {word.capitalize(), words[i].capitalize()} & set(named.titles):
            return f"{word} {following}"
        if not (_is_capitalised(word) and _is_capitalised(following)):
            continue
        after_place = i > 0 and plain[i - 1].lower() in named.places
        if not after_place and not {word, following} & set(named.common):
            return f"{word} {following}"
    return ""


def _is_capitalised(word: str) -> bool:
    return len(word) > 1 and word[0].isupper() and word[1:].lower() == word[1:] and word[0].isalpha()


def _without_people(prompt: str, vocabulary: Vocabulary) -> str:
    """The text less vague words, counts and what it states of persons: what a scene's own prompt may say."""
    rest = prompt
    for word, _ in _longest_first(vocabulary.vague):
        rest = matcher(word).sub(" ", rest)
    said = [
        phrase for axis in vocabulary.axes.values() for phrases in axis.values.values() for phrase in phrases
    ]
    # "Black women" before "women": the noun is what its adjective is known by.
    for phrase in sorted(said, key=lambda phrase: "{person}" not in phrase):
        rest = matcher(phrase).sub(_kept, rest)
    rest = _COUNT.sub(lambda found: found[0][len(found[1]) :], rest)
    rest = re.sub(r"\b(?:with|wearing)\s*(?=[,.;]|$)", " ", rest)
    rest = re.sub(r"\s+([,.;])", r"\1", " ".join(rest.split()))
    rest = re.sub(r"\b([Aa])n? (?=([a-zA-Z]))", _article, rest)
    return re.sub(r"(?:[,;]\s*){2,}", ", ", rest).strip(" ,;")


def _kept(found: re.Match[str]) -> str:
    """What stays of a phrase about persons: its noun, without what it says of them."""
    last = found[0].split()[-1].lower()
    if last in ("women", "men") and re.match(
        r"\s+(?!(?:in|on|at|of|and|with|from|or)\b|\w+ing\b)\w", found.string[found.end() :]
    ):
        return " "  # "a women basketball team" says it as an adjective
    if last in ("woman", "man"):
        return " person"
    if last in ("women", "men"):
        return " people"
    return " " + found[0].split(" ", 1)[1] if re.fullmatch(PERSON, last) and " " in found[0] else " "


def _article(found: re.Match[str]) -> str:
    return f"{found[1]}n " if found[2].lower() in "aeiou" else f"{found[1]} "


def _longest_first(table: Mapping[str, V]) -> list[tuple[str, V]]:
    return sorted(table.items(), key=lambda item: -len(item[0]))
