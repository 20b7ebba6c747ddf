"""All members in one order, their adapters on disk, what they are calibrated on, and their effect alone."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from benchmarks.stack.bench import HELD_OUT, MLP, TAUGHT, Bench, write
from benchmarks.stack.distilled import distil, in_style, learners
from benchmarks.stack.members import Member, closed_form, kept, personas, seen
from counterpoise.lora import Adapter, input_covariances

CAPTIONS = 500
EVERY = 9  # every ninth member is a distilled one, while they last


def roster(bench: Bench) -> list[Member]:
    """The members in the order in which they are stacked."""
    sizes = bench.sizes
    trained = learners(bench, sizes.distilled, seed=12 + sizes.seed)
    solved = personas(bench, sizes.members - len(trained), seed=11 + sizes.seed)
    found: list[Member] = []
    while solved or trained:
        source = trained if trained and (len(found) % EVERY == EVERY - 1 or not solved) else solved
        found.append(source.pop(0))
    return found


def adapters(bench: Bench, members: Sequence[Member]) -> list[Adapter]:
    """Each member's adapter, made or found on disk."""
    keep: Tensor | None = None
    made = []
    for i, member in enumerate(members):
        file = bench.made / "members" / f"{member.name}.safetensors"
        if not file.exists():
            if member.kind == "persona":
                captions = bench.captions(CAPTIONS)
                words = sum(len(caption.split()) for caption in captions)
                keep = kept(bench, captions) if keep is None else keep
                adapter = closed_form(bench, member, keep, words=words)
            else:
                adapter = distil(bench, member, seed=i)
            file.parent.mkdir(parents=True, exist_ok=True)
            adapter.save(file, dialect="diffusers")
            print(f"made {member.name}: {member.phrase}", flush=True)
        made.append(Adapter.load(file))
    return made


@final
@dataclass(frozen=True, slots=True)
class Shown:
    """Pictures' verdicts of a member: which of them show its effect."""

    hits: tuple[bool, ...]

    @property
    def rate(self) -> float:
        return sum(self.hits) / len(self.hits)


def asked(bench: Bench, member: Member) -> tuple[list[str], list[int]]:
    """The prompts, of templates that no member was made on, and the seeds that an effect is measured with."""
    n = bench.sizes.pictures
    templates = bench.table.templates[HELD_OUT]
    return [templates[i % len(templates)].format(member.phrase) for i in range(n)], list(range(n))


def judged(bench: Bench, member: Member, pictures: np.ndarray, plain: np.ndarray) -> Shown:
    """Which pictures show the member's effect; plain: the base's, on the same prompts and seeds."""
    if member.kind == "style":
        return Shown(tuple(in_style(member.value, pictures, plain)))
    return Shown(tuple(row[member.attribute].value == member.value for row in bench.reader(pictures)))


def solo(bench: Bench, member: Member, adapter: Adapter) -> dict[str, Any]:
    """Rates of the effect at base and with the member alone; kept on disk, the base's pictures too."""
    sizes = bench.sizes
    file = bench.made / "solo" / f"{member.name}-{sizes.pictures}.json"
    if file.exists():
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return found
    prompts, seeds = asked(bench, member)
    plain = bench.draw(prompts, seeds)
    with bench.host.mounted(adapter):
        own = bench.draw(prompts, seeds)
    rates = {
        "base": judged(bench, member, plain, plain).rate,
        "solo": judged(bench, member, own, plain).rate,
    }
    np.save(_plain_file(bench, member), plain)
    write(file, rates)
    return rates


def plain(bench: Bench, member: Member) -> np.ndarray:
    """The base's pictures of a member's prompts, as `solo` left them."""
    return np.load(_plain_file(bench, member))


def _plain_file(bench: Bench, member: Member) -> Any:
    folder = bench.made / "plain"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{member.name}-{bench.sizes.pictures}.npy"


def chosen(bench: Bench, n: int, *, seed: int = 5) -> list[int]:
    """Which of the first n are measured: the first in one seeded order of all, so that stacks share them."""
    order = random.Random(seed + bench.sizes.seed).sample(range(bench.sizes.members), bench.sizes.members)
    return sorted([i for i in order if i < n][: bench.sizes.measured])


Covariances = Mapping[str, Tensor]


def calibration(bench: Bench, member: Member, adapter: Adapter) -> Covariances:
    """Layer -> E[x x^T] of what it sees on the member's own prompts with the member mounted.

    In the MLP the word that calls the member weighs as much as all the others together: over plain means it
    would be one word in ten, and the rest of the prompt is in everybody's.
    """
    prompts = [t.format(member.phrase) for t in bench.table.templates[TAUGHT]]
    with bench.host.mounted(adapter):
        last, _, others = seen(bench, prompts)
        mlp = (last.T @ last / len(last) + others.T @ others / len(others)) / 2
        return {MLP: mlp, **_text(bench, prompts)}


def neutral(bench: Bench) -> Covariances:
    """The same of captions that every stack is to leave alone, all their words alike."""
    captions = bench.captions(CAPTIONS)
    encoder = bench.pipeline.text_encoder
    mlp = input_covariances(
        bench.pipeline,
        [MLP],
        captions,
        run=lambda prompt: encoder(bench.ids([prompt], padded=False)),  # padding says nothing
    )
    return {**mlp, **_text(bench, captions)}


def _text(bench: Bench, prompts: Sequence[str]) -> Covariances:
    """What all keys and values of cross-attention see: the text embeddings, padding too."""
    with torch.no_grad():
        embedded = torch.cat([bench.painter().embed([prompt]) for prompt in prompts]).flatten(0, 1).double()
    return dict.fromkeys(bench.pairs, embedded.T @ embedded / len(embedded))
