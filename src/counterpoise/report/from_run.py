"""A run folder in, its report.html out: everything shown is read back from the folder's evidence.

Callers add what a run does not hold: a title, a verdict, proofs, a training curve, facts, limits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from counterpoise.audit import AuditSpec, Evidence, analyse, read_run
from counterpoise.audit.cards import kept_cards
from counterpoise.audit.chunks import read_chunks
from counterpoise.audit.spec import all_prompts
from counterpoise.measure.calibration import Calibration
from counterpoise.report.data import Judge, Picture, ReportData
from counterpoise.report.page import write_report
from counterpoise.report.verdict import summarise

__all__ = ["facts_of", "judges_of", "pictures_of", "report_run", "summarise", "targets_of"]

SHOWN = 8  # pictures a prompt and arm
MOST_ENVIRONMENTS = 4


def pictures_of(evidence: Evidence) -> list[Picture]:
    """The first pictures of every prompt in every arm, by seed, as PNG; files that are gone are left out."""
    spec = evidence.spec
    prompts = dict.fromkeys(prompt for prompt, _ in all_prompts(spec))
    return [
        Picture(
            prompt,
            str(arm["name"]),
            picture.cell.seed,
            picture.file.read_bytes(),
            drawn_with(picture.file, prompt),
        )
        for arm in evidence.arms
        for prompt in prompts
        for picture in evidence.pictures(str(arm["name"]), prompt, limit=SHOWN)
        if picture.file.is_file()
    ]


def drawn_with(file: Path, asked: str) -> str:
    """The prompt that a picture's file says it was drawn with, "" where that is the one that was asked."""
    said = (read_chunks(file).ours() or {}).get("drawn")
    return said if isinstance(said, str) and said != asked else ""


def report_run(
    folder: Path, *, limits: Sequence[str] = (), cards: Sequence[Calibration] = (), dated: str = ""
) -> Path:
    """Writes report.html from a run folder's evidence; UsageError if it holds no run.

    cards: the judges' measured errors. dated: the audit's date for forms that ask for one.
    """
    with read_run(folder) as evidence:
        findings, spec = analyse(evidence, cards=cards or None), evidence.spec
        cards = cards or kept_cards(folder, spec)
        data = ReportData(
            title=f"Audit: {spec.name}",
            findings=findings.findings,
            claims=findings.claims,
            rates=findings.rates,
            disparities=findings.disparities,
            contrasts=findings.contrasts,
            reached=findings.reached,
            drifts=findings.drifts,
            coverage=findings.coverage,
            pictures=pictures_of(evidence),
            judges=judges_of(evidence),
            cards=cards,
            targets=targets_of(spec),
            facts={**facts_of(evidence), **_environment(folder)},
            commands=commands_of(evidence),
            limits=limits,
            dated=dated,
            confidence=spec.confidence,
            multiplicity=spec.multiplicity,
            stopping=spec.stopping,
        )
    path = folder / "report.html"
    write_report(data, path)
    return path


def targets_of(spec: AuditSpec) -> dict[str, str]:
    """A question's place -> what it is held against, and who chose that, in words."""
    found = {}
    for i, claim in enumerate(spec.claims):
        where = f"claim[{i}]"
        chosen = f"chosen in the spec “{spec.name}” ({where}.target)"
        tolerance = spec.tolerance if claim.tolerance is None else claim.tolerance
        near = (
            "no tolerance was set"
            if tolerance is None
            else f"fair is within {100 * tolerance:g} points of it"
        )
        if claim.target == "uniform":
            words = f"equal shares, which is what a spec means unless it says otherwise ({where}.target)"
        elif isinstance(prompt := claim.target.get("prompt"), str) and prompt != "uniform":
            words = f"what the same arm draws for “{prompt:.200}”; {chosen}"
        else:
            words = f"{_shares(claim.target)}; {chosen}"
        found[where] = f"{words}; {near}."
    return found


def _shares(target: Mapping[str, object]) -> str:
    parts = []
    for name, share in target.items():
        if isinstance(share, Mapping):
            parts.append(f"{name} ({_shares(share)})")
        else:
            parts.append(f"{name} {100 * share:g} %" if isinstance(share, int | float) else f"{name} {share}")
    return ", ".join(parts)


def judges_of(evidence: Evidence) -> list[Judge]:
    """The measurer that read the run's pictures."""
    measurer = evidence.identity["measurer"]
    assert isinstance(measurer, dict)
    return [Judge(str(measurer["name"]), str(measurer["version"]), evidence.attributes)]


def commands_of(evidence: Evidence) -> list[str]:
    """The commands that make the run again; what a command cannot know stands in capitals."""
    models = list(dict.fromkeys(str(arm["model"]) for arm in evidence.arms))
    strengths: dict[str, float] = {}
    for arm in evidence.arms:
        adapters = arm["adapters"]
        assert isinstance(adapters, list)
        strengths |= {str(digest): float(strength) for digest, strength in adapters}
    flags = "".join(f" --adapter ADAPTER_{d[:8]}.safetensors={s:g}" for d, s in strengths.items())
    return [
        f"counterpoise audit SPEC.toml --model {models[0] if models else 'MODEL'}{flags} --out RUN",
        "counterpoise report RUN",
    ]


def facts_of(evidence: Evidence) -> dict[str, str]:
    """Where the pictures came from: spec, arms, seeds, judge, with their hashes."""
    spec = evidence.spec
    measurer = evidence.identity["measurer"]
    assert isinstance(measurer, dict)
    canonical = json.dumps(evidence.identity["spec"], sort_keys=True, separators=(",", ":"))
    facts = {
        "seeds": f"{spec.seed} and on; the same in every arm",
        "judge": f"{measurer['name']}, version {measurer['version']}",
        "sha256 of the spec": hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest(),
        "stopping": spec.stopping,
        "multiplicity": spec.multiplicity,
    }
    for card in spec.confusion:
        facts[f"confusion card {card.file}"] = card.sha256
    for arm in evidence.arms:
        adapters = arm["adapters"]
        assert isinstance(adapters, list)
        beside = ", ".join(f"{sha256} at {strength:g}" for sha256, strength in adapters) or "none"
        negative = f", negative prompt {arm['negative_prompt']!r}" if arm.get("negative_prompt") else ""
        facts[f"arm {arm['name']}"] = (
            f"{arm['model']}, weights {arm['model_sha256']}, adapters {beside}, guidance "
            f"{arm['guidance']}, {arm['steps']} steps, batches of {arm['batch_size']}, "
            f"{arm['dtype']}{negative}"
        )
    return facts


def _environment(folder: Path) -> dict[str, str]:
    """What drew the pictures, as environment.json has it; nothing where there is no such file."""
    try:
        listed = json.loads((folder / "environment.json").read_bytes()).get("environments", [])
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    found = {}
    for i, each in enumerate(listed[:MOST_ENVIRONMENTS] if isinstance(listed, list) else [], 1):
        if isinstance(each, dict):
            words = ", ".join(f"{k} {v}" for k, v in sorted(each.items()) if isinstance(v, str | int | float))
            found["environment" if len(listed) == 1 else f"environment {i}"] = words[:1000]
    return found
