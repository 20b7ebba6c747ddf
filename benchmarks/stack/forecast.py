"""What a stack will do to each member's pictures, before any is drawn: one call of the UNet on pure noise.

At the first sampler step the noise says nothing, and the prediction is the mean of all the prompt's pictures.
What of a member's change to it is still there under the stack is a functional interference measure that the
factors alone cannot give: it has gone through attention and the norms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.stack.bench import TAUGHT, Bench
from benchmarks.stack.members import Member
from counterpoise.lora import Adapter


@torch.no_grad()
def predictions(bench: Bench, member: Member) -> Tensor:
    """The UNet's first prediction for the member's own prompts with what is mounted now, [n, c, h, w]."""
    painter = bench.painter()
    prompts = [t.format(member.phrase) for t in bench.table.templates[TAUGHT]]
    noise = painter.noise(range(700_000, 700_000 + len(prompts)))
    scheduler = bench.pipeline.scheduler
    first = torch.full((len(prompts),), scheduler.config.num_train_timesteps - 1)
    with painter.precision():
        return bench.pipeline.unet(noise, first, painter.embed(prompts)).sample.float()


def changes(bench: Bench, members: Sequence[Member], made: Sequence[Adapter]) -> list[tuple[Tensor, Tensor]]:
    """For each member (bare prediction, what the member alone adds to it)."""
    found = []
    for member, adapter in zip(members, made, strict=True):
        bare = predictions(bench, member)
        with bench.host.mounted(adapter):
            found.append((bare, predictions(bench, member) - bare))
    return found


def forecast(change: tuple[Tensor, Tensor], now: Callable[[], Tensor]) -> float:
    """||stack - alone|| / ||alone - bare||: 0 where the member's own mean picture is what the stack draws."""
    bare, own = change
    return float((now() - bare - own).norm() / own.norm())
