"""A repair's card: what it is for, what proves it, where it ends, how to load it; as Markdown and as JSON.

Comes in: an Outcome. Goes out: `card.md`, `card.json` and, where the repair is one adapter, its file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from counterpoise.audit import Claim, Drift, Finding
from counterpoise.audit.results import Reached
from counterpoise.files import whole, write_whole
from counterpoise.remedies import table
from counterpoise.remedies.estimate import told
from counterpoise.remedies.session import Outcome, arm_name

CARD, MARKDOWN, ADAPTER = "card.json", "card.md", "adapter.safetensors"
SCHEMA = 1
LIMITS = (
    "Attributes are perceived by the judge that is named here, not asked of anybody; its errors are in these "
    "shares.",
    "Each interval is about its own prompt, at the guidance, steps and scheduler that are named here.",
    "Prompts that the goal does not name were not audited, but for those listed under what was to be kept.",
)


def write_card(outcome: Outcome) -> dict[str, Any]:
    """Writes the adapter and both cards into the session's folder and returns what the JSON card holds."""
    out = outcome.request.out
    out.mkdir(parents=True, exist_ok=True)
    file = outcome.tried[-1].made.file if outcome.tried else None
    if file is not None:
        with whole(out / ADAPTER) as unfinished:
            shutil.copyfile(file, unfinished)
    content = card_of(outcome)
    write_whole(out / CARD, json.dumps(content, indent=2, sort_keys=True) + "\n")
    write_whole(out / MARKDOWN, "\n".join(markdown(content)) + "\n")
    return content


def card_of(outcome: Outcome) -> dict[str, Any]:
    """The card's content: plain JSON values."""
    request, tried = outcome.request, outcome.tried
    last = tried[-1] if tried else None
    arm = arm_name(last.method) if last else "base"
    content = {
        "schema": SCHEMA,
        "verdict": outcome.verdict,
        "method": last.method if last else None,
        "tried": [{"method": one.method, "certified": one.certified} for one in tried],
        "goal": request.goal.model_dump(mode="json", by_alias=True),
        "tolerance": request.tolerance,
        "base": {"model": Path(request.model).name, "sha256": outcome.base_sha256},
        "own_adapters": [
            {"file": name, "fingerprint": fingerprint, "strength": strength}
            for name, fingerprint, strength in outcome.own
        ],
        "drawing": {**outcome.drawing.model_dump(mode="json"), "dtype": request.dtype},
        "evidence": list(_evidence(outcome, arm)),
        "obeyed": [_obeyed(row) for row in outcome.findings.reached if row.arm in ("base", arm)],
        "kept": [_kept(row) for row in outcome.findings.drifts if row.arm == arm],
        "n": request.n,
        "seed": request.seed,
        "audit": "audit",
        "notes": list(outcome.notes),
        "limits": list(LIMITS),
        "treatment": _treatment(outcome),
        "made": _made(outcome),
        "estimate": dict(told(outcome.estimate)) if outcome.estimate else None,
        "versions": {name: version(name) for name in ("counterpoise", "torch", "diffusers")},
    }
    found: dict[str, Any] = json.loads(json.dumps(content))
    return found


def _evidence(outcome: Outcome, arm: str) -> Iterator[dict[str, Any]]:
    """Each neutral prompt's distance to its target, before and after, with its decision."""
    decided = {
        (found.arm, found.prompts[0], found.attribute): found
        for found in outcome.findings.findings
        if found.kind == "claim" and len(found.prompts) == 1
    }
    by_key = {(c.arm, c.prompt, c.attribute): c for c in outcome.findings.claims}
    for claim in outcome.findings.claims:
        if claim.arm != arm:
            continue
        key = (claim.prompt, claim.attribute)
        base = by_key.get(("base", *key))
        yield {
            "prompt": claim.prompt,
            "attribute": claim.attribute,
            "held_out": claim.held_out,
            "target": dict(claim.target),
            "before": _claim(base, decided.get(("base", *key))) if base else None,
            "after": _claim(claim, decided.get((arm, *key))),
        }


