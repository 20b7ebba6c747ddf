"""What all parts of the experiment share: the model, its reader, how it draws, and the prompts left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.files import write_whole
from counterpoise.lora import Host
from counterpoise.measure.heads import HeadReader, load_reader
from counterpoise.world import MODEL_NAME, model_folder, reader_folder
from counterpoise.world.check import mention_prompts
from counterpoise.world.grammar import sample
from counterpoise.world.table import Table, load_table

GUIDANCE, STEPS, BATCH = 2.0, 6, 50
TAUGHT = slice(0, 4)  # templates that members are made on
HELD_OUT = slice(4, 8)  # templates that they are measured on
MADE = 1  # raise it with every change to how members are made or their effects measured
MLP = "text_encoder.encoder.layers.1.mlp.fc2"


@final
@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is drawn.

    members: adapters in all, `distilled` of them trained for `steps`. measured: how many of a stack's members
    are drawn, with `pictures` each. following: prompts that no member edits. shares: pictures of each
    planted prompt. seed: of who the members are; others are fresh members for what these have taught.
    """

    members: int = 256
    distilled: int = 24
    steps: int = 40
    measured: int = 24
    pictures: int = 8
    following: int = 150
    shares: int = 25
    seed: int = 0


FAST = Sizes(members=6, distilled=2, steps=2, measured=4, pictures=2, following=10, shares=4)


@final
@dataclass(frozen=True, slots=True)
class Bench:
    """The world's model in a Host, its reader and table, and where results are kept."""

    host: Host
    pipeline: Any
    reader: HeadReader
    table: Table
    out: Path
    sizes: Sizes

    @staticmethod
    def open(out: Path, sizes: Sizes) -> Bench:
        """The model that ships, bare."""
        pipeline = load_pipeline(model_folder(MODEL_NAME))
        return Bench(Host(pipeline), pipeline, load_reader(reader_folder()), load_table(), out, sizes)

    @property
    def made(self) -> Path:
        """Where adapters and their effects alone are kept, by what they depend on."""
        return self.out / f"made-{MADE}-{self.sizes.steps}-{self.sizes.seed}"

    @property
    def pairs(self) -> list[str]:
        """The paths of cross-attention's keys and values; all of them see the text embeddings."""
        names = [name for name, _ in self.pipeline.unet.named_modules()]
        return [f"unet.{n}" for n in names if n.endswith(("attn2.to_k", "attn2.to_v"))]

    def painter(self, batch: int = BATCH) -> Painter:
        """A painter that remembers no embedding of other weights."""
        return Painter(self.pipeline, guidance=GUIDANCE, steps=STEPS, batch_size=batch, dtype="auto")

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], *, batch: int = BATCH) -> np.ndarray:
        """Pictures with whatever is mounted or folded now."""
        return self.painter(min(batch, len(prompts)))(prompts, seeds)

    def ids(self, prompts: Sequence[str], *, padded: bool = True) -> torch.Tensor:
        """Token numbers [n, tokens]; unpadded ones end with the end-of-text token (all of one length)."""
        padding = "max_length" if padded else "do_not_pad"
        found = self.pipeline.tokenizer(list(prompts), padding=padding, return_tensors="pt").input_ids
        return found if isinstance(found, torch.Tensor) else torch.tensor(found)

    def features(self, pictures: np.ndarray) -> torch.Tensor:
        """The reader's own features, [n, 2048]."""
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            return self.reader.network.body(x)

    def following(self) -> list[tuple[str, str, str]]:
        """(prompt, attribute, stated value): explicit prompts as `world check` asks them."""
        each = -(-self.sizes.following // len(self.table.attributes))
        asked = [
            (p, a, v) for a in self.table.attributes for p, v in mention_prompts(self.table, a, each, seed=4)
        ]
        return asked[: self.sizes.following]

    def captions(self, n: int, *, seed: int = 0) -> list[str]:
        """Captions of the world that calibrate what is to be left alone; others than those of `following`."""
        rng = np.random.default_rng(seed)
        asked = {prompt for prompt, _, _ in self.following()}
        drawn = (sample(self.table, rng).caption for _ in range(2 * n))
        return [caption for caption in drawn if caption not in asked][:n]


def write(file: Path, content: object) -> None:
    """JSON, whole or not at all."""
    write_whole(file, json.dumps(content, indent=1, sort_keys=True) + "\n")
