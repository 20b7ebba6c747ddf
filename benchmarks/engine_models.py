"""The two models that the engine is measured on, and the same random adapters for us and for peft."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from benchmarks.smollm import load_smollm
from counterpoise import Adapter
from counterpoise.lora import LowRank

RANK = 8
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "fc1", "fc2"]


class Block(nn.Module):
    """A transformer block's six products, without its attention: what is measured are the layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.o_proj(self.q_proj(x) * torch.tanh(self.k_proj(x)) + self.v_proj(x))
        return x + self.fc2(torch.relu(self.fc1(x)))


def synthetic() -> nn.Module:
    """Four blocks, 24 linear layers of width 768 to 3072, float32."""
    torch.manual_seed(0)
    return nn.Sequential(*(Block(768) for _ in range(4))).eval()


def smollm() -> nn.Module:
    """SmolLM2-135M in bfloat16 (210 linear layers)."""
    return load_smollm()[0]


MODELS: dict[str, Callable[[], nn.Module]] = {"24 layers of 768 to 3072": synthetic, "SmolLM2-135M": smollm}


def batch_for(model: nn.Module, tokens: int = 64) -> tuple[Tensor, ...]:
    """What to call the model with."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(model, nn.Sequential):
        return (torch.randn(1, tokens, 768, generator=generator),)
    return (torch.randint(1000, (1, tokens), generator=generator),)


def target_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that both engines adapt."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path.rpartition(".")[2] in TARGETS
    }


def random_adapter(model: nn.Module, seed: int, *, rank: int = RANK, std: float = 0.02) -> Adapter:
    """Factors of standard deviation `std`, alpha = rank."""
    generator = torch.Generator().manual_seed(seed)
    return Adapter(
        {
            path: LowRank(
                torch.randn(rank, layer.in_features, generator=generator) * std,
                torch.randn(layer.out_features, rank, generator=generator) * std,
                rank,
            )
            for path, layer in target_layers(model).items()
        }
    )


def peft_config(rank: int = RANK) -> LoraConfig:
    """Plain LoRA on the same layers."""
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)


def with_peft(model: nn.Module, adapters: list[Adapter]) -> PeftModel:
    """The model wrapped by peft with the same adapters, all of them active."""
    wrapped: Any = get_peft_model(model, peft_config(), adapter_name="a0")
    for i, adapter in enumerate(adapters):
        if i:
            wrapped.add_adapter(f"a{i}", peft_config())
        copy_into(wrapped, adapter, name=f"a{i}")
    wrapped.base_model.set_adapter([f"a{i}" for i in range(len(adapters))])
    return wrapped.eval()


def copy_into(wrapped: Any, adapter: Adapter, *, name: str) -> None:
    """Our factors into peft's adapter of that name."""
    with torch.no_grad():
        for path, update in adapter.layers.items():
            layer = wrapped.base_model.model.get_submodule(path)
            layer.lora_A[name].weight.copy_(update.down)
            layer.lora_B[name].weight.copy_(update.up)
