"""Folding on the embedded model: what it costs to draw, and whether W0 comes back, beside peft.

python -m benchmarks.fold [--json]
"""

from __future__ import annotations

import copy

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from benchmarks.report import Line, alternate, show
from counterpoise import Adapter, Host
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import LowRank, match_layers
from counterpoise.world import model_folder

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
RANK = 16


def random_adapter(module: torch.nn.Module, prefix: str = "") -> Adapter:
    """Random factors of rank 16 on every attention projection; a tenth of the weights' standard deviation."""
    generator = torch.Generator().manual_seed(0)
    layers = {}
    for path in match_layers(module, [f"*.{name}" for name in TARGETS]):
        weight = module.get_submodule(path).weight
        down = torch.randn(RANK, weight.shape[1], generator=generator) / weight.shape[1] ** 0.5
        up = torch.randn(weight.shape[0], RANK, generator=generator)
        scale = 0.1 * float(weight.float().std()) / float((up @ down).std())
        layers[prefix + path] = LowRank(down, up * scale, RANK)
    return Adapter(layers)


def drawing_time() -> Line:
    """Seconds a batch of 32, folded against base."""
    pipeline = load_pipeline(model_folder("world"))
    folded = copy.deepcopy(pipeline)
    host = Host(folded)
    host.mount(random_adapter(pipeline.unet, "unet."), name="a")
    host.fold()
    batch = ["a portrait of a woman"] * 32, list(range(32))
    painters = [Painter(p, guidance=2.0, steps=12, dtype="auto") for p in (folded, pipeline)]
    ours, base = alternate(lambda: painters[0](*batch), lambda: painters[1](*batch), rounds=7)
    return Line("folded: seconds a batch, base as peer", ours, base, ours / base, 1.05, ours / base <= 1.05)


def restored_share(dtype: torch.dtype) -> Line:
    """Share of weights changed after one cycle of merge and unmerge; peer: peft on the same factors."""
    unet = load_pipeline(model_folder("world")).unet.to(dtype)
    adapter = random_adapter(unet)
    before = {name: p.clone() for name, p in unet.named_parameters()}
    host = Host(unet)
    host.mount(adapter, name="a")
    host.fold()
    host.restore()
    ours = _changed(before, dict(unet.named_parameters()), adapter)
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS)), unet)
    tuners = {name: m for name, m in unet.named_modules() if isinstance(m, BaseTunerLayer)}
    for name, layer in tuners.items():
        update = adapter.layers[name]
        layer.lora_A["default"].weight.data.copy_(update.down)
        layer.lora_B["default"].weight.data.copy_(update.up)
    for layer in tuners.values():
        layer.merge()
    for layer in tuners.values():
        layer.unmerge()
    after = {name.replace(".base_layer", ""): p for name, p in unet.named_parameters() if "lora_" not in name}
    peer = _changed(before, after, adapter)
    return Line(
        f"share of adapted weights changed after fold and restore, {dtype}", ours, peer, None, 0.0, ours == 0
    )


def _changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], adapter: Adapter) -> float:
    names = [f"{path}.weight" for path in adapter.layers]
    changed = sum(int((before[name] != after[name]).sum()) for name in names)
    return changed / sum(before[name].numel() for name in names)


def main() -> None:
    torch.set_num_threads(2)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        show(restored_share(dtype))
    show(drawing_time())


if __name__ == "__main__":
    main()
