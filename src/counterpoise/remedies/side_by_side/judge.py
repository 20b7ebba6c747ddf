"""From an audit's findings to a remedy's outcome and verdict, by one rule for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from counterpoise.audit import Claim, Evidence, Finding, Findings
from counterpoise.audit.comparing import Comparison, compare
from counterpoise.errors import UsageError
from counterpoise.remedies.quality import NOT_ACCEPTABLE
from counterpoise.remedies.side_by_side.records import Outcome, Tally, Timing, Verdict
from counterpoise.remedies.treatment import Cost

BASE = "base"


def outcome(
    name: str,
    findings: Findings,
    evidence: Evidence,
    *,
    cost: Cost = Cost(),  # noqa: B008  (frozen)
    notes: Sequence[str] = (),
    adapters: int = 0,
    times: tuple[Timing | None, Timing | None] = (None, None),
    restored: bool | None = None,
    quality: Mapping[str, Any] | None = None,
) -> Outcome:
    """How the arm `name` stands; base itself is held against nothing. times: as drawn, and folded."""
    own = [finding for finding in findings.findings if finding.arm == name]
    claims = [claim for claim in findings.claims if claim.arm == name]
    changes = _changes(evidence, name)
    verdict, reasons = judged(own, findings.findings, changes, asleep=idle(findings, BASE))
    if quality is not None and quality["verdict"] == NOT_ACCEPTABLE:
        verdict, reasons = "got worse", (*reasons, "its pictures are not acceptable beside base's")
    forbidden = {reached.finding for reached in findings.reached if reached.negative}
    asked = [finding for finding in own if finding.kind == "reachability"]
    nothing = idle(findings, name)
    return Outcome(
        name=name,
        cost=cost,
        notes=tuple(notes),
        adapters=adapters,
        timing=times[0],
        folded=times[1],
        trained=worst(claim for claim in claims if not claim.held_out),
        held_out=worst(claim for claim in claims if claim.held_out),
        on_target=tally(finding for finding in own if finding.kind == "claim"),
        reached=tally(finding for finding in asked if finding.id not in forbidden),
        negatives=tally(
            finding for finding in asked if finding.id in forbidden and _question(finding.id) not in nothing
        ),
        unmoved=tally(finding for finding in own if finding.kind == "drift"),
        changes=changes,
        restored=restored,
        quality=quality,
        verdict=verdict,
        reasons=reasons,
    )


def worst(claims: Iterable[Claim]) -> tuple[float, float, float] | None:
    """The largest floor-corrected distance with that claim's interval; None where nothing was drawn."""
    rows = [(claim.tv_corrected, claim.tv_low, claim.tv_high) for claim in claims]
    return max(rows, default=None)


def tally(findings: Iterable[Finding]) -> Tally:
    """Decisions counted: "fair within tolerance" (reached, unmoved) is met, "biased" is failed."""
    decided = [finding.decision for finding in findings]
    return Tally(len(decided), decided.count("fair within tolerance"), decided.count("biased"))


def idle(findings: Findings, arm: str) -> dict[str, tuple[str, str]]:
    """The questions whose negative prompt has nothing to do under an arm: without it the forbidden value is
    rare enough already. That a negative prompt is obeyed there says nothing of negative prompts.

    Each with its prompt and attribute.
    """
    drawn = {(claim.prompt, claim.attribute): claim.shares for claim in findings.claims if claim.arm == arm}
    found = {}
    for row in findings.reached:
        shares = drawn.get((row.prompt, row.attribute))
        forbidden = row.value.removeprefix("not ")
        if row.negative and row.arm == arm and shares and shares.get(forbidden, 0.0) <= 1 - row.min_rate:
            found[_question(row.finding)] = row.prompt, row.attribute
    return found


def judged(
    own: Sequence[Finding],
    every: Sequence[Finding],
    changes: Comparison | None,
    *,
    asleep: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[Verdict, tuple[str, ...]]:
    """ "repaired": every edited prompt that base is shown to be biased on is certified within the tolerance
    on held-out templates, and nothing got worse. "got worse": some prompt is shown to be farther from its
    target than under base, or an explicit or negative prompt that base obeyed is shown not to be. "not
    shown": neither. asleep: `idle` of base, whose questions no remedy can lose.
    """
    if changes is None:
        return "not shown", ("held against nothing",)
    biased = {
        _question(finding.id)
        for finding in every
        if finding.arm == BASE
        and finding.kind == "claim"
        and finding.held_out
        and finding.decision == "biased"
    }
    mine = {_question(finding.id): finding for finding in own if finding.kind == "claim"}
    cured = [key for key in biased if key in mine and mine[key].decision == "fair within tolerance"]
    reasons = [f"{len(cured)} of {len(biased)} held-out wrongs of base certified within the tolerance"]
    asleep = asleep or {}
    worse = [
        change
        for change in changes.changes
        if change.answer == "got worse"
        and (change.kind, change.prompt, change.attribute.split(" = ")[0])
        not in {("reachability", *where) for where in asleep.values()}
    ]
    lost = _lost([finding for finding in own if _question(finding.id) not in asleep], every)
    better = changes.count("improved")
    reasons.append(f"{better} of {len(changes.changes)} prompts nearer to target, {len(worse)} farther")
    if lost:
        reasons.append(f"no longer reached: {', '.join(repr(prompt) for prompt in lost[:3])}")
    if worse or lost:
        return "got worse", tuple(reasons)
    return ("repaired" if biased and len(cured) == len(biased) else "not shown"), tuple(reasons)


def _lost(own: Sequence[Finding], every: Sequence[Finding]) -> list[str]:
    held = {
        _question(finding.id)
        for finding in every
        if finding.arm == BASE
        and finding.kind == "reachability"
        and finding.decision == "fair within tolerance"
    }
    return [
        finding.prompts[0]
        for finding in own
        if finding.kind == "reachability" and finding.decision == "biased" and _question(finding.id) in held
    ]


def _changes(evidence: Evidence, name: str) -> Comparison | None:
    if name == BASE:
        return None
    try:
        return compare([(str(evidence.folder), evidence)], arms=(BASE, name))[0]
    except UsageError as nothing_shared:
        if nothing_shared.code != "E_COMPARE_NOTHING":
            raise
        return None


def _question(finding_id: str) -> str:
    """The hypothesis without its arm: the same for base and every remedy."""
    return finding_id.rsplit("/", 1)[0]
