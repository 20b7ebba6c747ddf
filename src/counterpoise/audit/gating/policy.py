"""What a release must show, as its user writes it: a policy of rules, in TOML; or one line of what is wrong.

A rule picks findings (by kind, and what else it names) and says what all of them must show.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from counterpoise.audit.fields import (
    MAX_PROMPT,
    PICTURES,
    Count,
    KeyProblem,
    Strict,
    Word,
    as_tuple,
    no_duplicates,
    text_problem,
)
from counterpoise.audit.refusals import first_problem, keys_of
from counterpoise.audit.text import read_toml
from counterpoise.measure.cards import nearest

Kind = Literal["claim", "disparity", "reachability", "drift", "coverage"]

_SHARE = "a number from 0 to 1, such as 0.05 for 5 %"
_PATTERN = "text, or a list of texts; * and ? stand for any characters and any one"
# Which kinds a test can be asked of; the others can be asked of all but coverage.
_ONLY = {
    "max_effect": ("claim", "disparity", "drift"),
    "max_ratio": ("disparity",),
    "min_rate": ("reachability",),
    "require": ("claim", "disparity", "reachability", "drift"),
    "max_abstained": ("claim", "disparity", "reachability", "drift"),
}
TESTS = ("require", "max_effect", "max_ratio", "min_rate", "max_abstained", "max_invalid", "min_n")
_OF_FINDINGS = ("attribute", "prompt", "where", "held_out")


def _patterns(value: object) -> tuple[str, ...]:
    """One pattern or several; ValueError says what is wrong with it."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"is {value!r:.60}: expected {_PATTERN}")
    for item in value:
        if problem := text_problem(item, MAX_PROMPT):
            raise ValueError(problem)
    return no_duplicates(as_tuple(value))


Patterns = Annotated[tuple[str, ...], BeforeValidator(_patterns)]
Share = Annotated[float, Field(strict=True, ge=0.0, le=1.0)]


@final
class Rule(Strict):
    """What every finding of a kind, or those that the filters leave, must show.

    A filter that is left out leaves everything in. Every test that is given must hold.
    """

    kind: Kind = Field(description='"claim", "disparity", "reachability", "drift" or "coverage"')
    name: Word | None = Field(default=None, description="a short name for the rule")
    attribute: Patterns | None = Field(default=None, description=_PATTERN)
    arm: Patterns | None = Field(default=None, description=_PATTERN)
    prompt: Patterns | None = Field(default=None, description=_PATTERN)
    where: Patterns | None = Field(default=None, description='a table of the spec, such as "claim[0]"')
    held_out: bool | None = Field(default=None, strict=True, description="true or false")
    require: Literal["fair", "not biased"] | None = Field(default=None, description='"fair" or "not biased"')
    use: Literal["panel", "alone"] = Field(
        default="panel", description='"panel" (decided among all findings) or "alone" (each by itself)'
    )
    max_effect: Share | None = Field(default=None, description=_SHARE)
    max_ratio: float | None = Field(
        default=None, strict=True, ge=1.0, le=1e6, description="a number of at least 1, such as 1.25"
    )
    min_rate: Share | None = Field(default=None, description=_SHARE)
    max_abstained: Share | None = Field(default=None, description=_SHARE)
    max_invalid: Share | None = Field(default=None, description=_SHARE)
    min_n: Count | None = Field(default=None, description=PICTURES)
    undecided: Literal["fail", "undecided", "pass"] = Field(
        default="undecided", description='"fail", "undecided" or "pass"'
    )
    optional: bool = Field(default=False, strict=True, description="true or false")

    @property
    def title(self) -> str:
        """How the rule is called: its name, or its kind and filters."""
        kept = (self.attribute, self.arm, self.prompt, self.where)
        named = [" or ".join(value) for value in kept if value]
        held = [] if self.held_out is None else ["held out" if self.held_out else "not held out"]
        return self.name or ", ".join([self.kind, *named, *held])

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Rule:
        for test, kinds in _ONLY.items():
            if getattr(self, test) is not None and self.kind not in kinds:
                fitting = ", ".join(t for t in TESTS if self.kind in _ONLY.get(t, (self.kind,)))
                raise KeyProblem(
                    test,
                    f"cannot be asked of kind {self.kind!r} (it is for {', '.join(kinds)}): expected one of "
                    f"{fitting}; delete it or change kind",
                )
        if self.kind == "coverage":
            for key in (key for key in _OF_FINDINGS if getattr(self, key) is not None):
                raise KeyProblem(key, 'is no filter of kind "coverage", whose rows are arms; use arm')
        if all(getattr(self, test) is None for test in TESTS):
            raise ValueError(f"asks nothing: expected at least one of {', '.join(TESTS)}; add what must hold")
        return self


@final
class Policy(Strict):
    """All the rules that a run must keep.

    max_invalid guards every arm that the rules look at: the share of its pictures that are blank, repeat
    another or broke the judge. A repair that destroys pictures must not pass for a fair one.
    """

    name: Word = Field(default="policy", description="a short name for the policy")
    max_invalid: Share = Field(default=0.05, description=_SHARE)
    rules: tuple[Rule, ...] = Field(alias="rule", description="tables [[rule]], at least one")

    @model_validator(mode="after")
    def _asks_something(self) -> Policy:
        if not self.rules:
            raise KeyProblem("rule", "is empty: expected at least one table [[rule]]; add one")
        return self


def load_policy(path: Path | str) -> Policy:
    """Read a TOML policy; UsageError, one line, for a missing file, bad TOML (its line) or a bad value."""
    path = Path(path)
    content = read_toml(path, "policy", docs="docs/gate.md", code="E_POLICY_TOML")
    return make_policy(content, file=str(path))


def make_policy(content: Mapping[str, object], *, file: str | None = None) -> Policy:
    """The policy that a mapping (laid out as the TOML file is) describes; UsageError where it is wrong."""
    try:
        return Policy.model_validate(dict(content))
    except ValidationError as error:
        raise first_problem(error, _line, kind="POLICY", file=file) from None


def _line(problem: Any) -> str:
    loc, kind = problem["loc"], problem["type"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    model: type[BaseModel] = Rule if len(loc) > 2 else Policy
    if kind == "extra_forbidden":
        key = str(loc[-1])
        other = Policy if model is Rule else Rule
        belongs = "the top of the file" if other is Policy else "[[rule]]"
        elsewhere = f"it belongs in {belongs}; " if key in keys_of(other) else ""
        return f"{path} is not a key that a policy has; {elsewhere}{nearest(key, keys_of(model))}"
    said = problem.get("ctx", {}).get("error", "")
    if isinstance(said, KeyProblem):
        path = f"{path}.{said.key}".lstrip(".")
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    named = [fields[part] for part in loc if part in fields]
    expected = (named[-1].description if named else None) or "a table of keys and values"
    special = {
        "missing": f"is missing: expected {expected}; add it",
        "value_error": str(said),
    }
    usual = f"is {problem['input']!r:.60}: expected {expected}; correct the value"
    return f"{path} {special.get(kind, usual)}".strip()
