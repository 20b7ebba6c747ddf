"""`train`: killed and resumed to the same bytes, in parts, over processes, and with activations computed again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_cases import net, picture
from torch import Tensor, nn

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter, DivergedError, Schedule, Trainable, Trained, train, trainable
from counterpoise.lora.training import minimise, step_generator

PLAN = Schedule(steps=7, batch=2, lr=2e-2, warmup=2, seed=5, ema=0.9, save_every=2)


class Noisy(nn.Module):
    """A model whose train mode draws from torch's own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(6, 12), nn.Dropout(0.4), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.tanh(self.first(x))))


def noisy() -> Noisy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return Noisy().train()


def factors_of(model: nn.Module, *, dora: bool = False, init: str = "kaiming") -> Trainable:
    generator = torch.Generator().manual_seed(1)
    return trainable(model, ["first", "last"], rank=2, generator=generator, dora=dora, init=init)


def loss_for(model: nn.Module) -> Callable[[torch.Generator], Tensor]:
    def loss_of(generator: torch.Generator) -> Tensor:
        return (model(torch.randn(2, 6, generator=generator)) - 1).square().mean()

    return loss_of


def run(checkpoint: Path | None = None, plan: Schedule = PLAN, **options: object) -> Trained:
    """A fresh model and fresh factors every time, as a new process would have them."""
    kinds = {name: options.pop(name) for name in ("dora", "init") if name in options}
    model = noisy()
    return train(factors_of(model, **kinds), loss_for(model), plan, checkpoint=checkpoint, **options)


def file_of(trained: Trained, folder: Path) -> bytes:
    return trained.adapter.save(folder / "a.safetensors", dialect="kohya").read_bytes()