def _claim(claim: Claim, found: Finding | None) -> dict[str, Any]:
    return {
        "n": claim.n,
        "abstained": claim.abstained,
        "distance": claim.tv,
        "low": claim.tv_low,
        "high": claim.tv_high,
        "confidence": claim.confidence,
        "shares": dict(claim.shares),
        "decision": found.decision if found else None,
        "method": claim.method,
    }


def _obeyed(row: Reached) -> dict[str, Any]:
    named = {name: getattr(row, name) for name in ("arm", "prompt", "attribute", "value", "n")}
    return {**named, "rate": asdict(row.rate)}


def _kept(row: Drift) -> dict[str, Any]:
    return {
        "prompts": list(row.prompts),
        "attribute": row.attribute,
        "n": row.n,
        "changed": row.changed,
        "moved": asdict(row.moved),
    }


def _treatment(outcome: Outcome) -> dict[str, Any] | None:
    """How the repaired model is drawn with, in what others' tools call it."""
    if not outcome.tried:
        return None
    made = outcome.tried[-1].made
    treatment = made.prepared.treatment
    file = outcome.request.out / ADAPTER
    alone = made.file is not None
    return {
        "adapter": ADAPTER if alone else None,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if alone else None,
        "fingerprints": [adapter.fingerprint() for adapter, _ in treatment.adapters],
        "strengths": [strength for _, strength in treatment.adapters],
        "negative_prompt": treatment.negative,
        "negative_strength": treatment.push,
        "rewrite": treatment.rewrite.identity if treatment.rewrite else None,
        "model": treatment.model.name if treatment.model else None,
    }


def _made(outcome: Outcome) -> dict[str, Any] | None:
    if not outcome.tried:
        return None
    last = outcome.tried[-1]
    names = [name for name in table.names_of(last.method) if name in table.REMEDIES]
    return {
        "cost": last.made.story["cost"],
        "batch_size": last.made.story["drawing"]["batch_size"],
        "training_batch_parts": last.made.story["parts"],
        "sources": {name: table.REMEDIES[name].source for name in names},
        "judge": last.made.story["judge"],
        "fast": outcome.request.fast,
    }


def markdown(card: Mapping[str, Any]) -> Iterator[str]:
    """The card for readers."""
    yield f"# A repair of {_code(card['base']['model'])}: {card['verdict']}"
    yield ""
    yield from _summary(card)
    yield ""
    yield "## Evidence"
    yield (
        f"Distance: total variation to the target, with its interval; {card['n']} pictures of each "
        "held-out prompt on the same seeds in both arms. Within tolerance means that the interval "
        f"lies within {card['tolerance']:g} of the target, with false discoveries controlled over all rows."
    )
    yield ""
    yield "| prompt | attribute | held out | before | after | n | decision |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in card["evidence"]:
        before = _distance(row["before"]) if row["before"] else "not measured"
        yield (
            f"| {_code(row['prompt'])} | {_code(row['attribute'])} | {'yes' if row['held_out'] else 'no'} | "
            f"{before} | {_distance(row['after'])} | {row['after']['n']} | {row['after']['decision']} |"
        )
    yield ""
    yield from _others(card)
    yield "## Limits"
    for line in (*card["limits"], *card["notes"]):
        yield f"- {_plain(line)}"
    yield ""
    yield "## How to load it"
    yield from _loading(card)
    yield ""
    yield "## Where it comes from"
    yield f"- base model {_code(card['base']['model'])}, sha256 of its weights `{card['base']['sha256']}`"
    if card["made"]:
        cost = card["made"]["cost"]
        yield (
            f"- method {_code(card['method'])}, {cost['seconds']:.0f} s, {cost['judged']} pictures judged, "
            f"{cost['trained']} steps trained; judge {_code(card['made']['judge'])}"
        )
        for name, source in card["made"]["sources"].items():
            yield f"- {name}: {_plain(source)}"
    for own in card["own_adapters"]:
        yield f"- audited with {_code(own['file'])} on, at strength {own['strength']:g}"
    yield "- " + ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    yield f"- every picture and reading: the folder `{card['audit']}` (`counterpoise verify`)"


