"""A pytest plugin for teams that gate releases in their own tests: the fixture `counterpoise_gate`.

def test_release(counterpoise_gate):
    counterpoise_gate("runs/release", policy="policy.toml")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from counterpoise.audit.gating import GateResult


class Gate(Protocol):
    """Holds a run against a policy, and fails the test unless it passes."""

    def __call__(
        self, run: Path | str, policy: Path | str, *, allow_undecided: bool = False
    ) -> GateResult: ...


@pytest.fixture
def counterpoise_gate() -> Gate:
    """A function: run (a folder or results.json) and policy (TOML) in, the `GateResult` out.

    It fails the test, with a line a rule, when the policy is failed; also when it is undecided, since what is
    not known must not be released: allow_undecided=True lets that through. A wrong policy or run raises
    UsageError or RefusedInputError.
    """
    return _gate


def _gate(run: Path | str, policy: Path | str, *, allow_undecided: bool = False) -> GateResult:
    # Imported here: pytest loads this plugin in every project of an environment, which must not pay for it.
    from counterpoise.audit import gating

    __tracebackhide__ = True
    result = gating.gate(gating.read_findings(run), gating.load_policy(policy))
    if result.status == "failed" or (result.status == "undecided" and not allow_undecided):
        advice = [
            "undecided: draw more pictures, or accept it with counterpoise_gate(..., allow_undecided=True)"
        ]
        said = [f"{run} does not pass {policy}:", *gating.lines(result)]
        pytest.fail("\n".join(said + (advice if result.status == "undecided" else [])), pytrace=False)
    return result
