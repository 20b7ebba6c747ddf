"""The demo's report.html: what run.py found, as the report room draws it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from counterpoise.audit import read_run
from counterpoise.demo.run import Demo
from counterpoise.demo.verdict import BAR, sentence
from counterpoise.report import Picture, Proof, ReportData, write_report
from counterpoise.report.from_run import pictures_of, targets_of
from counterpoise.world.table import load_table


def write_page(demo: Demo) -> Path:
    """Writes report.html into the demo's folder and returns its path."""
    data = ReportData(
        title="Counterpoise demo: a bias found, repaired, proved",
        verdict=sentence(demo),
        intro=_intro(),
        findings=demo.findings.findings,
        claims=demo.findings.claims,
        rates=demo.findings.rates,
        disparities=demo.findings.disparities,
        contrasts=demo.findings.contrasts,
        reached=demo.findings.reached,
        drifts=demo.findings.drifts,
        coverage=demo.findings.coverage,
        targets=targets_of(demo.spec),
        pictures=_pictures(demo),
        proofs=_proofs(demo),
        losses=[(int(step), float(loss)) for step, loss in demo.repair["told"]["losses"]],
        facts=_facts(demo),
        commands=["counterpoise demo --fast" if demo.fast else "counterpoise demo"],
        confidence=demo.spec.confidence,
        multiplicity=demo.spec.multiplicity,
        stopping=demo.spec.stopping,
        limits=_limits(demo),
        bar=BAR,
    )
    path = demo.out / "report.html"
    write_report(data, path)
    return path


def _intro() -> list[str]:
    return [
        "The model is a small Stable Diffusion that was trained on drawn avatars with planted associations: "
        "what a caption left out was drawn from a known, one-sided table.",
        "The repair is one low-rank update, W = W0 + BA, distilled from the frozen model's own explicit "
        "drawings: under a neutral prompt it draws the target mixture of explicit variants. It saw no "
        "photographs, and none of the templates audited here.",
        "Four arms draw on the same seeds: base; repaired (the update beside the weights); folded (the "
        "update in the weights); restored (taken out again).",
    ]


def _pictures(demo: Demo) -> list[Picture]:
    found = []
    for folder in (demo.out, demo.out / "proof"):
        with read_run(folder) as evidence:
            found += pictures_of(evidence)
    return found


def _proofs(demo: Demo) -> list[Proof]:
    fold, same = demo.fold, demo.sha256_before == demo.sha256_after
    return [
        Proof(
            "The weights come back byte for byte",
            "After folding, drawing and restoring, the sha256 over all weights is the one from before."
            if same
            else "After folding, drawing and restoring, the sha256 over all weights differs.",
            same,
            {"sha256 before": demo.sha256_before, "sha256 after": demo.sha256_after},
        ),
        Proof(
            "Folded, it draws the same pictures at the base's price",
            "The update was added to the weights; the model is stock modules with nothing beside them.",
            fold.max_pixel_difference <= 2,
            {
                "largest pixel difference": f"{fold.max_pixel_difference} of 255, {fold.n} pictures, float32",
                "colour values that differ": f"{fold.changed_pixels:.4%}",
                "time an image, folded / base": f"{fold.time_ratio:.3f} (medians of alternating batches)",
            },
        ),
    ]


def _facts(demo: Demo) -> dict[str, str]:
    drawing, made = demo.spec.drawing, demo.repair
    method, cost = made["told"]["method"], made["cost"]
    return {
        "model": f"world ({load_table().name}), sha256 {demo.sha256_before}",
        "drawing": f"guidance {drawing.guidance:g}, {drawing.steps} steps, batches of {drawing.batch_size}",
        "seeds": f"{demo.spec.seed} and on; the same in every arm",
        "adapter": f"rank {method['rank']}, alpha {method['alpha']:g}, UNet attention and feed-forward",
        "repair": f"{cost['seconds']:.0f} s; {method['first']['steps']} steps, then "
        f"{method['corrections']} x {method['later']['steps']} after corrections, which read "
        f"{cost['judged']} pictures",
        "judge": f"the world's reader, {made['judge']}",
        "target chosen by": "goal.toml: equal tones, equal presentation, the others' rate of clothes",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("counterpoise", "torch", "diffusers")),
        "Python": platform.python_version(),
    }


def _limits(demo: Demo) -> list[str]:
    found = [
        "Attributes are perceived by a trained reader; its error on held-out drawings is below 0.5 % an "
        "attribute and is not propagated into the intervals here.",
        "Drawn avatars with five tones and two presentations: a planted world to test methods on, not a "
        "picture of people.",
        "Each interval holds for its own prompt; no claim is made about all prompts together.",
    ]
    if demo.fast:
        found.insert(
            0, "Made with --fast: few pictures and a hardly trained repair. A test of the code only."
        )
    return found
