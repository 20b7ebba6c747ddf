"""Prompts that say a part of what an edit's variants say, made edits of their own by the same goal.

A goal of women and men of five tones for "a boss" says what "a female boss" and "a boss with dark skin" are
to be, too: the mixture of those variants that say as much. Kept as the model draws them they pull against
the edit, since the student has to learn where the habit holds and where it does not: one so taught moved the
tone of "a male cleaner" by .60, although 700 drawings told it not to.

Comes in: a goal's table, slots filled. Goes out: the same with these edits added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from counterpoise.remedies.partly import parts


def followed(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The table with an edit for every partial phrase that leaves two variants or more open.

    Phrases that are edited already, or kept, stay as the goal has them. What is not of the expected type is
    passed on as it is: the schema names it. ValueError where two edits want different mixtures of one phrase.
    """
    key = "edit" if "edit" in raw else "edits"
    edits = raw.get(key)
    if not isinstance(edits, Sequence) or not all(_is_whole(edit) for edit in edits):
        return dict(raw)
    kept = raw.get("keep", ())
    known = {edit["neutral"] for edit in edits}
    known |= {phrase for phrase in kept if isinstance(phrase, str)} if isinstance(kept, Sequence) else set()
    made: dict[str, dict[str, Any]] = {}
    for edit in edits:
        for own in _partial(edit):
            phrase = own["neutral"]
            if phrase in known:
                continue
            if made.setdefault(phrase, own) != own:
                raise ValueError(
                    f"two edits want {phrase!r:.60} to be different mixtures; write an edit of it, or keep it"
                )
    return {**raw, key: [*edits, *made.values()]}


def _is_whole(edit: Any) -> bool:
    """Whether an edit has what is needed here."""
    if not isinstance(edit, Mapping) or not isinstance(edit.get("neutral"), str):
        return False
    attribute = edit.get("attribute")
    if not (isinstance(attribute, str) or (isinstance(attribute, list | tuple) and attribute)):
        return False
    variants = edit.get("variants")
    return isinstance(variants, Sequence) and all(
        isinstance(own, Mapping)
        and isinstance(own.get("phrase"), str)
        and isinstance(own.get("share"), int | float)
        and own["share"] > 0
        and isinstance(own.get("reads"), str if isinstance(attribute, str) else Mapping)
        for own in variants
    )


def _partial(edit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Edits of the phrases between the neutral one and the variants'."""
    saying: dict[str, list[Mapping[str, Any]]] = {}
    for variant in edit["variants"]:
        for phrase in parts(edit["neutral"], variant["phrase"]):
            saying.setdefault(phrase, []).append(variant)
    found = []
    for phrase, variants in saying.items():
        open_ = _open(edit, variants)
        if open_ is not None:
            total = math.fsum(own["share"] for own in variants)
            found.append(
                {
                    "neutral": phrase,
                    "attribute": open_,
                    "variants": [
                        {
                            "phrase": own["phrase"],
                            "reads": _read(own["reads"], open_),
                            "share": own["share"] / total,
                        }
                        for own in variants
                    ],
                }
            )
    return found


def _open(edit: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> Any:
    """The attributes in which these variants differ, as the edit names them; None where in none."""
    reads = [own["reads"] for own in variants]
    if isinstance(edit["attribute"], str):
        return edit["attribute"] if len({str(own) for own in reads}) > 1 else None
    names = [name for name in edit["attribute"] if len({own.get(name) for own in reads if name in own}) > 1]
    unread = any(not any(name in own for name in names) for own in reads)
    return None if unread or not names else names


def _read(reads: str | Mapping[str, str], names: Any) -> str | dict[str, str]:
    return reads if isinstance(reads, str) else {name: reads[name] for name in names if name in reads}
