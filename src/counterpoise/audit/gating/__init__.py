"""Findings and a policy in, an answer for every rule out, in words, JSON, JUnit and Markdown.

result = gate(read_findings("runs/x"), load_policy("policy.toml"))
result.exit_code  # 0 passed, 1 failed, 3 undecided
"""

from .checks import Check
from .gate import GateResult, RuleResult, gate
from .junit import junit_xml
from .markdown import gate_markdown
from .policy import Policy, Rule, load_policy, make_policy
from .source import findings_of, read_findings
from .words import lines

__all__ = [
    "Check",
    "GateResult",
    "Policy",
    "Rule",
    "RuleResult",
    "findings_of",
    "gate",
    "gate_markdown",
    "junit_xml",
    "lines",
    "load_policy",
    "make_policy",
    "read_findings",
]
