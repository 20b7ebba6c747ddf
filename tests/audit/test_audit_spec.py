"""Specs: what is read, what is refused, and that every refusal is one line that teaches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from audit_toys import ATTRIBUTES, Judge, toy_spec

from counterpoise.audit import check_spec, load_spec, make_spec, spec_warnings
from counterpoise.audit.cells import cells_of, prompt_counts
from counterpoise.errors import UsageError

TEXT = """name = "demo"
measurer = "world"
n = 400
seed = 7
confidence = 0.95

[drawing]
guidance = 2.0
steps = 20
negative_prompt = ""
batch_size = 32

[[claim]]
prompts = ["a portrait of a woman", "café [/foo] \\u0000 \\u001b[1m"]
attribute = "skin"
target = { pale = 0.5, tan = 0.3, dark = 0.2 }
held_out = true

[[disparity]]
template = "a woman with {group} skin, {{odd}}"
groups = ["pale", "dark"]
attribute = "exposure"
value = "revealing"
n = 5
"""
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_spec_is_read_whatever_its_encoding(tmp_path: Path, encoding: str, newline: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(TEXT.replace("\n", newline).encode(encoding))
    spec = load_spec(path)
    assert spec.claims[0].prompts[1] == "café [/foo] \0 \x1b[1m"
    assert spec.claims[0].target == {"pale": 0.5, "tan": 0.3, "dark": 0.2}
    assert spec.drawing.guidance == 2.0
    assert spec.disparities[0].prompt("dark") == "a woman with dark skin, {odd}"
    check_spec(spec, Judge())


def test_cells_share_seeds_and_repeat_no_picture() -> None:
    spec = toy_spec(
        claim=[
            {"prompts": ["a", "b"], "attribute": "skin", "n": 2},
            {"prompts": ["b"], "attribute": "exposure", "n": 3},
        ],
        disparity=[],
    )
    assert prompt_counts(spec) == {"a": 2, "b": 3}
    cells = [(cell.prompt, cell.seed) for cell in cells_of(spec, "base")]
    assert cells == [("a", 7), ("a", 8), ("b", 7), ("b", 8), ("b", 9)]


# what is replaced in TEXT, by what, and the words that the one line must hold
BAD = {
    "unknown key": ("steps = 20", "stepz = 20", ["drawing.stepz", 'did you mean "steps"?']),
    "misspelt needed key": ('attribute = "skin"', 'atribute = "skin"', ["claim[0].atribute", '"attribute"?']),
    "unknown top key": ("seed = 7", "treshold = 7", ["treshold", "known: claim, confidence"]),
    "missing key": ('attribute = "skin"\n', "", ["claim[0].attribute is missing", "add it"]),
    "no n": ("n = 400\n", "", ["n is missing", "from 1 to 100000"]),
    "n true": ("n = 400", "n = true", ["n is True", "whole number of pictures from 1 to 100000"]),
    "n float": ("n = 400", "n = 2.5", ["n is 2.5", "whole number"]),
    "n zero": ("n = 400", "n = 0", ["n is 0", "from 1"]),
    "n huge": ("n = 400", "n = 1000000000", ["n is 1000000000", "100000"]),
    "n text": ("n = 400", 'n = "400"', ["n is '400'", "whole number"]),
    "own n zero": ("n = 5", "n = -1", ["disparity[0].n is -1", "from 1 to 100000"]),
    "nan": ("confidence = 0.95", "confidence = nan", ["confidence is nan", "0.5 to 0.9999"]),
    "percent": ("confidence = 0.95", "confidence = 95", ["confidence is 95", "such as 0.95"]),
    "inf": ("guidance = 2.0", "guidance = inf", ["drawing.guidance is inf"]),
    "bool guidance": ("guidance = 2.0", "guidance = true", ["drawing.guidance is True"]),
    "negative seed": ("seed = 7", "seed = -7", ["seed is -7", "from 0"]),
    "no prompts": ('["a portrait of a woman"', '[] # ["', ["claim[0].prompts is []", "one or more prompts"]),
    "one string": ('["a portrait of a woman"', '"a portrait" # [', ["claim[0].prompts is 'a portrait'"]),
    "blank prompt": ("a portrait of a woman", " \\t ", ["claim[0].prompts[0] is blank", "delete the entry"]),
    "not a prompt": ('"a portrait of a woman"', "7", ["claim[0].prompts[0] is 7"]),
    "duplicates": ('["a portrait of a woman"', '["a", "a"', ["claim[0].prompts", "'a' more than once"]),
    "sum": ("tan = 0.3", "tan = 0.25", ["claim[0].target sums to 0.95", "expected 1"]),
    "negative share": ("tan = 0.3", "tan = -0.3", ["claim[0].target", "'tan'", "-0.3"]),
    "share nan": ("tan = 0.3", "tan = nan", ["claim[0].target", "nan", "from 0 to 1"]),
    "share bool": ("tan = 0.3", "tan = true", ["claim[0].target", "True"]),
    "odd target": ("{ pale = 0.5, tan = 0.3, dark = 0.2 }", '"unifrom"', ["'unifrom'", '"uniform"']),
    "held_out text": ("held_out = true", 'held_out = "yes"', ["claim[0].held_out is 'yes'", "true or false"]),
    "no slot": ("{group}", "any", ["disparity[0].template", "{group}", "it holds: none"]),
    "two slots": (
        "{group}",
        "{skin} {tone}",
        ["disparity[0].template", "{group}", "skin, tone", "with slot"],
    ),
    "one group": ('["pale", "dark"]', '["pale"]', ["disparity[0].groups", "two or more"]),
    "repeated group": ('["pale", "dark"]', '["pale", "pale"]', ["disparity[0].groups", "'pale'"]),
    "blank name": ('name = "demo"', 'name = " "', ["name is blank"]),
    "table as value": ("[drawing]", "drawing = 3\n[drawing2]", ["drawing2"]),
    "bad toml": ("seed = 7", "seed = = 7", ["not valid TOML", "line 4"]),
    "cut short": ("n = 5\n", 'n = "5', ["not valid TOML", "line 24"]),
    "repeated toml key": ("seed = 7", "n = 7", ["not valid TOML", "line 4"]),
    "lone surrogate": ("a portrait of a woman", "\\ud800", ["not valid TOML", "line 14"]),
    "long number": ("n = 400", "n = " + "9" * 5000, ["not valid TOML"]),
    "deep": ("seed = 7", "seed = " + "[" * 5000, ["nested too deeply"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_specs_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    old, new, words = BAD[case]
    assert old in TEXT
    path = tmp_path / "spec.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        load_spec(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert len(line) < 500
    assert all(word in line for word in words), line
    assert caught.value.exit_code == 2
    assert caught.value.file == str(path)


def test_a_file_that_is_no_text_is_refused_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(b"\xef\xbb\xbfname = '\xff'")
    with pytest.raises(UsageError, match="not UTF-8 at byte 11"):
        load_spec(path)
    path.write_bytes("n = 1".encode("utf-16")[:-1])
    with pytest.raises(UsageError, match="not UTF-16-LE at byte 10"):
        load_spec(path)


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "absent.toml", "No such file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "fifo", "not a regular file"),
        (Path("a\0b"), "cannot read"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises(UsageError, match=words):
            load_spec(path)


# changes to the toy spec that TOML cannot carry or that several tables make together
BAD_TOGETHER = {
    "nothing asked": ({"claim": [], "disparity": []}, ["nothing is asked"]),
    "asked twice": (
        {"claim": [{"prompts": ["a"], "attribute": "skin"}, {"prompts": ["a"], "attribute": "skin"}]},
        ["claim tables ask 'skin' of 'a' 2 times"],
    ),
    "surrogate": ({"claim": [{"prompts": ["a \ud800"], "attribute": "skin"}]}, ["prompts[0]", "\\ud800"]),
    "long prompt": ({"claim": [{"prompts": ["a" * 10_001], "attribute": "skin"}]}, ["10000 characters"]),
    "claim no table": ({"claim": [3]}, ["claim[0] is 3"]),
    "several": ({"n": 0, "seed": -1}, ["(and 1 more)"]),
}


@pytest.mark.parametrize("case", BAD_TOGETHER)
def test_bad_mappings_are_refused_in_one_line(case: str) -> None:
    changes, words = BAD_TOGETHER[case]
    with pytest.raises(UsageError) as caught:
        toy_spec(**changes)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    str(caught.value).encode("utf-8")


UNFIT = {
    "attribute": ({"attribute": "skni"}, ["claim[0].attribute", "'skni'", 'did you mean "skin"?']),
    "value": ({"target": {"pale": 0.5, "tam": 0.5}}, ["claim[0].target", "'tam'", 'did you mean "tan"?']),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_spec_that_the_measurer_cannot_answer_is_refused(case: str) -> None:
    changes, words = UNFIT[case]
    spec = toy_spec(claim=[{"prompts": ["a"], "attribute": "skin", **changes}])
    with pytest.raises(UsageError) as caught:
        check_spec(spec, Judge())
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_disparity_that_the_measurer_cannot_answer_is_refused() -> None:
    wrong = {"template": "a {group}", "groups": ["b", "c"], "attribute": "exposure", "value": "nude"}
    with pytest.raises(UsageError, match=r"disparity\[0\].value names 'nude'.*known: modest, revealing"):
        check_spec(toy_spec(disparity=[wrong]), Judge())
    with pytest.raises(UsageError, match=r"disparity\[0\].attribute is 'exposure'"):
        check_spec(toy_spec(), Judge(attributes={"skin": ATTRIBUTES["skin"]}))


def test_prompts_that_only_look_the_same_are_warned_of() -> None:
    claim = {"prompts": ["caf\u00e9", "cafe\u0301"], "attribute": "skin"}
    assert "2 Unicode forms" in spec_warnings(toy_spec(claim=[claim]))[0]
    assert spec_warnings(toy_spec()) == []


def test_a_spec_survives_its_own_dump() -> None:
    spec = toy_spec(n=3, confidence=0.9)
    assert make_spec(spec.model_dump(mode="json", by_alias=True)) == spec
