"""A gate's answer as JUnit XML: a test case a rule, so that any CI shows it as it shows tests."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

from counterpoise.audit.gating.gate import GateResult, RuleResult
from counterpoise.audit.gating.words import check_text, rule_line, summary
from counterpoise.audit.refusals import literal

MOST = 50  # checks listed in one case


def junit_xml(result: GateResult) -> str:
    """The XML, one <testcase> a rule: failed is a <failure>, undecided and not applied are <skipped>.

    XML 1.0 forbids most control characters even escaped; they stand as \\x1b and the like. The same answer
    gives the same text: there are no times in it.
    """
    counts = {
        "tests": len(result.rules),
        "failures": sum(rule.status == "failed" for rule in result.rules),
        "errors": 0,
        "skipped": sum(rule.status in ("undecided", "skipped") for rule in result.rules),
    }
    told = {key: str(n) for key, n in counts.items()}
    root = Tree.Element("testsuites", {"name": "counterpoise gate", **told})
    suite = Tree.SubElement(root, "testsuite", {"name": literal(result.policy), **told})
    for rule in result.rules:
        _case(suite, rule)
    Tree.SubElement(suite, "system-out").text = summary(result)
    Tree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Tree.tostring(root, "unicode") + "\n"


def _case(suite: Tree.Element, rule: RuleResult) -> None:
    name = {"classname": "counterpoise.gate", "name": f"{rule.where} {literal(rule.title)}"}
    case = Tree.SubElement(suite, "testcase", name)
    if rule.status == "passed":
        Tree.SubElement(case, "system-out").text = rule_line(rule)
        return
    kind = "failure" if rule.status == "failed" else "skipped"
    element = Tree.SubElement(case, kind, {"message": rule_line(rule), "type": rule.status})
    told = [check for check in rule.checks if check.status != "passed"]
    more = [f"and {len(told) - MOST} more"] if len(told) > MOST else []
    element.text = "\n".join([f"{check.status}: {check_text(check)}" for check in told[:MOST]] + more)
