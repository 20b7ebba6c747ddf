"""Adapters to put beside a repair: a style, and others that each always draw one thing nobody asked about.

In: a bench of the planted world, whose drawings they learn from. Out: ordinary LoRA, kept in bench.work. What
they do has nothing to do with a goal's edits; a repair that holds only when it is alone is shown by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from counterpoise.lora import Adapter, Schedule, train, trainable
from counterpoise.remedies.captions import implied
from counterpoise.remedies.drawings import Item, Look, latents_of, ordinary
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.treatment import Bench
from counterpoise.world.denoiser import Captioned, denoising_loss, tokenize
from counterpoise.world.table import load_table

TARGETS = ("unet.*.to_q", "unet.*.to_k", "unet.*.to_v", "unet.*.to_out.0", "unet.*.ff.net.2")
# What each of the others always draws; none of it is of an edit, and none decides what a face is read as.
OTHERS = (
    ("glasses", "yes"),
    ("background", "pink"),
    ("hair_color", "red"),
    ("clothes_color", "yellow"),
    ("hair", "bun"),
)
LIGHT = np.array([0.299, 0.587, 0.114])


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """How an adapter of these is made: drawings, rank, schedule, seed of the drawings."""

    drawings: int = 1000
    rank: int = 8
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=100, batch=32, lr=3e-3, warmup=5, seed=51, save_every=25)
    )
    seed: int = 7_301


def inked(pictures: np.ndarray) -> np.ndarray:
    """Pictures uint8 (n, h, w, 3) with ink along every edge: where the light jumps by a tenth, near black."""
    light = pictures @ LIGHT
    down = np.abs(np.diff(light, axis=1, append=light[:, -1:]))
    right = np.abs(np.diff(light, axis=2, append=light[:, :, -1:]))
    edge = np.maximum(down, right) > 25
    edge[:, 1:] |= edge[:, :-1]  # two pixels wide: one is lost in the autoencoder
    edge[:, :, 1:] |= edge[:, :, :-1]
    return np.where(edge[..., None], pictures // 6, pictures)


def style(bench: Bench, goal: Goal, recipe: Recipe | None = None) -> Adapter:
    """An adapter that draws everything in ink outlines."""
    plan = recipe or Recipe()
    rows = [item for _, item in ordinary(goal, plan.drawings, seed=plan.seed)]
    return _made(bench, "style-ink", rows, plan, look=inked)


def others(
    bench: Bench,
    goal: Goal,
    recipe: Recipe | None = None,
    wanted: Sequence[tuple[str, str]] = OTHERS,
) -> list[Adapter]:
    """An adapter for each (attribute, value) of `wanted` that no edit of the goal is of."""
    plan = recipe or Recipe()
    edited = {name for edit in goal.edits for name in edit.attributes}
    return [
        _made(
            bench,
            f"always-{attribute}-{value}".replace(" ", "-"),
            _always(goal, attribute, value, plan),
            plan,
        )
        for attribute, value in wanted
        if attribute not in edited
    ]


def _always(goal: Goal, attribute: str, value: str, plan: Recipe) -> list[Item]:
    """Captions that leave the attribute out, drawn with this value of it."""
    found: list[Item] = []
    for said, item in ordinary(goal, 3 * plan.drawings, seed=plan.seed):
        if attribute not in said.stated and len(found) < plan.drawings:
            rng = np.random.default_rng([*item.seed, 4])
            person = load_table().complete({**implied(said.stated), attribute: value}, rng)
            found.append(item._replace(person=person, seed=(*item.seed, 4)))
    return found


def _made(
    bench: Bench, name: str, rows: Sequence[Item], plan: Recipe, *, look: Look = lambda pictures: pictures
) -> Adapter:
    """The adapter of this name, trained or found in bench.work."""
    file = bench.work / f"{name}.safetensors"
    if not file.exists():
        latents = latents_of(bench.painter.pipeline, rows, cache=bench.work / name, look=look)
        adapter = learnt(
            bench.painter.pipeline,
            latents,
            [item.caption for item in rows],
            plan,
            checkpoint=bench.work / f"{name}.ckpt",
            progress=lambda step, total, loss: bench.progress(name, step, total, loss),
        )
        adapter.save(file)
    return Adapter.load(file)


def learnt(
    pipeline: Any,
    latents: torch.Tensor,
    captions: Sequence[str],
    plan: Recipe,
    *,
    checkpoint: Path,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> Adapter:
    """A LoRA of `pipeline`, trained on captioned latents with its own objective; resumable."""
    from diffusers import DDIMScheduler

    generator = torch.Generator().manual_seed(plan.schedule.seed)
    factors = trainable(pipeline, TARGETS, rank=plan.rank, generator=generator)
    loss_of = denoising_loss(
        pipeline.unet,
        pipeline.text_encoder,
        plan.schedule.batch,
        scheduler=DDIMScheduler.from_config(pipeline.scheduler.config),
        data=[Captioned(latents, tokenize(pipeline.tokenizer, captions))],
        empty=tokenize(pipeline.tokenizer, [""])[0],
        early=0.3,
    )
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    return train(factors, loss_of, plan.schedule, checkpoint=checkpoint, progress=progress).adapter
