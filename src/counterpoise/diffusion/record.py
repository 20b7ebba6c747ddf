"""Records what a model does while a stock pipeline draws: noisy latents and predictions at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from counterpoise.diffusion.painter import Painter


@final
@dataclass(frozen=True, slots=True)
class Trajectories:
    """n pictures' ways from noise to latents, s sampler steps each, on the CPU.

    noisy, conditional, unconditional: float16 (n, s, channels, h, w): the UNet's input and its predictions
    with the prompt and with the negative prompt (equal to conditional where guidance is 1).
    timesteps: int64 (s,). prompts: the n prompts.
    """

    prompts: tuple[str, ...]
    timesteps: torch.Tensor
    noisy: torch.Tensor
    conditional: torch.Tensor
    unconditional: torch.Tensor

    def __len__(self) -> int:
        return len(self.prompts)

    def taken(self, rows: Sequence[int]) -> Trajectories:
        """The pictures of these numbers, in this order."""
        return Trajectories(
            tuple(self.prompts[row] for row in rows),
            self.timesteps,
            *(part[list(rows)] for part in (self.noisy, self.conditional, self.unconditional)),
        )


def record(
    painter: Painter,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectories:
    """Draws n latents as `painter` draws them and keeps every UNet call's input and output.

    The hook is taken off the UNet again whatever happens. No picture is decoded.
    """
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        sample, timestep = args[0], args[1]
        predicted = output[0] if isinstance(output, tuple) else output.sample
        seen.append((sample.half().cpu(), timestep.cpu(), predicted.half().cpu()))

    rows: list[list[torch.Tensor]] = [[], [], []]
    timesteps = torch.zeros(0, dtype=torch.int64)
    handle = painter.pipeline.unet.register_forward_hook(keep, with_kwargs=True)
    try:
        for start in range(0, len(prompts), painter.batch_size):
            part = slice(start, start + painter.batch_size)
            painter.latents(prompts[part], seeds[part])
            n = len(prompts[part])
            timesteps = torch.stack([t.reshape(()) for _, t, _ in seen])
            rows[0].append(torch.stack([x[:n] for x, _, _ in seen], 1))
            rows[1].append(torch.stack([y[-n:] for _, _, y in seen], 1))
            rows[2].append(torch.stack([y[:n] for _, _, y in seen], 1))
            seen.clear()
            progress(min(start + painter.batch_size, len(prompts)), len(prompts))
    finally:
        handle.remove()
    return Trajectories(tuple(prompts), timesteps, *(torch.cat(part) for part in rows))


def join(parts: Sequence[Trajectories]) -> Trajectories:
    """Trajectories of several recordings made with the same sampler steps, one after the other."""
    first = parts[0]
    if any(not torch.equal(part.timesteps, first.timesteps) for part in parts):
        raise ValueError("recordings made with different sampler steps cannot be joined")
    return Trajectories(
        tuple(prompt for part in parts for prompt in part.prompts),
        first.timesteps,
        torch.cat([part.noisy for part in parts]),
        torch.cat([part.conditional for part in parts]),
        torch.cat([part.unconditional for part in parts]),
    )
