"""A policy is refused in one line that says what is wrong, or it means what it says."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from counterpoise.audit.gating import Rule, load_policy, make_policy
from counterpoise.errors import UsageError

RULE = {"kind": "claim", "require": "fair"}
BAD = {
    "nothing": ({}, "E_POLICY_KEY", "rule is missing"),
    "no rules": ({"rule": []}, "E_POLICY_VALUE", "rule is empty"),
    "a rule alone": ({"rule": RULE}, "E_POLICY_VALUE", r"expected tables \[\[rule\]\]"),
    "misspelt": (
        {"rule": [{"kind": "claim", "max_efect": 0.1}]},
        "E_POLICY_KEY",
        'did you mean "max_effect"',
    ),
    "wrong table": ({"rule": [RULE], "kind": "claim"}, "E_POLICY_KEY", r"it belongs in \[\[rule\]\]"),
    "wrong table, other way": ({"rule": [{**RULE, "rule": 1}]}, "E_POLICY_KEY", "the top of the file"),
    "kind": ({"rule": [{**RULE, "kind": "clam"}]}, "E_POLICY_VALUE", "\"clam\"|'clam'"),
    "asks nothing": ({"rule": [{"kind": "claim"}]}, "E_POLICY_VALUE", "asks nothing"),
    "not of this kind": ({"rule": [{"kind": "claim", "max_ratio": 2.0}]}, "E_POLICY_VALUE", "for disparity"),
    "no filter of coverage": (
        {"rule": [{"kind": "coverage", "min_n": 1, "prompt": "a"}]},
        "E_POLICY_VALUE",
        "use arm",
    ),
    "nan": ({"rule": [{**RULE, "max_effect": float("nan")}]}, "E_POLICY_VALUE", "max_effect is nan"),
    "inf": (
        {"rule": [{"kind": "disparity", "max_ratio": float("inf")}]},
        "E_POLICY_VALUE",
        "max_ratio is inf",
    ),
    "nan guard": ({"rule": [RULE], "max_invalid": float("nan")}, "E_POLICY_VALUE", "max_invalid is nan"),
    "percent": (
        {"rule": [{**RULE, "max_effect": 5}]},
        "E_POLICY_VALUE",
        "max_effect is 5: expected a number",
    ),
    "ratio under 1": ({"rule": [{"kind": "disparity", "max_ratio": 0.8}]}, "E_POLICY_VALUE", "at least 1"),
    "true": ({"rule": [{**RULE, "max_effect": True}]}, "E_POLICY_VALUE", "max_effect is True"),
    "pattern": ({"rule": [{**RULE, "attribute": []}]}, "E_POLICY_VALUE", r"attribute is \[\]"),
    "escape": ({"rule": [{**RULE, "\x1b[1m": 1}]}, "E_POLICY_KEY", r"\\x1b\[1m"),
    **{
        f"n {n!r}": ({"rule": [{**RULE, "min_n": n}]}, "E_POLICY_VALUE", "pictures from 1 to 100000")
        for n in (True, 10**9, -1, 0, 2.5)
    },
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_policy_is_refused_in_one_line(case: str) -> None:
    content, code, words = BAD[case]
    with pytest.raises(UsageError, match=words) as caught:
        make_policy(content, file="policy.toml")
    assert caught.value.code == code
    assert str(caught.value).startswith("policy.toml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[rule]\n", "line 1"),
        ("name = \n", "line 1"),
        ("[[rule]]\nkind = 'claim'\nmax_effect = nan", "max_effect is nan"),
        ("a = " + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_policy(file)
    with pytest.raises(UsageError, match="cannot read the policy"):
        load_policy(tmp_path / "absent.toml")


def test_the_documented_policy_is_one_and_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gate.md").read_text("utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    assert len(make_policy(tomllib.loads(example)).rules) == 5
    assert [key for key in Rule.model_fields if f"`{key}`" not in text] == []


def test_what_is_left_out_has_the_documented_defaults(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_bytes(
        '[[rule]]\r\nkind = "claim"\r\nattribute = "skin"\r\nmax_effect = 0\r\n'.encode("utf-16")
    )
    policy = load_policy(file)
    (rule,) = policy.rules
    assert (policy.max_invalid, rule.use, rule.undecided, rule.optional) == (
        0.05,
        "panel",
        "undecided",
        False,
    )
    assert (rule.attribute, rule.max_effect, rule.title) == (("skin",), 0.0, "claim, skin")
