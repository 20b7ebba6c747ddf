"""Training a LoRA: factors beside a frozen model, any loss, resumable, on one device or many.

In: `trainable(...)` factors, a loss closure, a `Schedule`. Out: the trained `Adapter` and its loss log.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from counterpoise.errors import UsageError
from counterpoise.lora.adapter import Adapter
from counterpoise.lora.layers import roots
from counterpoise.lora.trainables import Trainable
from counterpoise.lora.training import Groups, Log, Processes, Progress, Schedule, minimise


class Trained(NamedTuple):
    """adapter: the update relative to W0. losses: (step, mean loss since the entry before)."""

    adapter: Adapter
    losses: Log


def train(
    factors: Trainable,
    loss_of: Callable[[torch.Generator], Tensor],
    schedule: Schedule,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    accelerator: Processes | None = None,
    gradient_checkpointing: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: Progress = lambda step, total, loss: None,
) -> Trained:
    """Trains `factors` until `schedule` ends, beside a model that is left as it was.

    loss_of(generator) calls the model as ever and returns one number; all its randomness is to come from
    `generator`, a CPU generator of (seed, step, part) alone, torch's own being seeded likewise. It is called
    schedule.parts times a step. `factors` are entered here; the model's train or eval mode is the caller's.

    `checkpoint`: where the run is kept, whole at every moment; the same call after a kill goes on from there
    and ends at the same bits (on one device; the precision of sums on others is theirs). `accelerator`: an
    `accelerate.Accelerator` (the extra "train"), for mixed precision and for several processes; the model is
    to be on its device before the factors are made. `gradient_checkpointing`: inner activations are computed
    again for the backward pass, by the model's own means, its mode set for the length of the run.
    `progress(step, steps, loss)` is called after each step, in the main process.

    UsageError E_LOSS, E_SCHEDULE, E_RESUME (a checkpoint of another training) or E_MODEL (a model that offers
    no gradient checkpointing); DivergedError for a loss or gradient that is not finite.
    """
    path = None if checkpoint is None else Path(checkpoint)
    again = recomputing(factors) if gradient_checkpointing else nullcontext()
    with factors, again:
        log = minimise(
            factors.module(),
            loss_of,
            schedule,
            checkpoint=path,
            groups=_groups(factors, schedule.up_rate),
            accelerator=accelerator,
            identity=_identity(factors),
            progress=progress,
        )
        return Trained(factors.adapter(metadata), log)


def _groups(factors: Trainable, up_rate: float) -> Groups | None:
    """The parameters by what multiplies their learning rate; None where it is 1 for all."""
    if up_rate == 1.0:
        return None
    ups = factors.ups()
    fast = {id(up) for up in ups}
    return [([p for p in factors.parameters() if id(p) not in fast], 1.0), (ups, up_rate)]


def _identity(factors: Trainable) -> str:
    """sha256 of the layers, kinds, shapes and alphas that are trained."""
    digest = hashlib.sha256()
    for path, update in factors.adapter().layers.items():
        shapes = {role: list(tensor.shape) for role, tensor in update.tensors().items()}
        digest.update(f"{path} {update.kind} {shapes} {float(update.alpha)!r}\n".encode())
    return digest.hexdigest()


@contextmanager
def recomputing(factors: Trainable) -> Iterator[None]:
    """The adapted models' own gradient checkpointing for the length of a block, then as it was before.

    UsageError E_MODEL where a model has none, or is a transformers model in eval mode, which would ignore it.
    """
    found = _adapted_roots(factors)
    parts = [part for root in found for part in root.modules()]
    before = [{name: vars(part)[name] for name in _STATE if name in vars(part)} for part in parts]
    try:
        for root in found:
            _enable(root)
        yield
    finally:
        for part, state in zip(parts, before, strict=True):
            for name in _STATE:
                vars(part).pop(name, None)
            vars(part).update(state)


_STATE = ("gradient_checkpointing", "_gradient_checkpointing_func")
# The other kind needs inputs with gradient, which a frozen model lacks.
_NOT_REENTRANT = {"use_reentrant": False}
# The method's name in transformers from 5.23 and before it, and in diffusers; and its arguments.
_WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("activation_checkpointing_enable", {"activation_checkpointing_kwargs": _NOT_REENTRANT}),
    ("gradient_checkpointing_enable", {"gradient_checkpointing_kwargs": _NOT_REENTRANT}),
    ("enable_gradient_checkpointing", {}),
)


def _enable(root: nn.Module) -> None:
    name = type(root).__name__
    for method, arguments in _WAYS:
        if hasattr(root, method):
            try:
                getattr(root, method)(**arguments)
            except ValueError as error:
                raise UsageError(f"{name}: {error}; train without it", code="E_MODEL") from error
            break
    else:
        reason = f"{name} offers no gradient checkpointing of its own"
        raise UsageError(f"{reason}; train without it, or use torch's in its forward", code="E_MODEL")
    layers = [part for part in root.modules() if _only_in_training(part)]
    if layers and not any(layer.training for layer in layers):
        reason = f"{name} is in eval mode, where its layers ignore gradient checkpointing"
        raise UsageError(f"{reason}; call its train() first", code="E_MODEL")


def _only_in_training(part: nn.Module) -> bool:
    return any(base.__name__ == "GradientCheckpointingLayer" for base in type(part).__mro__)


def _adapted_roots(factors: Trainable) -> list[nn.Module]:
    """The models (of a pipeline: the components) that hold layers of `factors`."""
    paths = list(factors.adapter().layers)
    found = roots(factors.model).items()
    return [root for name, root in found if not name or any(p.startswith(f"{name}.") for p in paths)]
