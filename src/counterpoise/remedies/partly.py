"""Phrases that say a part of what a variant says: word by word, beside the neutral phrase.

Of "a boss" and "a female boss with tan skin": the words "female" and "with tan skin"; the phrases "a female
boss" and "a boss with tan skin". Comes in: phrases. Goes out: phrases.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

_SAID = re.compile(r"[ ,](with|without|wearing|in|on|at|of)[ ]")
_ARTICLES = ("a", "an")


def with_detail(phrase: str, detail: str) -> str:
    """The phrase with one more thing said, after a comma where it says things already."""
    return f"{phrase}{', ' if _SAID.search(phrase) else ' '}{detail}"


def added(neutral: str, phrase: str) -> list[str]:
    """What a variant's phrase says beyond the neutral one: of "a boss", "a female boss with tan skin" says
    "female" and "with tan skin". Nothing where the neutral words are not in it, in their order."""
    chunks = _chunks(neutral, phrase)
    return [_joined(chunk).strip(" ,") for chunk in chunks if chunk] if chunks is not None else []


def parts(neutral: str, phrase: str) -> list[str]:
    """The neutral phrase with some, but not all, of what the variant's phrase adds to it."""
    chunks = _chunks(neutral, phrase)
    if chunks is None:
        return []
    own = [i for i, chunk in enumerate(chunks) if chunk]
    found = []
    for size in range(1, len(own)):
        for chosen in itertools.combinations(own, size):
            found.append(_with(neutral.split(), chunks, chosen))
    return found


def _chunks(neutral: str, phrase: str) -> list[list[str]] | None:
    """The words of the phrase before, between and after the neutral words; the last cut at its commas.

    Articles are alike: "an engineer" is in "a female engineer".
    """
    between: list[list[str]] = [[]]
    wanted = neutral.split()
    for word in phrase.split():
        at = len(between) - 1
        bare = word.rstrip(",")
        if at < len(wanted) and (bare == wanted[at].rstrip(",") or {bare, wanted[at]} <= set(_ARTICLES)):
            between.append([])
            if word != bare:
                between[-1].append(",")
        else:
            between[-1].append(word)
    if len(between) != len(wanted) + 1:
        return None
    return [*between[:-1], *_clauses(between[-1])]


def _clauses(words: Sequence[str]) -> list[list[str]]:
    """Words apart where a comma stands."""
    clauses: list[list[str]] = [[]]
    for word in words:
        bare = word.rstrip(",")
        if bare:
            clauses[-1].append(bare)
        if word.endswith(",") and clauses[-1]:
            clauses.append([])
    return clauses


def _with(wanted: Sequence[str], chunks: Sequence[Sequence[str]], chosen: Sequence[int]) -> str:
    words: list[str] = []
    for i, word in enumerate(wanted):
        words += [*(chunks[i] if i in chosen else ()), word]
    clauses = [" ".join(chunks[i]) for i in chosen if i >= len(wanted)]
    said = " ".join(words)
    for clause in clauses:
        said = with_detail(said, clause)
    return _articles(said)


def _joined(words: Sequence[str]) -> str:
    return " ".join(words)


def _articles(text: str) -> str:
    """a or an, by the letter that follows."""
    words = text.split()
    for i, word in enumerate(words[:-1]):
        if word in _ARTICLES:
            words[i] = "an" if words[i + 1][0] in "aeiou" else "a"
    return " ".join(words)
