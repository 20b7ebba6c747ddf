"""Makes a remedy of the world's associations, and audits it: the base a little, the repaired arm much."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from counterpoise.audit import Findings, load_spec, run_audit
from counterpoise.audit.arms import Way, Ways
from counterpoise.demo.run import smaller
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Host
from counterpoise.measure.heads import load_reader
from counterpoise.remedies.goal import load_goal
from counterpoise.remedies.making import make
from counterpoise.remedies.treatment import Bench, Prepared
from counterpoise.world import MODEL_NAME, model_folder, reader_folder

HERE = Path(__file__).parent


class Both(NamedTuple):
    """The plain model's findings and the repaired one's."""

    base: Findings
    repaired: Findings


class Audited(NamedTuple):
    """What was found on edited prompts, on prompts that say a part of an edit, of women's clothes, and (both
    arms in one audit, on the same seeds) on prompts to keep; None: not asked."""

    edited: Both | None = None
    partial: Both | None = None
    exposure: Both | None = None
    kept: Findings | None = None


PARTS = Audited._fields


def made(work: Path, remedy: str) -> Prepared:
    """The remedy, made in `work` or found there; its cost counts every interrupted run."""
    spec = load_spec(HERE / "spec.toml")
    drawing = spec.drawing
    painter = Painter(
        load_pipeline(model_folder(MODEL_NAME)),
        guidance=drawing.guidance,
        steps=drawing.steps,
        batch_size=drawing.batch_size,
        dtype="auto",
    )
    bench = Bench(painter, load_reader(reader_folder()), work / remedy, seed=spec.seed, progress=_progress)
    return make(remedy, bench, load_goal(HERE / "goal.toml")).prepared


def audited(
    work: Path,
    name: str,
    prepared: Prepared,
    n: int,
    *,
    seen: int | None = None,
    parts: Sequence[str] = PARTS,
) -> Audited:
    """Findings of both arms; every picture is kept as evidence in `work`. n: pictures for each prompt of an
    edit, `seen` on the template that the repair saw; parts: fields of `Audited`, the others stay None."""
    reader = load_reader(reader_folder())
    host = Host(load_pipeline(model_folder(MODEL_NAME)))
    ways = Ways(host, load_spec(HERE / "spec.toml").drawing, model=MODEL_NAME)
    adapters = prepared.treatment.adapters
    if prepared.treatment.model is None and len(adapters) == 1 and adapters[0][1] == 1.0:
        repaired = ways.folded(adapters[0][0], name="repaired")
    else:
        repaired = ways.treated(prepared.treatment, name="repaired")
    base = ways.base()

    def asked(which: str, pictures: int, *arms: Way, kind: str, seen: int | None = None) -> Findings:
        few = smaller(load_spec(HERE / f"{which}.toml"), pictures)
        folder = f"audit-{which}-{kind}-{pictures}"
        if seen is not None:
            claims = tuple(c if c.held_out else c.model_copy(update={"n": seen}) for c in few.claims)
            few, folder = few.model_copy(update={"claims": claims}), f"{folder}-{seen}"
        return run_audit(few, arms, measurer=reader, folder=work / folder, progress=_told)

    def both(which: str, pictures: int, seen: int | None = None) -> Both:
        few = max(50, n // 20)
        return Both(
            asked(which, few, base, kind="base"),
            asked(which, max(40, pictures), repaired, kind=name, seen=seen),
        )

    found: dict[str, Callable[[], Both | Findings]] = {
        "edited": lambda: both("spec", n, seen),
        "partial": lambda: both("partial", 2 * n // 5),
        "exposure": lambda: both("exposure", 2 * n),
        "kept": lambda: asked("kept", max(40, n // 10), base, repaired, kind=name),
    }
    return Audited(**{part: found[part]() for part in parts})


def _progress(stage: str, step: int, total: int, loss: float) -> None:
    print(f"\r{stage}: {step} of {total}, loss {loss:.4f}", end="", file=sys.stderr, flush=True)


def _told(done: int, total: int, arm: str) -> None:
    print(f"\raudit, {arm}: {done} of {total}", end="", file=sys.stderr, flush=True)