def _summary(card: Mapping[str, Any]) -> Iterator[str]:
    drawing = card["drawing"]
    for edit in card["goal"]["edit"]:
        shares = ", ".join(f"{_plain(v['phrase'])} {v['share']:g}" for v in edit["variants"])
        yield f"- pictures of {_code(edit['neutral'])} are to be: {shares}"
    yield (
        f"- drawn at guidance {drawing['guidance']:g}, {drawing['steps']} steps, in batches of "
        f"{drawing['batch_size']}, {drawing['dtype']}"
    )
    for one in card["tried"]:
        yield f"- {one['method']}: {'certified' if one['certified'] else 'not certified'} on held-out prompts"


def _others(card: Mapping[str, Any]) -> Iterator[str]:
    if card["obeyed"]:
        yield "Prompts that ask for a variant, share obeyed:"
        yield ""
        yield "| prompt | asks for | arm | rate | n |"
        yield "| --- | --- | --- | --- | --- |"
        for row in card["obeyed"]:
            yield (
                f"| {_code(row['prompt'])} | {_code(row['value'])} | {row['arm']} | {_rate(row['rate'])} | "
                f"{row['n']} |"
            )
        yield ""
    if card["kept"]:
        worst = sorted(card["kept"], key=lambda row: -(row["moved"]["value"] or 0.0))[:10]
        yield f"What was to stay as it is, the {len(worst)} rows of {len(card['kept'])} that moved most:"
        yield ""
        yield "| prompt | attribute | moved | n |"
        yield "| --- | --- | --- | --- |"
        for row in worst:
            yield (
                f"| {_code(row['prompts'][0])} | {_code(row['attribute'])} | {_rate(row['moved'])} | "
                f"{row['n']} |"
            )
        yield ""


def _loading(card: Mapping[str, Any]) -> Iterator[str]:
    treatment = card["treatment"]
    if treatment is None:
        yield "There is nothing to load: the plain model is within tolerance."
        return
    if treatment["adapter"]:
        yield "Any tool that reads LoRA files in diffusers' dialect takes it, at strength 1:"
        yield ""
        yield "```python"
        yield f'pipeline.load_lora_weights("{treatment["adapter"]}")'
        yield "```"
        yield ""
        yield f"or `counterpoise audit SPEC --adapter {treatment['adapter']}`. For web UIs:"
        yield "`counterpoise adapter convert`. To take it out: unload it; the base's bytes are as they were."
    if treatment["negative_prompt"]:
        yield f"Negative prompt: {_code(treatment['negative_prompt'])}"
        yield f"at {treatment['negative_strength']:g} times its usual strength (1 is what every tool does)."
    if treatment["rewrite"]:
        yield f"Prompts are rewritten before they are drawn: {_code(treatment['rewrite'])}."
        yield "From Python: `counterpoise.remedies.planner.Planner(goal, values).plan_list(prompts)`."
    if treatment["model"]:
        yield f"The model in the folder {_code(treatment['model'])} takes the base's place."


def _distance(claim: Mapping[str, Any]) -> str:
    return f"{claim['distance']:.3f} [{claim['low']:.3f}, {claim['high']:.3f}]"


def _rate(rate: Mapping[str, Any]) -> str:
    value = "not measured" if rate["value"] is None else f"{rate['value']:.3f}"
    high = "" if rate["high"] is None else f"{rate['high']:.3f}"
    return f"{value} [{rate['low']:.3f}, {high}]"


def _plain(text: str) -> str:
    """User text in Markdown, without any meaning there."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in shown)


def _code(text: str) -> str:
    """User text as code in a table: a fence longer than any that it holds."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text).replace("|", "\\|")
    fence = "`"
    while fence in shown:
        fence += "`"
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown}`"
