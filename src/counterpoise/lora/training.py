"""A resumable training loop: every random choice depends on (seed, step, part) alone.

Comes in: parameters, a loss of a part's generator, a schedule; an `accelerate.Accelerator` where several
devices or mixed precision are wanted. Goes out: trained parameters, a loss log, and a checkpoint every so
often, so that a run that was killed at any moment goes on where it was and ends at the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from counterpoise.errors import UsageError
from counterpoise.lora.trained_state import load_state, save_state

Progress = Callable[[int, int, float], None]
Groups = Sequence[tuple[list[nn.Parameter], float]]
"""Parameters and what multiplies the schedule's learning rate for them."""
Log = list[tuple[int, float]]

_PART = 0x9E3779B97F4A7C15  # odd, so that the parts of a step are apart in all 64 bits
_GLOBAL = 0x5DEECE66D  # torch's own generator must not draw what the step's generator draws


@final
@dataclass(frozen=True, slots=True)
class Schedule:
    """steps of batch items at peak learning rate lr, seeded.

    Linear warm-up; then cosine to zero, or, where cooldown is set, flat with a linear cool-down over that
    many last steps, so that a run can be made longer later and still be the run it would have been.

    parts: calls of the loss that make one step (gradient accumulation): their mean is minimised, batch is
    the items of one of them, and how many processes share them out changes nothing but rounding.
    clip: the largest norm of all gradients together; math.inf for any. up_rate: the learning rate of a LoRA's
    up over that of its down (the ratio of LoRA+, arXiv:2402.12354, which found 16 to serve at a small lr).
    ema: the decay of the parameters' moving average, 0 for none.
    """

    steps: int
    batch: int
    lr: float
    warmup: int = 100
    cooldown: int = 0
    seed: int = 0
    ema: float = 0.0
    save_every: int = 200
    parts: int = 1
    clip: float = 1.0
    up_rate: float = 1.0
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        for name, bad, expected in (
            ("steps", self.steps < 0, "0 or more"),
            ("save_every", self.save_every < 1, "1 or more"),
            ("parts", self.parts < 1, "1 or more"),
            ("lr", not 0 <= self.lr < math.inf, "a finite number of 0 or more"),
            ("up_rate", not 0 < self.up_rate < math.inf, "a finite number above 0"),
            ("clip", not self.clip > 0, "above 0, or math.inf for no clipping"),
            ("ema", not 0 <= self.ema < 1, "0 for none, else below 1, such as 0.99"),
        ):
            if bad:
                reason = f"schedule: {name} is {getattr(self, name)!r}: expected {expected}"
                raise UsageError(reason, code="E_SCHEDULE")

    def rate(self, step: int) -> float:
        """The learning rate's multiplier at a step, in [0, 1]."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.cooldown:
            return min(1.0, (self.steps - step) / self.cooldown)
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / max(1, self.steps - self.warmup)))

    def identity(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one that it goes on from."""
        names = ("batch", "lr", "warmup", "cooldown", "seed", "ema", "parts", "clip", "up_rate")
        found = {name: getattr(self, name) for name in (*names, "weight_decay")}
        return found if self.cooldown else {**found, "steps": self.steps}


class DivergedError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the last checkpoint is still good."""


class Processes(Protocol):
    """What the loop needs of an `accelerate.Accelerator`."""

    @property
    def num_processes(self) -> int:
        """How many take part."""

    @property
    def process_index(self) -> int:
        """Which this is, from 0."""

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one that writes."""

    @property
    def gradient_accumulation_steps(self) -> int:
        """What backward divides by."""

    @property
    def device(self) -> Any:
        """Where this process computes."""

    @property
    def scaler(self) -> Any:
        """The gradient scaler of float16, or None."""

    def prepare(self, *args: Any) -> Any:
        """The optimiser as it is to be used."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, as the accelerator was made for it."""

    def backward(self, loss: Tensor) -> None:
        """Adds to the gradients; divides by gradient_accumulation_steps."""

    def clip_grad_norm_(self, parameters: Any, max_norm: float) -> Any:
        """Clips, and returns the norm before."""

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        """The sum or mean over all processes."""

    def wait_for_everyone(self) -> None:
        """Until all processes are here."""


@final
class _Alone:
    """One process, no mixed precision, nothing installed: see `Processes`."""

    num_processes = gradient_accumulation_steps = 1
    process_index = 0
    is_main_process = True
    device = "cpu"
    scaler = None
    clip_grad_norm_ = staticmethod(nn.utils.clip_grad_norm_)
    autocast = staticmethod(nullcontext)

    def prepare(self, *args: Any) -> Any:
        return args[0]

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        return tensor

    def wait_for_everyone(self) -> None:
        pass


def step_generator(seed: int, step: int, part: int = 0) -> torch.Generator:
    """The one source of randomness of a part of a training step."""
    return torch.Generator().manual_seed(_seed(seed, step, part))


def _seed(seed: int, step: int, part: int) -> int:
    return (seed * 1_000_003 + step + part * _PART) % 2**63


