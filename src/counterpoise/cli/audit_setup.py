"""What `counterpoise audit` was asked for: adapters, questions and judges from a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoise.errors import UsageError

if TYPE_CHECKING:
    from counterpoise.audit import AuditSpec, Plan
    from counterpoise.measure.reading import Measurer

_NAME = 48  # characters of an arm's name, so that ".negative.12" still fits behind


def named_adapters(given: Sequence[str], strength: float) -> list[tuple[str, Path, float]]:
    """(arm's name, file, strength) of each FILE[=STRENGTH]; a name depends on its file and strength alone.

    UsageError for a strength that is no finite number, and for two that would have one name.
    """
    found: list[tuple[str, Path, float]] = []
    for text in given:
        file, at = text, strength
        before, equals, after = text.rpartition("=")
        if equals and not Path(text).exists():
            try:
                file, at = before, float(after)
            except ValueError:
                at = math.nan
        if not math.isfinite(at):
            raise UsageError(
                f"--adapter {text!r:.200}: expected FILE or FILE=STRENGTH, such as style.safetensors=0.7",
                code="E_STRENGTH",
            )
        path = Path(file)
        stem = path.stem if path.suffix == ".safetensors" else path.resolve().name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:_NAME] or "adapter"
        # No adapter's arm may pass for the plain one's, or for one with a negative prompt.
        name = "adapter-base" if name == "base" else name.replace(".negative.", "-negative-")
        name += "" if at == 1.0 else f"-at-{at:g}".replace("+", "")
        if name in {other for other, _, _ in found}:
            raise UsageError(
                f"--adapter {text!r:.200}: another one is named {name} too; rename the file or leave it out",
                code="E_ARM",
            )
        found.append((name, path, at))
    return found


def question_of(
    file: Path | None, adapters: Sequence[tuple[str, Path, float]], *, model: str, n: int | None
) -> AuditSpec:
    """The spec that was named, or the built-in one."""
    from counterpoise.audit import drift_spec, load_spec, with_n
    from counterpoise.world import is_embedded

    if file is None and not adapters:
        raise UsageError(
            "nothing is asked: name a spec (docs/spec.md), or see what an adapter moves with --adapter FILE",
            code="E_SPEC_FILE",
        )
    if file is None and not is_embedded(model):
        raise UsageError(
            f"the built-in questions are for the embedded models, not for {model}: name a spec with prompts "
            "and a measurer for it",
            code="E_SPEC_FILE",
        )
    question = drift_spec() if file is None else load_spec(file)
    return question if n is None else with_n(question, n)


def judge_of(question: AuditSpec, reader: Path | None, base: Path) -> Measurer:
    """The judges that the spec names; their files are relative to `base`. reader: a folder of the reader that
    stands for the embedded model's."""
    from counterpoise.measure.heads import load_reader
    from counterpoise.measure.judges import make_measurer
    from counterpoise.world import MODEL_NAME, reader_folder

    own = {MODEL_NAME: lambda: load_reader(reader or reader_folder())}
    return make_measurer(question.measurers, base=base, also=own)


def check_arms(plan: Plan, names: Sequence[str]) -> None:
    """UsageError if a drift question has nothing to compare."""
    from counterpoise.measure.cards import nearest

    for drift in plan.drifts:
        if drift.baseline not in names:
            raise UsageError(
                f"{drift.where}.baseline is {drift.baseline!r:.80}, and no arm is named so; "
                f"{nearest(drift.baseline, names)}",
                code="E_ARM",
            )
        if len(names) < 2:
            raise UsageError(
                f"{drift.where} compares arms, and there is only {names[0]}: add --adapter FILE", code="E_ARM"
            )
