"""Findings and a policy in, an answer for every rule out, in words, JSON, JUnit and Markdown.

result = gate(read_findings("runs/x"), load_policy("policy.toml"))
result.exit_code  # 0 passed, 1 failed, 3 undecided
"""

from counterpoise.audit.gating.checks import Check
from counterpoise.audit.gating.gate import GateResult, RuleResult, gate
from counterpoise.audit.gating.junit import junit_xml
from counterpoise.audit.gating.markdown import gate_markdown
from counterpoise.audit.gating.policy import Policy, Rule, load_policy, make_policy
from counterpoise.audit.gating.source import findings_of, read_findings
from counterpoise.audit.gating.words import lines

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
