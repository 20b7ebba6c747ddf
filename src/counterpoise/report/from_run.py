"""A run folder in, its report.html out: everything shown is read back from the folder's evidence.

Callers add what a run does not hold: a title, a verdict, proofs, a training curve, facts, limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from counterpoise.audit import Claim, Evidence, analyse, read_run
from counterpoise.audit.spec import all_prompts
from counterpoise.report.data import Picture, ReportData
from counterpoise.report.page import write_report

SHOWN = 8  # pictures a prompt and arm


def pictures_of(evidence: Evidence) -> list[Picture]:
    """The first pictures of every prompt in every arm, by seed, as PNG bytes."""
    spec = evidence.spec
    prompts = dict.fromkeys(prompt for prompt, _ in all_prompts(spec))
    return [
        Picture(prompt, str(arm["name"]), picture.cell.seed, picture.file.read_bytes())
        for arm in evidence.arms
        for prompt in prompts
        for picture in evidence.pictures(str(arm["name"]), prompt, limit=SHOWN)
    ]


def summarise(claims: Iterable[Claim]) -> str:
    """One sentence on the first arm's claims: how many prompts are off target, and which the most."""
    found = list(claims)
    if not found:
        return "Nothing was measured."
    arm = found[0].arm
    mine = [claim for claim in found if claim.arm == arm]
    off = [claim for claim in mine if claim.tv_low > 0]
    worst = max(mine, key=lambda claim: claim.tv)
    return (
        f"Under {arm}, {len(off)} of {len(mine)} claims are off their target beyond chance; the farthest is "
        f"{worst.attribute} of {worst.prompt!r}: {worst.tv:.3f} [{worst.tv_low:.3f}, {worst.tv_high:.3f}]."
    )


def report_run(folder: Path, *, limits: Sequence[str] = ()) -> Path:
    """Writes report.html from a run folder's evidence; UsageError if it holds no run."""
    with read_run(folder) as evidence:
        findings = analyse(evidence)
        data = ReportData(
            title=f"Audit: {evidence.spec.name}",
            verdict=summarise(findings.claims),
            claims=findings.claims,
            rates=findings.rates,
            disparities=findings.disparities,
            coverage=findings.coverage,
            pictures=pictures_of(evidence),
            facts=facts_of(evidence),
            limits=limits or STANDARD_LIMITS,
        )
    path = folder / "report.html"
    write_report(data, path)
    return path


STANDARD_LIMITS = (
    "Attributes are perceived by the named measurer; its error is not propagated into the intervals.",
    "Each interval holds for its own prompt; no claim is made about all prompts together.",
)


def facts_of(evidence: Evidence) -> dict[str, str]:
    """Where the pictures came from: arms, seeds, judge."""
    spec = evidence.spec
    measurer = evidence.identity["measurer"]
    assert isinstance(measurer, dict)
    facts = {"seeds": f"{spec.seed} and on; the same in every arm"}
    facts["judge"] = f"{measurer['name']}, version {measurer['version']}"
    for arm in evidence.arms:
        adapters = arm["adapters"]
        assert isinstance(adapters, list)
        beside = ", ".join(f"{sha256[:16]} at {strength:g}" for sha256, strength in adapters) or "none"
        facts[f"arm {arm['name']}"] = (
            f"{arm['model']}, weights {str(arm['model_sha256'])[:16]}, adapters {beside}, guidance "
            f"{arm['guidance']}, {arm['steps']} steps, batches of {arm['batch_size']}, {arm['dtype']}"
        )
    return facts
