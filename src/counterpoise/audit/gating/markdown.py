"""A gate's answer as Markdown for a pull request: the verdict, a row a rule, what failed behind a fold.

`cell` makes any text safe in a table of GitHub's and GitLab's dialects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from counterpoise.audit.gating.gate import GateResult, RuleResult
from counterpoise.audit.gating.words import check_text, summary
from counterpoise.audit.refusals import literal

MOST = 50
# All of ASCII that Markdown gives a meaning to; without ":" and the dot of "www." nothing becomes a link.
_MEANING = re.compile(r"([\\`*_{}\[\]()#+!|~$^:=-]|(?<=www)\.)", re.IGNORECASE)
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def gate_markdown(result: GateResult) -> str:
    """The summary as Markdown."""
    mark = {"passed": "passed", "failed": "**failed**", "undecided": "_undecided_"}[result.status]
    rows = [_row(rule) for rule in result.rules]
    text = [
        f"## Counterpoise gate: {mark}",
        "",
        f"{cell(summary(result))} (policy {cell(result.policy)})",
        "",
        table(("rule", "answer", "checks failed / undecided", "worst", "wanted"), rows),
    ]
    told = [check for rule in result.rules for check in rule.checks if check.status != "passed"]
    if told:
        text += ["", f"<details><summary>{len(told)} checks that did not pass</summary>", ""]
        text += [f"- {check.status}: {cell(check_text(check))}" for check in told[:MOST]]
        text += [f"- and {len(told) - MOST} more"] if len(told) > MOST else []
        text += ["", "</details>"]
    return "\n".join(text) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; its texts must already be safe (`cell`)."""
    shown = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in shown)


def cell(text: str) -> str:
    """Text that Markdown shows as it is: on one line, nothing in it a table, code, HTML or a link."""
    safe = "".join(_ENTITIES.get(char, char) for char in literal(text))
    parts = re.split(r"(&(?:amp|lt|gt);)", safe)
    return "".join(part if i % 2 else _MEANING.sub(r"\\\1", part) for i, part in enumerate(parts))


def _row(rule: RuleResult) -> tuple[str, ...]:
    answer = {"failed": "**failed**", "undecided": "_undecided_"}.get(rule.status, rule.status)
    counts = f"{rule.failed} / {rule.undecided} of {len(rule.checks)}"
    if rule.worst is None:
        return cell(rule.title), answer, counts, cell(rule.reason), ""
    worst, _, _ = check_text(rule.worst).rpartition("; wanted: ")
    return cell(rule.title), answer, counts, cell(worst), cell(rule.worst.limit)
