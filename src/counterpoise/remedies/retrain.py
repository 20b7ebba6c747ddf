"""Retrained W: the whole model trained on with its own objective, on data whose shares are the goal's.

In: a bench, a goal; for the planted world its drawings are redrawn ("replace") or added to ("add"), for any
other model the user gives a folder of captioned pictures. Out: a pipeline folder, which a treatment draws
with in place of the model's own; at equal capacity also a full difference to mount, so that W0 can be had
back.
The remedy that the argument calls "a less biased W", at its own price: data, a model's bytes, and what the
prompts that were not asked about lose.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch

from counterpoise.audit.targets import joint_name
from counterpoise.diffusion.load import load_pipeline, quieten
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host
from counterpoise.lora.kinds import Full
from counterpoise.lora.layers import Layout
from counterpoise.lora.training import Schedule
from counterpoise.remedies.captioned import folder_data
from counterpoise.remedies.deepening import deepened
from counterpoise.remedies.drawings import Data, Item, Version, items, world_data
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.treatment import Bench, Cost, Prepared, Treatment
from counterpoise.world import MODEL_NAME, model_folder
from counterpoise.world.denoiser import Captioned, tokenize, train_denoiser
from counterpoise.world.model import save

STAGE = "retraining"
TRAINED = ("unet", "text_encoder")


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """How much of everything. drawings: before anything is added. schedule: for so many drawings; data that
    grow are given as many more steps. early: the share of a batch in the noisiest steps, where what a caption
    leaves open is decided (the world's own training had the same). seed: of the drawings."""

    drawings: int = 12_000
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=600, batch=64, lr=4e-4, warmup=30, seed=41, ema=0.99, save_every=50
        )
    )
    early: float = 0.5
    seed: int = 7_001


# For a user's own pictures: few at a time, a rate that a large model survives, its usual time steps.
OWN = Recipe(schedule=Schedule(steps=1000, batch=4, lr=1e-5, seed=41, save_every=100), early=0.0)


