"""Templates: braces as Python has them, every combination once, and slips of the pen refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoise.audit.template import MAX_PROMPTS, fill, fillings, slots_in

LITERAL = st.text(alphabet="ab [/]%$\x1b\u202e").map(lambda text: (text, text))
BRACES = st.sampled_from([("{{", "{"), ("}}", "}")])
SLOTS = st.sampled_from(["who", "skin", "hair_color", "größe"]).map(lambda name: (f"{{{name}}}", f"<{name}>"))
WORDS = {name: f"<{name}>" for name in ("who", "skin", "hair_color", "größe")}


@given(st.lists(LITERAL | BRACES | SLOTS, max_size=12))
def test_filling_is_pythons_own_format(parts: list[tuple[str, str]]) -> None:
    template, expected = ("".join(part[i] for part in parts) for i in (0, 1))
    assert fill(template, WORDS) == expected == template.format(**WORDS)
    assert set(slots_in(template)) == {p[0][1:-1] for p in parts if p[0][1:-1] in WORDS}


@given(st.text())
def test_what_is_filled_in_is_never_read_again(word: str) -> None:
    assert fill("a {who} b", {"who": word}) == f"a {word} b"


@pytest.mark.parametrize("template", ["{", "a } b", "{}", "{ }", "{a!r}", "{a:>9}", "{a{b}}", "{{a}", "{a}}"])
def test_braces_that_are_no_slot_are_refused(template: str) -> None:
    with pytest.raises(ValueError, match="literal braces"):
        slots_in(template)


def test_every_combination_comes_once_in_the_slots_order() -> None:
    made = fillings(
        ["a {who} with {skin} skin", "the {skin} {who}"],
        {"who": {"boss": "boss", "nurse": "nurse"}, "skin": {"p": "pale", "d": "dark"}, "unused": {"x": "x"}},
    )
    assert [filling.prompt for filling in made] == [
        "a boss with pale skin", "a boss with dark skin", "a nurse with pale skin", "a nurse with dark skin",
        "the pale boss", "the pale nurse", "the dark boss", "the dark nurse",
    ]  # fmt: skip
    assert made[1].labels == {"who": "boss", "skin": "d"}


def test_too_many_are_refused_before_they_are_made() -> None:
    words = {str(i): str(i) for i in range(1000)}
    with pytest.raises(ValueError, match=rf"makes 1{'0' * 12} prompts \(a: 1000.*at most {MAX_PROMPTS}"):
        fillings(["{a}{b}{c}{d}"], dict.fromkeys("abcd", words))
    assert len(fillings(["{a} {b}"], {"a": words, "b": {str(i): str(i) for i in range(10)}})) == MAX_PROMPTS


def test_a_prompt_that_comes_out_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="makes 'aab' 2 times"):
        fillings(["{x}{y}"], {"x": {"1": "a", "2": "aa"}, "y": {"1": "ab", "2": "b"}})
    with pytest.raises(ValueError, match="a prompt of 10001 characters"):
        fillings(["{x}" + "b" * 10_000], {"x": {"1": "a"}})