def minimise(
    modules: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    schedule: Schedule,
    *,
    checkpoint: Path | None,
    groups: Groups | None = None,
    accelerator: Processes | None = None,
    identity: str = "",
    progress: Progress = lambda step, total, loss: None,
) -> Log:
    """Minimises the mean of loss_of over the parameters of `modules`; resumes from `checkpoint` if there.

    AdamW (betas 0.9 and 0.99). torch's own random numbers (dropout) are seeded for each part and given back
    at the end. `groups` default to all parameters that need a gradient, at rate 1. `identity` says what is
    trained: a checkpoint of another one, or of another schedule, is a UsageError E_RESUME.

    Returns the loss log as (step, mean loss since the last entry). With schedule.ema > 0 the parameters
    end as their exponential moving average. Raises DivergedError on a loss or gradient that is not finite,
    UsageError E_LOSS for one that no parameter has a part in.
    """
    ways: Processes = _Alone() if accelerator is None else accelerator
    parts = _own_parts(schedule, ways)
    params = [p for p in modules.parameters() if p.requires_grad]
    groups = [(params, 1.0)] if groups is None else groups
    made = torch.optim.AdamW(
        [{"params": members} for members, _ in groups],
        lr=schedule.lr,
        betas=(0.9, 0.99),
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    optimizer = ways.prepare(made)
    average = [p.detach().clone() for p in params] if schedule.ema else []
    plan = {**schedule.identity(), "trained": identity}
    log: Log = []
    done = load_state(checkpoint, modules, optimizer, average=average, log=log, plan=plan, scaler=ways.scaler)
    recent: list[float] = []
    modules.train()
    with _own_random_state():
        for step in range(done, schedule.steps):
            for group, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
                group["lr"] = schedule.lr * rate * schedule.rate(step)
            optimizer.zero_grad(set_to_none=True)
            value = _differentiate(loss_of, schedule, step, parts=parts, ways=ways)
            if not math.isfinite(value):
                raise DivergedError(f"loss is {value} at step {step}; the checkpoint before it is kept")
            _share(params, ways)
            norm = float(ways.clip_grad_norm_(params, schedule.clip))
            # A gradient scaler (float16) tries larger and larger scales, and skips a step that overflows.
            if ways.scaler is None and not math.isfinite(norm):
                reason = f"the gradient's norm is {norm} at step {step}"
                raise DivergedError(f"{reason}; the checkpoint before it is kept")
            optimizer.step()
            if average:
                decay = min(schedule.ema, (step + 1) / (step + 10))
                torch._foreach_lerp_(average, [p.detach() for p in params], 1 - decay)
            recent.append(value)
            if ways.is_main_process:
                progress(step + 1, schedule.steps, value)
            if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps:
                log.append((step + 1, sum(recent) / len(recent)))
                recent = []
                if ways.is_main_process and checkpoint is not None:
                    state = {"step": step + 1, "log": log, "average": average, "plan": plan}
                    if ways.scaler is not None:
                        state["scaler"] = ways.scaler.state_dict()
                    save_state(checkpoint, modules, optimizer, state)
                ways.wait_for_everyone()
    with torch.no_grad():
        for p, mean in zip(params, average, strict=bool(average)):
            p.copy_(mean)
    modules.eval()
    return log


def _own_parts(schedule: Schedule, ways: Processes) -> range:
    """Which parts of each step this process differentiates."""
    each, left = divmod(schedule.parts, ways.num_processes)
    if left:
        reason = f"schedule: {schedule.parts} parts cannot be shared out among {ways.num_processes} processes"
        raise UsageError(f"{reason}; make parts a multiple of them", code="E_SCHEDULE")
    if ways.gradient_accumulation_steps not in (1, each):
        reason = f"the accelerator accumulates over {ways.gradient_accumulation_steps} calls"
        reason += f", the schedule over {each} a process; leave the accelerator's at 1"
        raise UsageError(reason, code="E_SCHEDULE")
    return range(ways.process_index, schedule.parts, ways.num_processes)


def _differentiate(
    loss_of: Callable[[torch.Generator], Tensor],
    schedule: Schedule,
    step: int,
    *,
    parts: range,
    ways: Processes,
) -> float:
    """Adds the gradient of the mean loss over this process's parts; returns the mean over all processes'."""
    values = []
    share = ways.gradient_accumulation_steps / len(parts)
    for part in parts:
        torch.manual_seed(_seed(schedule.seed, step, part) ^ _GLOBAL)
        # Inside a caller's autocast (or one that an interrupt never let end) the narrow copies of the weights
        # live on from step to step, while the weights move on.
        torch.clear_autocast_cache()
        with ways.autocast():
            loss = loss_of(step_generator(schedule.seed, step, part))
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            kind = f"tensor {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            reason = f"the loss is a {kind}: expected one number that depends on a trained parameter"
            reason += "; was it computed without gradient, or without the adapted layers?"
            raise UsageError(reason, code="E_LOSS")
        values.append(float(loss.detach()))
        ways.backward(loss if share == 1.0 else loss * share)
    mean = sum(values) / len(values)
    if ways.num_processes == 1:
        return mean
    return float(ways.reduce(torch.tensor(mean, device=ways.device), reduction="mean"))


def _share(params: list[nn.Parameter], ways: Processes) -> None:
    """The mean gradient of all processes into each one's, as one message."""
    if ways.num_processes == 1:
        return
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
    whole = ways.reduce(torch.cat([grad.flatten() for grad in grads]), reduction="mean")
    for p, piece in zip(params, whole.split([p.numel() for p in params]), strict=True):
        p.grad = piece.view_as(p)


@contextmanager
def _own_random_state() -> Iterator[None]:
    """Gives torch's own generators back as they were."""
    started = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if started else []):
        yield