def child(work: Callable[[], object]) -> int:
    """`work` in a forked process: its exit status, or minus the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside BLAS threads
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def end_here() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
@pytest.mark.parametrize("kind", [{}, {"dora": True}, {"init": "pissa"}], ids=["lora", "dora", "pissa"])
def test_killed_anywhere_it_ends_at_the_same_bytes(tmp_path: Path, kind: dict) -> None:
    plan = replace(PLAN, up_rate=4.0)
    whole = run(tmp_path / "whole", plan, **kind)
    for at in (1, 3, 4, 7):

        def killed_at_step(step: int, steps: int, loss: float, at: int = at) -> None:
            if step == at:
                end_here()

        assert child(lambda: run(tmp_path / "cut", plan, progress=killed_at_step, **kind)) == -signal.SIGKILL
    replaced = os.replace

    def killed_while_saving(source: str, target: str) -> None:
        end_here()

    for keep in (0, 1):

        def replace_or_end(source: str, target: str, left: list[int] = [keep]) -> None:  # noqa: B006
            left[0] -= 1
            (replaced if left[0] >= 0 else killed_while_saving)(source, target)

        def work() -> None:
            os.replace = replace_or_end
            run(tmp_path / "saving", plan, **kind)

        assert child(work) == -signal.SIGKILL
    for name in ("cut", "saving"):
        resumed = run(tmp_path / name, plan, **kind)
        assert file_of(resumed, tmp_path) == file_of(whole, tmp_path)
        assert resumed.losses == whole.losses
    assert not list(tmp_path.glob(".*.tmp"))


def test_it_learns_and_leaves_model_and_random_numbers_as_they_were() -> None:
    model = noisy()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state, seen = torch.get_rng_state(), []
    plan = replace(PLAN, steps=60, lr=5e-2, save_every=20)
    trained = train(
        factors_of(model),
        loss_for(model),
        plan,
        progress=lambda *now: seen.append(now),
        metadata={"title": "t"},
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.training
    assert not model.first._forward_hooks
    assert [step for step, _ in trained.losses] == [20, 40, 60]
    assert trained.losses[-1][1] < trained.losses[0][1] * 0.8
    assert [step for step, _, _ in seen] == list(range(1, 61))
    assert trained.adapter.metadata == {"title": "t"}


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "c")
    for change in ({"lr": 1e-3}, {"steps": 9}, {"seed": 6}, {"up_rate": 2.0}):
        with pytest.raises(UsageError, match=f"another training: {next(iter(change))} "):
            run(tmp_path / "c", replace(PLAN, **change))
    with pytest.raises(UsageError, match="another training: trained "):
        run(tmp_path / "c", dora=True)
    assert run(tmp_path / "c", replace(PLAN, save_every=3)).adapter == run().adapter
    (tmp_path / "c").write_bytes((tmp_path / "c").read_bytes()[:-900])
    with pytest.raises(RefusedInputError, match="no whole checkpoint"):
        run(tmp_path / "c")


def test_a_loss_that_is_none(tmp_path: Path) -> None:
    model = noisy()
    factors = factors_of(model)
    for bad in (lambda g: torch.ones(()), lambda g: 1.0, lambda g: model(torch.ones(2, 6))):
        with pytest.raises(UsageError, match="one number that depends on a trained parameter"):
            train(factors, bad, PLAN)
    with pytest.raises(DivergedError, match="step 0"):
        train(factors, lambda g: model(torch.ones(2, 6)).sum() * float("inf"), PLAN)

    def steep(generator: torch.Generator) -> Tensor:  # finite itself, its slope is not
        return torch.sqrt((model(torch.ones(2, 6)) * 0).sum())

    with pytest.raises(DivergedError, match="gradient"):
        train(factors, steep, PLAN)
    with pytest.raises(UsageError, match="save_every is 0"):
        replace(PLAN, save_every=0)


def big_batch(model: nn.Module, plan: Schedule) -> Callable[[torch.Generator], Tensor]:
    """The same items as in `plan.parts` parts, in one part."""
    step, one = iter(range(plan.steps)), loss_for(model)

    def loss_of(_: torch.Generator) -> Tensor:
        at = next(step)
        return torch.stack([one(step_generator(plan.seed, at, part)) for part in range(plan.parts)]).mean()

    return loss_of


def test_parts_are_one_big_batch() -> None:
    plan = replace(PLAN, parts=4)
    model = noisy().eval()
    parted = train(factors_of(model), loss_for(model), plan)
    whole = train(factors_of(model), big_batch(model, plan), replace(plan, parts=1))
    assert_close(parted.adapter, whole.adapter)
    assert parted.losses == [(step, pytest.approx(loss, rel=1e-5)) for step, loss in whole.losses]
    assert parted.adapter != train(factors_of(model), loss_for(model), replace(plan, parts=1)).adapter


def assert_close(a: Adapter, b: Adapter) -> None:
    assert a.layers.keys() == b.layers.keys()
    for path, update in a.layers.items():
        for role, tensor in update.tensors().items():
            torch.testing.assert_close(tensor, b.layers[path].tensors()[role], rtol=1e-3, atol=1e-5)


@pytest.fixture
def accelerators():
    accelerate = pytest.importorskip("accelerate")
    from accelerate.state import AcceleratorState, GradientState

    def make(**options):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return accelerate.Accelerator(cpu=True, **options)

    yield make
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def test_through_accelerate_it_is_the_same_loop(tmp_path: Path, accelerators) -> None:
    plan = replace(PLAN, parts=4)
    alone = run(plan=plan)
    assert run(plan=plan, accelerator=accelerators()).adapter == alone.adapter
    summed = run(plan=plan, accelerator=accelerators(gradient_accumulation_steps=4))
    assert summed.adapter == alone.adapter
    with pytest.raises(UsageError, match="accumulates over 3 calls, the schedule over 4"):
        run(plan=plan, accelerator=accelerators(gradient_accumulation_steps=3))

    def stop(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "c", plan, accelerator=accelerators(), progress=stop)
    assert run(tmp_path / "c", plan, accelerator=accelerators()).adapter == alone.adapter


def test_mixed_precision_through_accelerate(accelerators) -> None:
    accelerator = accelerators(mixed_precision="bf16")
    model, dtypes = noisy().eval(), set()
    model.first.register_forward_hook(lambda layer, args, output: dtypes.add(output.dtype))
    mixed = train(factors_of(model), loss_for(model), PLAN, accelerator=accelerator)
    assert dtypes == {torch.bfloat16}
    exact = train(factors_of(model), loss_for(model), PLAN)
    assert mixed.adapter != exact.adapter
    assert mixed.losses == [(step, pytest.approx(loss, rel=0.02)) for step, loss in exact.losses]
    assert all(t.dtype == torch.float32 for u in mixed.adapter.layers.values() for t in u.tensors().values())


def test_a_callers_autocast_around_the_training_changes_nothing() -> None:
    """Torch keeps a narrow copy of every weight until the outermost autocast ends; the weights move every step."""

    def trained() -> dict[str, Tensor]:
        model = noisy()

        def loss_of(generator: torch.Generator) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return loss_for(model)(generator)

        minimise(model, loss_of, PLAN, checkpoint=None)
        return model.state_dict()

    alone = trained()
    with torch.autocast("cpu", enabled=False):
        inside = trained()
    assert all(torch.equal(inside[name], alone[name]) for name in alone)


class Float16:
    """What an accelerator for float16 does to gradients, on a processor: scaled, checked, sometimes skipped."""

    num_processes, process_index, is_main_process, gradient_accumulation_steps = 1, 0, True, 1
    device = "cpu"

    def __init__(self) -> None:
        # Large enough that the first steps overflow and are skipped; then it grows every other step.
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**124, growth_interval=2)
        self.optimiser: Any = None

    def prepare(self, optimiser: Any) -> Any:
        self.optimiser = optimiser
        step = optimiser.step

        def scaled_step() -> None:
            optimiser.step = step
            self.scaler.step(optimiser)
            self.scaler.update()
            optimiser.step = scaled_step

        optimiser.step = scaled_step
        return optimiser

    def autocast(self) -> Any:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss * 64).backward()

    def clip_grad_norm_(self, parameters: Any, max_norm: float) -> Tensor:
        self.scaler.unscale_(self.optimiser)
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        return tensor

    def wait_for_everyone(self) -> None:
        pass


def test_a_gradient_scaler_is_resumed_too(tmp_path: Path) -> None:
    scaler = Float16()
    whole = run(tmp_path / "whole", accelerator=scaler)
    assert scaler.scaler.get_scale() < 2.0**124
    for at in (3, 6):

        def stop(step: int, steps: int, loss: float, at: int = at) -> None:
            if step == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", accelerator=Float16(), progress=stop)
    assert run(tmp_path / "cut", accelerator=Float16()).adapter == whole.adapter
    assert whole.adapter != run(plan=replace(PLAN, steps=1)).adapter


TWO = """
import sys
from pathlib import Path
sys.path[:0] = [{here!r}]
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from test_lora_train import PLAN, replace, run
accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2, accelerator.state
plan = replace(PLAN, parts=4)
trained = run(Path(sys.argv[1]) / "checkpoint", plan, accelerator=accelerator)
trained.adapter.save(Path(sys.argv[1]) / f"{{accelerator.process_index}}.safetensors", dialect="kohya")
accelerator.end_training()
"""


def test_two_processes_share_the_parts_out(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "two.py"
    script.write_text(TWO.format(here=str(Path(__file__).parent)))
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    common |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, str(script), str(tmp_path)],
            env={**common, "RANK": str(i), "LOCAL_RANK": str(i)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    for process in started:
        errors = process.communicate(timeout=200)[1]
        assert process.returncode == 0, errors
    first, second = ((tmp_path / f"{i}.safetensors").read_bytes() for i in range(2))
    assert first == second
    alone = run(plan=replace(PLAN, parts=4))
    found = Adapter.load(tmp_path / "0.safetensors", model=noisy())
    assert_close(found, alone.adapter)


def tiny_llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=20,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                attention_dropout=0.3,
            )
        )


@pytest.mark.parametrize("kind", [{}, {"dora": True}], ids=["lora", "dora"])
def test_activations_computed_again_give_the_same_bits(kind: dict) -> None:
    model = tiny_llama().train()
    calls = []
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: calls.append(1))

    def loss_of(generator: torch.Generator) -> Tensor:
        ids = torch.randint(20, (2, 6), generator=generator)
        return model(ids, labels=ids).loss

    def trained(again: bool) -> Trained:
        calls.clear()
        generator = torch.Generator().manual_seed(1)
        factors = trainable(model, ["model.*_proj"], rank=2, generator=generator, **kind)
        return train(factors, loss_of, replace(PLAN, steps=3), gradient_checkpointing=again)

    plain, plain_calls = trained(False), len(calls)
    again, again_calls = trained(True), len(calls)
    assert (plain_calls, again_calls) == (3, 6)
    assert again.adapter == plain.adapter
    assert trained(False).adapter == plain.adapter
    assert len(calls) == 3  # the model's own mode is back
    assert not any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    model.eval()
    with pytest.raises(UsageError, match="call its train"):
        trained(True)


def test_activations_of_a_diffusers_model_and_of_none() -> None:
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=4,
        ).eval()

    def trained(again: bool) -> Adapter:
        factors = trainable(unet, ["*.to_q", "*.conv1"], rank=2, generator=torch.Generator().manual_seed(0))

        def loss_of(generator: torch.Generator) -> Tensor:
            return unet(torch.randn(1, 3, 8, 8, generator=generator), 3).sample.square().mean()

        return train(factors, loss_of, replace(PLAN, steps=2), gradient_checkpointing=again).adapter

    assert trained(True) == trained(False)
    factors = trainable(net(), ["fc"], rank=2, generator=torch.Generator())
    with pytest.raises(UsageError, match="Net offers no gradient checkpointing"):
        train(factors, lambda g: picture().sum(), PLAN, gradient_checkpointing=True)
