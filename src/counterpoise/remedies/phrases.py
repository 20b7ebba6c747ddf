"""What a goal's phrases say: the words that tell a variant from its neutral phrase, and from the others.

Comes in: an edit. Goes out: words. Used where a remedy works by words (a negative prompt, a planner).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from counterpoise.remedies.goal import Edit

_WORD = re.compile(r"\w+(?:'\w+)?")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case, without punctuation."""
    return _WORD.findall(text.casefold())


# They tie words together and tell no value by themselves.
FUNCTION_WORDS = frozenset(
    words_of("a an and are at by for from has have her his in is its of on or the their to who whose with")
)
_LEADS = FUNCTION_WORDS | {"wearing"}
# Words for one value, whatever it is called: who says one has said it.
SAME = (
    frozenset(words_of("woman women female females feminine lady ladies girl girls she her hers herself")),
    frozenset(words_of("man men male males masculine gentleman gentlemen boy boys he him his himself")),
)


def told_apart(neutral: str, phrase: str) -> str:
    """What `phrase` says beyond `neutral`, without the function words around it.

    "a woman", "a woman with pale skin" -> "pale skin"; "a boss", "a female boss" -> "female"; the phrase
    itself where it shares no beginning or end with the neutral one.
    """
    said, plain = phrase.split(), neutral.split()
    start = 0
    while start < min(len(said), len(plain)) and _same(said[start], plain[start]):
        start += 1
    end = 0
    while end < min(len(said), len(plain)) - start and _same(said[-1 - end], plain[-1 - end]):
        end += 1
    return " ".join(without_ends(said[start : len(said) - end])).strip(" ,.;:")


def without_ends(words: Sequence[str]) -> list[str]:
    """Words without those at either end that only lead to others ("with", "wearing a")."""
    kept = list(words)
    while kept and _LEADS.issuperset(words_of(kept[0])):
        kept = kept[1:]
    while kept and _LEADS.issuperset(words_of(kept[-1])):
        kept = kept[:-1]
    return kept


def _same(one: str, other: str) -> bool:
    return words_of(one) == words_of(other)


def value_words(edit: Edit, attribute: str) -> dict[str, frozenset[str]]:
    """value -> single words of the edit's phrases that tell it from the other values.

    Those in all of the value's phrases and in none of another's ("tan" of three phrases with tan skin in
    three sorts of clothes); where there are none, those in any of them.
    """
    said: dict[str, list[frozenset[str]]] = {}
    for variant in edit.variants:
        words = frozenset(words_of(told_apart(edit.neutral, variant.phrase))) - _LEADS
        if (value := edit.cell(variant).get(attribute)) is not None:
            said.setdefault(value, []).append(words)
    found = {}
    for value, mine in said.items():
        others = frozenset[str]().union(
            *(words for other, theirs in said.items() if other != value for words in theirs)
        )
        found[value] = (mine[0].intersection(*mine) or mine[0].union(*mine)) - others
    return found


def added_words(edit: Edit) -> frozenset[str]:
    """All that any variant says beyond the neutral phrase ("pale", "skin", "wearing", "hoodie"): a prompt
    that says one of them too would say it twice."""
    every = {word for variant in edit.variants for word in words_of(variant.phrase)}
    return frozenset(every) - set(words_of(edit.neutral)) - FUNCTION_WORDS


def naming(
    edit: Edit, values: Mapping[str, tuple[str, ...]], *, also: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> dict[str, dict[str, frozenset[str]]]:
    """attribute -> value -> words that say it, or several with blanks between, in lower case.

    From the edit's phrases, the judge's `values` of its attributes, words of the same meaning (`SAME`), and
    `also`: attribute -> value -> other words for it.
    """
    found: dict[str, dict[str, frozenset[str]]] = {}
    for attribute in edit.attributes:
        by_value = value_words(edit, attribute)
        found[attribute] = {}
        for value in dict.fromkeys([*by_value, *values.get(attribute, ())]):
            words = set(by_value.get(value, ())) | {" ".join(words_of(value))}
            words |= {" ".join(words_of(own)) for own in also.get(attribute, {}).get(value, ())}
            words |= {word for same in SAME if same & words for word in same}
            found[attribute][value] = frozenset(words - {""} - FUNCTION_WORDS)
    return found


def lexicon(
    edit: Edit, values: Mapping[str, tuple[str, ...]], *, also: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> dict[str, str]:
    """word -> the attribute that it states, of `naming`'s words and all that a variant says besides."""
    found: dict[str, str] = {}
    for attribute, by_value in naming(edit, values, also=also).items():
        for words in by_value.values():
            found |= dict.fromkeys(sorted(words), attribute)
    for word in sorted(added_words(edit)):
        found.setdefault(word, "said by a variant")
    return found
