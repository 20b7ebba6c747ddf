"""The training loop: killed and resumed it ends at the same bits; a NaN loss stops it, the last state kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from counterpoise.lora.training import DivergedError, Schedule, minimise

PLAN = Schedule(steps=12, batch=4, lr=1e-2, warmup=2, seed=3, ema=0.9, save_every=4)


class Stop(Exception):
    pass


def fresh() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(3, 2)


def loss_of(module: nn.Linear):  # type: ignore[no-untyped-def]
    def loss(generator: torch.Generator) -> torch.Tensor:
        return module(torch.randn(4, 3, generator=generator)).square().mean()

    return loss


@pytest.mark.parametrize("cut", [1, 4, 7, 11])
def test_resumed_is_undisturbed_to_the_bit(tmp_path: Path, cut: int) -> None:
    whole = fresh()
    log = minimise(whole, loss_of(whole), PLAN, checkpoint=tmp_path / "whole.ckpt")

    def stop(step: int, total: int, loss: float) -> None:
        if step == cut:
            raise Stop

    first = fresh()
    with pytest.raises(Stop):
        minimise(first, loss_of(first), PLAN, checkpoint=tmp_path / "cut.ckpt", progress=stop)
    second = fresh()
    assert minimise(second, loss_of(second), PLAN, checkpoint=tmp_path / "cut.ckpt") == log
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_a_finished_run_is_found_again(tmp_path: Path) -> None:
    first, second = fresh(), fresh()
    minimise(first, loss_of(first), PLAN, checkpoint=tmp_path / "c.ckpt")

    def never(generator: torch.Generator) -> torch.Tensor:
        raise AssertionError("trained again")

    minimise(second, never, PLAN, checkpoint=tmp_path / "c.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_nan_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    module = fresh()
    with pytest.raises(DivergedError, match="step 6"):
        minimise(module, poisoned_at(module, 6), PLAN, checkpoint=tmp_path / "n.ckpt")
    saved = torch.load(tmp_path / "n.ckpt", weights_only=True)
    assert saved["step"] == 4
    assert all(torch.isfinite(value).all() for value in saved["modules"].values())


def poisoned_at(module: nn.Linear, step: int):  # type: ignore[no-untyped-def]
    good, calls = loss_of(module), iter(range(100))
    return lambda generator: good(generator) * (float("nan") if next(calls) == step else 1.0)


def test_a_longer_flat_run_is_the_shorter_one_until_its_cooldown() -> None:
    short = Schedule(steps=100, batch=1, lr=1.0, warmup=5, cooldown=20)
    long = replace(short, steps=200)
    assert [short.rate(i) for i in range(80)] == [long.rate(i) for i in range(80)]
    assert short.rate(99) == pytest.approx(0.05)
    assert Schedule(steps=100, batch=1, lr=1.0, warmup=5).rate(99) < 0.001
