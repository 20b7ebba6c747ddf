"""Makes the world's adapter, and audits it: the repaired arm in full, the base's a fifth as often."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from counterpoise.audit import Findings, load_spec, run_audit
from counterpoise.audit.arms import Arm, Ways
from counterpoise.demo.run import smaller
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Adapter, Host
from counterpoise.measure.heads import load_reader
from counterpoise.remedies.distil import suited
from counterpoise.remedies.goal import load_goal
from counterpoise.remedies.repair import repair
from counterpoise.world import MODEL_NAME, model_folder, reader_folder

HERE = Path(__file__).parent


class Made(NamedTuple):
    """The adapter's file, and what it cost; nothing is known of the cost of a file that was given."""

    file: Path
    seconds: float | None = None
    judged: int | None = None
    steps: int | None = None


class Audited(NamedTuple):
    """What was found of both arms on prompts to keep, that say a part of an edit, and of women's clothes;
    on edited prompts the repaired arm and the base apart."""

    repaired: Findings
    base: Findings
    kept: Findings
    partial: Findings
    exposure: Findings


def made(work: Path, given: Path | None) -> Made:
    """The adapter, made in `work` unless one is given; its cost counts every interrupted run."""
    if given is not None:
        return Made(given)
    file, story = work / "adapter.safetensors", work / "repair.json"
    if not story.exists():
        goal = load_goal(HERE / "goal.toml")
        method = suited(goal)
        drawing = load_spec(HERE / "spec.toml").drawing
        painter = Painter(
            load_pipeline(model_folder(MODEL_NAME)),
            guidance=drawing.guidance,
            steps=drawing.steps,
            batch_size=drawing.batch_size,
            dtype="bfloat16",
        )
        clock = _Clock(work / "seconds.json")
        reader = load_reader(reader_folder())
        done = repair(painter, reader, goal, method, work=work / "repair", progress=clock)
        done.adapter.save(file, dialect="diffusers")
        told = {
            "seconds": clock.seconds,
            "judged": done.pictures_judged,
            "steps": done.losses[-1][0],
            "tried": done.tried,
            "losses": done.losses,
            "shares": done.shares,
        }
        story.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    told = json.loads(story.read_text("utf-8"))
    return Made(file, told["seconds"], told["judged"], told["steps"])


def audited(work: Path, file: Path, n: int) -> Audited:
    """Findings of both arms; every picture is kept as evidence in `work`."""
    adapter = Adapter.load(file)
    reader = load_reader(reader_folder())
    host = Host(load_pipeline(model_folder(MODEL_NAME)))
    spec = load_spec(HERE / "spec.toml")
    ways = Ways(host, spec.drawing, model=MODEL_NAME)
    name = f"{adapter.fingerprint()[:12]}"
    base, folded = ways.base(), ways.folded(adapter, name="repaired")

    def asked(which: str, arms: Sequence[Arm], pictures: int, *, kind: str) -> Findings:
        few = smaller(load_spec(HERE / f"{which}.toml"), pictures)
        folder = work / (kind if len(arms) == 1 and arms[0] is base else f"{kind}-{name}")
        return run_audit(few, arms, measurer=reader, folder=folder, progress=_told)

    both = (base, folded)
    return Audited(
        asked("spec", (folded,), n, kind="repaired"),
        asked("spec", (base,), max(50, n // 5), kind="base"),
        asked("kept", both, max(40, n // 5), kind="kept"),
        asked("partial", both, max(40, 2 * n // 5), kind="partial"),
        asked("exposure", both, max(40, 4 * n), kind="exposure"),
    )


def _told(done: int, total: int, arm: str) -> None:
    print(f"\raudit, {arm}: {done} of {total}", end="", file=sys.stderr, flush=True)


class _Clock:
    """Progress in words, and the seconds of all runs of a training together, kept in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.before = float(json.loads(file.read_text("utf-8"))) if file.exists() else 0.0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """So far."""
        return self.before + time.monotonic() - self.started

    def __call__(self, stage: str, step: int, total: int, loss: float) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.seconds), "utf-8")
        print(f"\r{stage}: {step} of {total}, loss {loss:.4f}", end="", file=sys.stderr, flush=True)
