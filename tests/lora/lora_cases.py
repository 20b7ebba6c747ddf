"""Small models, adapters and hand-made files that the tests of lora/ share."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from counterpoise.errors import CounterpoiseError, RefusedInputError, shown
from counterpoise.lora import Adapter, LowRank
from counterpoise.lora.layers import Layout, match_layers

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


class Net(nn.Module):
    """Every supported kind of layer once, a few that are not, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, dilation=1)
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2, padding_mode="reflect")
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4, padding_mode="circular", bias=False)
        self.point = nn.Conv2d(12, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.block = nn.ModuleDict({"fc": nn.Linear(6, 10), "out": nn.Linear(10, 6, bias=False)})
        self.fc = nn.Linear(6, 5)
        self.table = nn.Embedding(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.point(self.grouped(self.dilated(self.conv(x)).relu())))
        return self.fc(self.block["out"](self.block["fc"](x.mean((2, 3))).tanh()))


def net(dtype: torch.dtype = torch.float32, seed: int = 0) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net().to(dtype).eval()


def picture(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(5)).to(dtype)


def update(shape: tuple[int, ...], rank: int, *, alpha: float, generator: torch.Generator) -> LowRank:
    down = torch.randn(rank, *shape[1:], generator=generator) / 4
    up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator) / 4
    return LowRank(down, up, alpha)


def adapter_for(
    model: object, seed: int = 1, *, rank: int = 2, alpha: float = 3, paths: Any = None
) -> Adapter:
    """Random factors, of mixed rank and alpha, for `paths` (default: every layer)."""
    generator = torch.Generator().manual_seed(seed)
    sites = Layout.of(model).sites
    chosen = paths if paths is not None else match_layers(model, ["*"])
    return Adapter(
        {
            path: update(
                tuple(sites[path].weight.shape), rank + i % 2, alpha=alpha + i % 3, generator=generator
            )
            for i, path in enumerate(chosen)
        }
    )


def linear_adapter(path: str = "fc", *, rank: int = 2, width: int = 6, out: int = 5) -> Adapter:
    generator = torch.Generator().manual_seed(3)
    return Adapter({path: update((out, width), rank, alpha=4.0, generator=generator)})


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_bits(model: nn.Module, before: dict[str, Tensor]) -> None:
    now = model.state_dict()
    assert now.keys() == before.keys()
    for name, tensor in before.items():
        assert now[name].dtype == tensor.dtype
        assert torch.equal(now[name].flatten().view(torch.uint8), tensor.flatten().view(torch.uint8)), name


def picture_of(model: nn.Module) -> tuple[Any, ...]:
    """All that a refused move must leave as it was: bytes, types, hooks, flags, RNG."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(
            name.encode() + tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    parts = tuple(
        (
            name,
            type(module),
            tuple(module._forward_hooks.items()),
            tuple(module._forward_hooks_with_kwargs.items()),
            tuple(module._forward_pre_hooks.items()),
            tuple(module._backward_hooks.items()),
            "forward" in vars(module),
            module.training,
        )
        for name, module in model.named_modules()
    )
    flags = tuple((name, id(p), p.requires_grad, p.data_ptr()) for name, p in model.named_parameters())
    return digest.hexdigest(), parts, flags, torch.get_rng_state().numpy().tobytes()


def container(
    entries: dict[str, Any] | str | bytes, data: bytes = b"", *, length: int | None = None
) -> bytes:
    """A safetensors file by hand: any header, any data, any declared length."""
    raw = (
        entries
        if isinstance(entries, bytes)
        else (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    )
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Written by the safetensors library itself, so that the reader is tested against another's files."""
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path, metadata=metadata)
    return path


def pair(path: str = "fc", rank: int = 2, *, width: int = 6, out: int = 5) -> dict[str, Tensor]:
    return {
        f"{path}.lora_A.weight": torch.ones(rank, width),
        f"{path}.lora_B.weight": torch.ones(out, rank),
    }


def peft_folder(folder, tensors, **config):
    folder.mkdir(exist_ok=True)
    save_tensors(
        folder / "adapter_model.safetensors", {f"base_model.model.{k}": t for k, t in tensors.items()}
    )
    full = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}
    (folder / "adapter_config.json").write_text(json.dumps(full))
    return folder


def refusal(path) -> CounterpoiseError:
    begun = time.perf_counter()
    with pytest.raises(RefusedInputError) as caught:
        Adapter.load(path)
    assert time.perf_counter() - begun < 2
    error = caught.value
    assert error.exit_code == 4
    assert "\n" not in str(error)
    assert str(error).isprintable()
    assert shown(str(path)[:20]) in str(error)
    assert error.to_dict()["code"] == error.code
    return error
