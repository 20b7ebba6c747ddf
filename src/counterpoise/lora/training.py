"""A small resumable training loop: every random choice depends on (seed, step) alone.

Comes in: parameters, a loss of a step's generator, a recipe. Goes out: trained parameters, a loss log,
and a checkpoint every so often, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

Progress = Callable[[int, int, float], None]


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """steps of batch items at peak learning rate lr, seeded.

    Linear warm-up; then cosine to zero, or, where cooldown is set, flat with a linear cool-down over that
    many last steps, so that a run can be made longer later and still be the run it would have been.
    """

    steps: int
    batch: int
    lr: float
    warmup: int = 100
    cooldown: int = 0
    seed: int = 0
    ema: float = 0.0
    save_every: int = 200

    def rate(self, step: int) -> float:
        """The learning rate's multiplier at a step, in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.cooldown:
            return min(1.0, (self.steps - step) / self.cooldown)
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))


class DivergedError(RuntimeError):
    """The loss became NaN or infinite; the last checkpoint is still good."""


def step_generator(seed: int, step: int) -> torch.Generator:
    """The one source of randomness of a training step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


def train(
    modules: nn.Module,
    loss_of: Callable[[torch.Generator], torch.Tensor],
    schedule: Schedule,
    *,
    checkpoint: Path,
    progress: Progress = lambda step, total, loss: None,
) -> list[tuple[int, float]]:
    """Minimises loss_of over the parameters of `modules`; resumes from `checkpoint` if it is there.

    Returns the loss log as (step, mean loss since the last entry). With schedule.ema > 0 the parameters
    end as their exponential moving average. Raises DivergedError on a loss that is not finite.
    """
    params = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=schedule.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    average = [p.detach().clone() for p in params] if schedule.ema else []
    state = _load(checkpoint, modules, optimizer, average)
    log: list[tuple[int, float]] = state["log"]
    recent: list[float] = []
    modules.train()
    for step in range(state["step"], schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.rate(step)
        loss = loss_of(step_generator(schedule.seed, step))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(f"loss is {value} at step {step}; the checkpoint before it is kept")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        if average:
            decay = min(schedule.ema, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [p.detach() for p in params], 1 - decay)
        recent.append(value)
        progress(step + 1, schedule.steps, value)
        if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
            log.append((step + 1, sum(recent) / len(recent)))
            recent = []
            _save(checkpoint, modules, optimizer, {"step": step + 1, "log": log, "average": average})
    with torch.no_grad():
        for p, mean in zip(params, average, strict=bool(average)):
            p.copy_(mean)
    modules.eval()
    return log


def _save(path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    torch.save({"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), **state}, partial)
    os.replace(partial, path)


def _load(
    path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, average: Iterable[torch.Tensor]
) -> dict[str, Any]:
    if not path.exists():
        return {"step": 0, "log": []}
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    for mine, saved in zip(average, state["average"], strict=False):
        mine.copy_(saved)
    state["log"] = [(int(step), float(loss)) for step, loss in state["log"]]
    return state