@final
@dataclass(frozen=True, slots=True)
class Retrain:
    """A remedy of the table.

    version: "replace", "add", or "same" (the data as they were: what training alone does). capacity:
    transformer blocks added to each attention. recipe: None for the world's, or OWN for pictures. pictures:
    the user's folder, for a model that is not the world; its shares are as they are. beside: as an adapter,
    which needs equal capacity. drawings: a folder for what is drawn, which versions of one goal may share;
    None for one in bench.work.
    """

    version: Version = "replace"
    capacity: int = 0
    recipe: Recipe | None = None
    pictures: Path | None = None
    beside: bool = False
    drawings: Path | None = None

    def __call__(self, bench: Bench, goal: Goal) -> Prepared:
        """Trains, or goes on, or finds what was trained in bench.work.

        UsageError E_DATA for a model that is not the world without pictures, E_CAPACITY for a deeper one as
        an adapter, E_MODEL for a pipeline of other parts, E_RESUME where the work is of other settings;
        DivergedError on a NaN loss, the last checkpoint kept.
        """
        pipeline = bench.painter.pipeline
        _check(self, pipeline)
        folder, story = bench.work / "model", bench.work / "story.json"
        told = self._story(bench, goal)
        if not story.exists():
            with _timed(bench.work / "seconds.json"):
                data = self._data(bench, goal)
                made = retrained(pipeline, data, self, bench=bench)
                save(made, folder)
            steps = self._schedule(len(data)).steps
            story.write_text(json.dumps({"key": told, "steps": steps, "rows": len(data)}), "utf-8")
        known = json.loads(story.read_text("utf-8"))
        if known["key"] != told:
            reason = f"{bench.work} holds a retraining of other settings; use another folder"
            raise UsageError(reason, code="E_RESUME", file=str(bench.work))
        seconds = json.loads((bench.work / "seconds.json").read_text("utf-8"))
        notes = (f"{known['rows']:,} pictures, {known['steps']:,} steps", *self._notes(goal))
        if not self.beside:
            cost = Cost(seconds, trained=known["steps"], nbytes=_bytes(folder))
            return Prepared(Treatment(model=folder), cost, notes)
        file = bench.work / "adapter.safetensors"
        if not file.exists():
            difference(pipeline, load_pipeline(folder)).save(file, dialect="kohya")
        cost = Cost(seconds, trained=known["steps"], nbytes=file.stat().st_size)
        adapter = Adapter.load(file, model=pipeline)
        return Prepared(Treatment(adapters=((adapter, 1.0),)), cost, notes)

    @property
    def plan(self) -> Recipe:
        """The recipe in force."""
        return self.recipe or (Recipe() if self.pictures is None else OWN)

    def _data(self, bench: Bench, goal: Goal) -> Data:
        pipeline = bench.painter.pipeline

        def tell(done: int, total: int) -> None:
            bench.progress("data", done, total, float("nan"))

        if self.pictures is not None:
            return folder_data(pipeline, self.pictures, progress=tell)
        recipe, cache = self.plan, self.drawings or bench.work / "drawings"
        return world_data(
            pipeline, goal, self.version, recipe.drawings, seed=recipe.seed, cache=cache, progress=tell
        )

    def _schedule(self, rows: int) -> Schedule:
        """The same number of steps a picture, however many there are."""
        schedule = self.plan.schedule
        if self.pictures is not None:
            return schedule
        return replace(schedule, steps=round(schedule.steps * rows / self.plan.drawings))

    def _story(self, bench: Bench, goal: Goal) -> str:
        """What the retraining depends on, the model's weights included, as one digest."""
        told = {
            "version": self.version,
            "capacity": self.capacity,
            "recipe": asdict(self.plan),
            "pictures": str(self.pictures),
            "goal": goal.model_dump(mode="json"),
            "model": Host(bench.painter.pipeline).fingerprint(),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def _notes(self, goal: Goal) -> Iterator[str]:
        if self.pictures is None and self.version != "same":
            recipe = self.plan
            before = items(goal, "same", recipe.drawings, seed=recipe.seed)
            yield from tally(goal, before, items(goal, self.version, recipe.drawings, seed=recipe.seed))


def replaced(bench: Bench, goal: Goal) -> Prepared:
    """The data's shares changed at equal size."""
    return Retrain("replace")(bench, goal)


def added(bench: Bench, goal: Goal) -> Prepared:
    """Drawings of what was too rare added to the data."""
    return Retrain("add")(bench, goal)


def added_deeper(bench: Bench, goal: Goal) -> Prepared:
    """As `added`, by a model of more capacity."""
    return Retrain("add", capacity=1)(bench, goal)


def unchanged(bench: Bench, goal: Goal) -> Prepared:
    """The data as they were: what training on does by itself, for the others to be held against."""
    return Retrain("same")(bench, goal)


def is_world(pipeline: Any) -> bool:
    """Whether this is the embedded model, whose data can be drawn anew."""
    name = str(getattr(pipeline, "name_or_path", None) or "")
    return bool(name) and Path(name).resolve() == model_folder(MODEL_NAME).resolve()


def retrained(pipeline: Any, data: Data, remedy: Retrain, *, bench: Bench) -> Any:
    """A new pipeline whose UNet and text encoder were trained on `data`; `pipeline` is left as it was."""
    unet = copy.deepcopy(pipeline.unet) if not remedy.capacity else deepened(pipeline.unet, remedy.capacity)
    text_encoder = copy.deepcopy(pipeline.text_encoder)
    train_on(
        pipeline,
        (unet, text_encoder),
        data,
        schedule=remedy._schedule(len(data)),
        early=remedy.plan.early,
        checkpoint=bench.work / "retrain.ckpt",
        progress=lambda step, total, loss: bench.progress(STAGE, step, total, loss),
    )
    return with_networks(pipeline, unet, text_encoder)


def train_on(
    pipeline: Any,
    networks: tuple[Any, Any],
    data: Data,
    *,
    schedule: Schedule,
    early: float,
    checkpoint: Path,
    progress: Any = lambda step, total, loss: None,
) -> list[tuple[int, float]]:
    """Trains a UNet and a text encoder, in place, with the pipeline's own objective; the loss log."""
    from diffusers import DDIMScheduler

    unet, text_encoder = networks
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    for network in networks:
        torch.nn.Module.to(network, torch.float32).requires_grad_(True)
    try:
        return train_denoiser(
            unet,
            text_encoder,
            schedule,
            scheduler=DDIMScheduler.from_config(pipeline.scheduler.config),
            data=[Captioned(data.latents, tokenize(pipeline.tokenizer, data.captions), unsaid=data.dwell)],
            empty=tokenize(pipeline.tokenizer, [""])[0],
            checkpoint=checkpoint,
            early=early,
            progress=progress,
        )
    finally:
        for network in networks:
            network.requires_grad_(False).eval()


def with_networks(pipeline: Any, unet: Any, text_encoder: Any) -> Any:
    """A pipeline of the same class and parts, but for these two networks.

    The autoencoder is a copy: saving rounds a pipeline's weights to float16, and `pipeline` is to stay.
    """
    quieten()
    vae = copy.deepcopy(pipeline.vae)
    parts = {**pipeline.components, "unet": unet, "text_encoder": text_encoder, "vae": vae}
    return type(pipeline)(**parts, requires_safety_checker=parts.get("safety_checker") is not None)


def difference(base: Any, tuned: Any) -> Adapter:
    """tuned - base of the trained networks of two pipelines of the same layers, as full differences.

    UsageError E_CAPACITY where the layers are not the same.
    """
    first, second = Layout.of(base).sites, Layout.of(tuned).sites
    shapes = [{path: site.weight.shape for path, site in sites.items()} for sites in (first, second)]
    if shapes[0] != shapes[1]:
        raise UsageError(
            "a model of other layers is no difference of this one; use its folder", code="E_CAPACITY"
        )
    found = {}
    for path, site in first.items():
        if path.partition(".")[0] not in TRAINED:
            continue
        changed = (second[path].weight - site.weight).detach().float().cpu()
        biases = [getattr(one.owner, "bias", None) for one in (second[path], site)]
        bias = None if biases[0] is None or biases[1] is None else (biases[0] - biases[1]).detach().float()
        if changed.any() or (bias is not None and bias.any()):
            found[path] = Full(changed, bias)
    return Adapter(found)


def tally(goal: Goal, before: list[Item], after: list[Item]) -> Iterator[str]:
    """What the data hold of each edit's majority before and after, a line an edit."""
    for e, edit in enumerate(goal.edits):
        counts = [
            Counter(tuple(item.person[name] for name in edit.claimed) for item in rows if e in item.edits)
            for rows in (before, after)
        ]
        if not counts[0]:
            continue
        most = counts[0].most_common(1)[0][0]
        told = [f"{count[most]:,} of {count.total():,}" for count in counts]
        name = f"{edit.neutral}, {joint_name(edit.claimed)} {joint_name(most)}"
        yield f"{name}: {told[0]} pictures before, {told[1]} after"


def _check(remedy: Retrain, pipeline: Any) -> None:
    parts = pipeline.components
    if parts.get("unet") is None or parts.get("text_encoder") is None or "text_encoder_2" in parts:
        name = type(pipeline).__name__
        reason = f"{name} is not of one UNet and one text encoder, which retraining expects"
        raise UsageError(f"{reason}; use a LoRA instead", code="E_MODEL")
    if remedy.pictures is None and not is_world(pipeline):
        reason = "retraining needs data, and only the world's can be drawn"
        raise UsageError(
            f"{reason}; give a folder of captioned pictures (NAME.png with NAME.txt, or metadata.jsonl)",
            code="E_DATA",
        )
    if remedy.beside and remedy.capacity:
        reason = f"{remedy.capacity} further blocks are no difference of the old ones"
        raise UsageError(f"{reason}; take the folder, or capacity 0", code="E_CAPACITY")


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def _timed(file: Path) -> Iterator[None]:
    """Adds the block's seconds of wall time to those that `file` holds, also when it is interrupted."""
    file.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(file.read_text("utf-8")) if file.exists() else 0.0
    started = time.monotonic()
    try:
        yield
    finally:
        file.write_text(json.dumps(before + time.monotonic() - started), "utf-8")
