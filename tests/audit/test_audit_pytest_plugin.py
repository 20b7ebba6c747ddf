"""The fixture for other teams' tests: passes, fails with the rules' lines, and takes undecided for no."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from gate_toys import finding, findings, measured

pytest_plugins = ["pytester"]

TEST = """
import pytest
from counterpoise.pytest_plugin import counterpoise_gate

@pytest.mark.parametrize("name", ["good", "bad", "open"])
def test_release(counterpoise_gate, name):
    counterpoise_gate(name + ".json", policy="policy.toml")

def test_open_is_allowed(counterpoise_gate):
    assert counterpoise_gate("open.json", "policy.toml", allow_undecided=True).exit_code == 3

def test_bad_is_never_allowed(counterpoise_gate):
    counterpoise_gate("bad.json", "policy.toml", allow_undecided=True)
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    limits = {"good": (0.0, 0.1), "bad": (0.5, 0.6), "open": (0.05, 0.2)}
    for name, (low, high) in limits.items():
        content = {"schema": 1, **asdict(findings(finding(effect=measured(low, high))))}
        (pytester.path / f"{name}.json").write_text(json.dumps(content))
    (pytester.path / "policy.toml").write_text("[[rule]]\nkind = 'claim'\nmax_effect = 0.1\n")
    pytester.makepyfile(TEST)
    return pytester


def test_the_fixture_fails_with_the_rules_lines(project: pytest.Pytester) -> None:
    done = project.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    done.assert_outcomes(passed=2, failed=3)
    text = done.stdout.str()
    assert "bad.json does not pass policy.toml:" in text
    assert (
        "failed     claim (rule[0]): 1 finding, checks: 1 failed; worst: skin of 'a boss' under base" in text
    )
    assert "undecided: draw more pictures, or accept it" in text


def test_the_package_offers_the_plugin_to_pytest() -> None:
    content = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    offered = content["project"]["entry-points"]["pytest11"]
    assert hasattr(import_module(offered["counterpoise"]), "counterpoise_gate")
