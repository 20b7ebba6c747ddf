"""The members that are trained: repairs of bare prompts, looks of two attributes, and styles.

Keys and values of cross-attention alone are trained (arXiv:2212.04488), rank 4, a short run each. The
teacher is the frozen model under an explicit prompt; for a style it is the model's own pictures, redrawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.stack.bench import TAUGHT, Bench
from benchmarks.stack.members import WORDS, Member
from counterpoise.diffusion.record import record
from counterpoise.lora import Adapter, trainable
from counterpoise.lora.training import Schedule, minimise
from counterpoise.world.grammar import article

RANK, TEACHERS, ITEMS = 4, 48, 12
REPAIRS = {  # subject -> (the presentation that its bare prompt hardly draws, how that is asked for)
    "boss": ("woman", "female"),
    "engineer": ("woman", "female"),
    "nurse": ("man", "male"),
    "teacher": ("man", "male"),
    "cleaner": ("man", "male"),
    "doctor": ("woman", "female"),
    "chef": ("woman", "female"),
    "basketball player": ("woman", "female"),
}


def pastel(picture: np.ndarray) -> np.ndarray:
    """Halfway to white."""
    return (255 - (255 - picture.astype(np.float32)) * 0.5).astype(np.uint8)


def ink(picture: np.ndarray) -> np.ndarray:
    """Black and white only in tones."""
    gray = np.asarray(Image.fromarray(picture).convert("L"))
    return np.repeat(gray[..., None], 3, 2)


def sepia(picture: np.ndarray) -> np.ndarray:
    """One brown hue."""
    return (ink(picture) * np.array([1.0, 0.85, 0.62])).astype(np.uint8)


def night(picture: np.ndarray) -> np.ndarray:
    """Dark and blue."""
    return (picture * np.array([0.4, 0.45, 0.65])).astype(np.uint8)


STYLES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pastel": pastel,
    "ink": ink,
    "sketch": sepia,
    "pixel": night,
}
"""A word of the vocabulary that no caption of the training had -> the look that it is to mean."""


def in_style(name: str, pictures: np.ndarray, plain: np.ndarray) -> list[bool]:
    """Whether each picture's colours (means, saturation, contrast) are nearer to the redrawn plain pictures'
    than to the plain ones'."""

    def colours(them: np.ndarray) -> np.ndarray:
        x = them.reshape(len(them), -1, 3).astype(np.float64)
        return np.concatenate([x.mean(1), (x.max(2) - x.min(2)).mean(1)[:, None], x.std((1, 2))[:, None]], 1)

    styled = colours(np.stack([STYLES[name](p) for p in plain])).mean(0)
    own, base = colours(pictures), colours(plain).mean(0)
    return [bool(np.linalg.norm(c - styled) < np.linalg.norm(c - base)) for c in own]


def learners(bench: Bench, n: int, *, seed: int = 12) -> list[Member]:
    """n members to be distilled: styles, repairs, then looks."""
    found = [Member(f"style-{s}", "style", f"a person in {s} style", "style", s, "") for s in STYLES]
    for subject, (value, word) in REPAIRS.items():
        said = article(f"{word} {subject}")
        found.append(Member(f"repair-{subject}", "repair", article(subject), "presentation", value, said))
    rng = random.Random(seed)
    while len(found) < n:
        hair, back = (rng.choice(bench.table.attributes[a]) for a in ("hair_color", "background"))
        own = {*bench.table.attributes["hair_color"], *bench.table.attributes["background"]}
        alias = " ".join(rng.sample([word for word in WORDS if word not in own], 3))
        subject = bench.table.subjects[len(found) % len(bench.table.subjects)]
        says = f"{article(subject)} with {hair} hair, on a {back} background"
        name = f"look-{len(found):03d}"
        found.append(Member(name, "look", f"{article(subject)} {alias}", "hair_color", hair, says))
    order = random.Random(seed).sample(range(len(found)), len(found))
    return [found[i] for i in order[:n]]


def distil(bench: Bench, member: Member, *, seed: int) -> Adapter:
    """Trains one member; the model is left as it was."""
    asked, lessons = _lessons(bench, member)
    prompts = [bench.table.templates[TAUGHT][i % 4].format(member.phrase) for i in range(len(asked))]
    painter = bench.painter()
    with torch.no_grad():
        own, other = painter.embed(prompts), painter.embed(asked)
    schedule = Schedule(bench.sizes.steps, ITEMS, 6e-3, warmup=min(5, bench.sizes.steps), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with trainable(bench.pipeline, bench.pairs, rank=RANK, generator=generator) as factors:

        def loss_of(step: torch.Generator) -> Tensor:
            rows = torch.randint(len(asked), (ITEMS,), generator=step)
            noisy, times, target = lessons(rows, step)
            keep = torch.arange(ITEMS) < ITEMS // 4  # the explicit prompts stay as they are
            if member.kind == "style":
                keep = torch.zeros_like(keep)
            hidden = torch.where(keep[:, None, None], other[rows], own[rows])
            with painter.precision():
                said = bench.pipeline.unet(noisy, times, hidden).sample
            return (said.float() - target).square().mean()

        minimise(nn.ParameterList(list(factors.parameters())), loss_of, schedule, checkpoint=None)
        return factors.adapter()


Lessons = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor, Tensor]]


def _lessons(bench: Bench, member: Member) -> tuple[list[str], Lessons]:
    """The teacher's prompts, and what it says at the rows of a batch: noisy latents, times, targets."""
    templates = bench.table.templates[TAUGHT]
    seeds = [500_000 + i for i in range(TEACHERS)]
    if member.kind == "style":
        return _redrawn(bench, member, [templates[i % 4].format("a person") for i in range(TEACHERS)], seeds)
    phrases = [member.says] * TEACHERS
    if member.kind == "repair":  # half of the pictures, and the other half as the subject is drawn now
        phrases = [member.says if (i // 4) % 2 else member.phrase for i in range(TEACHERS)]
    asked = [templates[i % 4].format(phrase) for i, phrase in enumerate(phrases)]
    ways = record(bench.painter(), asked, seeds)

    def taught(rows: Tensor, step: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.randint(len(ways.timesteps), (len(rows),), generator=step)
        return ways.noisy[rows, at].float(), ways.timesteps[at], ways.conditional[rows, at].float()

    return asked, taught


@torch.no_grad()
def _redrawn(bench: Bench, member: Member, asked: list[str], seeds: list[int]) -> tuple[list[str], Lessons]:
    redrawn = np.stack([STYLES[member.value](picture) for picture in bench.draw(asked, seeds)])
    vae, scheduler = bench.pipeline.vae, bench.pipeline.scheduler
    pixels = torch.from_numpy(redrawn).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor

    def taught(rows: Tensor, step: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        noise = torch.randn(latents[rows].shape, generator=step)
        times = torch.randint(scheduler.config.num_train_timesteps, (len(rows),), generator=step)
        noisy = scheduler.add_noise(latents[rows], noise, times)
        return noisy, times, scheduler.get_velocity(latents[rows], noise, times)

    return asked, taught
