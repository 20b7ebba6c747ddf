"""A training's checkpoint: all that a run needs to go on to the same bits, in one file that is never torn.

In: modules, an optimiser, the moving average, the log, a scaler. Out: a file of torch's own format, read back
with `weights_only`, so that a foreign file can hold tensors and plain values and nothing that runs.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from counterpoise.errors import RefusedInputError, UsageError, shown
from counterpoise.files import write_atomic


def save_state(path: Path, modules: nn.Module, optimizer: Any, state: Mapping[str, Any]) -> None:
    """Replaces the checkpoint whole; EnvironmentLackError E_WRITE if the disk refuses."""
    data = io.BytesIO()
    torch.save({"modules": modules.state_dict(), "optimizer": optimizer.state_dict(), **state}, data)
    write_atomic(path, [data.getvalue()])


def load_state(
    path: Path | None,
    modules: nn.Module,
    optimizer: Any,
    *,
    average: Sequence[Tensor],
    log: list[tuple[int, float]],
    plan: Mapping[str, Any],
    scaler: Any = None,
) -> int:
    """Puts the checkpoint into all of these, in place, and returns the steps done; 0 where there is none.

    UsageError E_RESUME for a checkpoint of another plan; RefusedInputError E_CHECKPOINT for a damaged one.
    """
    if path is None:
        return 0
    for stray in path.parent.glob(f".{path.name}.*.tmp"):  # of a save that was killed
        stray.unlink(missing_ok=True)
    if not path.exists():
        return 0
    data = io.BytesIO(path.read_bytes())
    try:
        state: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
        saved = (state["modules"], state["optimizer"], state["average"], state["log"], int(state["step"]))
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = f"{shown(path, 300)} is no whole checkpoint of a training ({type(error).__name__})"
        reason += "; delete it to begin anew"
        raise RefusedInputError(reason, code="E_CHECKPOINT", file=str(path)) from error
    _check_plan(path, state.get("plan"), plan)
    values, moments, means, entries, step = saved
    modules.load_state_dict(values)
    optimizer.load_state_dict(moments)
    if scaler is not None and "scaler" in state:
        scaler.load_state_dict(state["scaler"])
    for mine, mean in zip(average, means, strict=True):
        mine.copy_(mean)
    log.extend((int(at), float(loss)) for at, loss in entries)
    return step


def _check_plan(path: Path, saved: Mapping[str, Any] | None, plan: Mapping[str, Any]) -> None:
    for name, value in plan.items():
        if saved is not None and name in saved and saved[name] != value:
            was = f"{name} {shown(saved[name], 80)}, now {shown(value, 80)}"
            reason = f"{shown(path, 300)} is of another training: {was}"
            raise UsageError(f"{reason}; resume with the same, or use another checkpoint", code="E_RESUME")
