"""Dialects and kinds against the real peft and diffusers; where they are wrong, the wrong is pinned by name."""

from __future__ import annotations

import copy
import warnings

import peft
import pytest
import torch
from dialect_cases import kohya_pair, numbers
from lora_cases import adapter_for, save_tensors, update
from test_lora_peers import peft_model, quiet, tiny_pipeline, tiny_unet
from torch import nn

from counterpoise.lora import Adapter, LowRank, match_layers
from counterpoise.lora.dialects.models import SGM
from counterpoise.lora.kinds import Biased, DoRA, Embedding

__all__ = ["quiet"]
R = 3


class Layers(nn.Module):
    """One layer of each class that peft's LoRA knows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 5)
        self.table = nn.Embedding(7, 4)
        self.one = nn.Conv1d(4, 6, 3)
        self.two = nn.Conv2d(4, 6, 3)
        self.three = nn.Conv3d(4, 6, (1, 2, 2))


def layers_model() -> Layers:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Layers().eval()


def lora(shape, seed=0):
    return update(tuple(shape), R, alpha=5.0, generator=torch.Generator().manual_seed(seed))


def merged(folder):
    """The weights that peft makes of a folder; the base was W0."""
    theirs = peft_model(layers_model(), folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return theirs.merge_and_unload().state_dict()


def expected(model, adapter):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for path, each in adapter.layers.items():
        weight = state[f"{path}.weight"]
        state[f"{path}.weight"] = weight + each.dense(base=weight)
        if each.bias_delta is not None:
            state[f"{path}.bias"] = state[f"{path}.bias"] + each.bias_delta.float()
    return state


def same_state(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


PATHS = ["fc", "one", "two", "three"]


def kinds(model):
    weights = {path: model.get_submodule(path).weight for path in (*PATHS, "table")}
    plain = {path: lora(weights[path].shape, i) for i, path in enumerate(PATHS)}
    table = Embedding(numbers(R, 7), numbers(4, R), 5.0)
    rows = {
        path: numbers(*(n if i == 0 else 1 for i, n in enumerate(weights[path].shape))).abs()
        for path in PATHS
    }
    return {
        "lora": Adapter({**plain, "table": table}),
        "dora": Adapter(
            {**{p: DoRA(u, rows[p]) for p, u in plain.items()}, "table": DoRA(table, numbers(1, 4).abs())}
        ),
        "bias": Adapter({p: Biased(u, numbers(u.weight_shape[0])) for p, u in plain.items()}),
    }


@pytest.mark.parametrize("kind", ["lora", "dora", "bias"])
def test_our_folder_has_the_same_effect_in_peft(tmp_path, kind):
    model = layers_model()
    adapter = kinds(model)[kind]
    folder = adapter.save(tmp_path / "p", dialect="peft")
    same_state(merged(folder), expected(model, adapter))


@pytest.mark.parametrize("kind", ["lora", "dora", "bias"])
@pytest.mark.parametrize("rslora", [False, True])
def test_pefts_own_folder_is_read_with_its_effect(tmp_path, kind, rslora):
    model = layers_model()
    targets = PATHS if kind == "bias" else [*PATHS, "table"]
    config = peft.LoraConfig(
        r=R, lora_alpha=5, target_modules=targets, use_dora=kind == "dora", lora_bias=kind == "bias",
        init_lora_weights=False, use_rslora=rslora,
    )  # fmt: skip
    theirs = peft.get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.add_(numbers(*parameter.shape) / 3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*invalid shape")  # peft takes a bias for a shard (0.21)
        theirs.save_pretrained(tmp_path)
    adapter = Adapter.load(tmp_path)
    assert sorted(adapter.layers) == sorted(targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = theirs.merge_and_unload().state_dict()
    same_state(expected(model, adapter), wanted)


# --- diffusers -----------------------------------------------------------------------------------


def deltas(state):
    """Layer -> delta of a state dict in any of diffusers' own spellings, all at scale 1."""
    found = {}
    for key, down in state.items():
        for a, b in ((".lora_A.weight", ".lora_B.weight"), (".lora.down.weight", ".lora.up.weight")):
            if key.endswith(a):
                found[key.removesuffix(a)] = state[key.removesuffix(a) + b].float() @ down.float()
    return found


def test_stabilitys_names_mean_what_they_mean_to_diffusers(tmp_path):
    """Every layer of SDXL's UNet that can have a LoRA."""
    from types import SimpleNamespace

    from diffusers.loaders import lora_conversion_utils as theirs

    names = []
    for rule in SGM.rules:
        levels = [int(part) for part in rule.targets[0].split(".") if part.isdigit()][:1]
        beyond = rule.targets[0].startswith(("down", "up")) and levels[0] > 2  # SDXL has three
        old_place = rule.source.endswith(".1.conv")  # an upsampler without attention before it: SD 1
        norm = "norm" in rule.targets[0]
        if not (beyond or old_place or norm):
            names.append((rule.source.replace("#", "1").replace(".", "_"), rule.targets[0].replace("#", "1")))
    config = SimpleNamespace(layers_per_block=2)
    ours = {}
    tensors = {}
    for i, (name, target) in enumerate(names):
        tensors |= {f"lora_unet_{name}.lora_down.weight": torch.full((1, 2), float(i)),
                    f"lora_unet_{name}.lora_up.weight": torch.ones(3, 1)}  # fmt: skip
        ours[f"unet.{target}"] = float(i)
    found = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors))
    assert {path: float(u.down[0, 0]) for path, u in found.layers.items()} == ours
    mapped = theirs._maybe_map_sgm_blocks_to_diffusers(dict(tensors), config)
    converted, _ = theirs._convert_non_diffusers_lora_to_diffusers(mapped)
    # Written through our own reader, which knows the spellings that the conversion ends in.
    again = Adapter.load(save_tensors(tmp_path / "b.safetensors", converted))
    assert {path: float(u.down[0, 0]) for path, u in again.layers.items()} == ours


FLUX = {
    "double_blocks_0_img_attn_qkv": 9, "double_blocks_1_txt_attn_qkv": 9, "double_blocks_0_img_attn_proj": 4,
    "double_blocks_0_txt_attn_proj": 4, "double_blocks_0_img_mlp_0": 4, "double_blocks_0_txt_mlp_2": 4,
    "double_blocks_0_img_mod_lin": 4, "double_blocks_0_txt_mod_lin": 4, "single_blocks_0_linear1": 21504,
    "single_blocks_0_linear2": 4, "single_blocks_37_modulation_lin": 4,
}  # fmt: skip


def flux_tensors(alpha):
    tensors = {}
    for name, out in FLUX.items():
        tensors |= kohya_pair(f"lora_unet_{name}", rank=2, width=3, out=out, alpha=alpha)
    return tensors


def test_a_kohya_file_of_flux_has_diffusers_deltas(tmp_path):
    from diffusers.loaders import lora_conversion_utils as theirs

    tensors = flux_tensors(0.5)
    found = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors)).layers
    wanted = deltas(theirs._convert_kohya_flux_lora_to_diffusers(dict(tensors)))
    assert set(found) == set(wanted)
    for path, delta in wanted.items():
        torch.testing.assert_close(found[path].dense(), delta, rtol=1e-4, atol=1e-5)


def test_pins_diffusers_drops_the_alpha_of_fluxs_last_layer(tmp_path):
    """assign_remaining_weights pops final_layer's alphas unread (diffusers 0.42): scale 1 instead of 1/4."""
    from diffusers.loaders import lora_conversion_utils as theirs

    tensors = kohya_pair("lora_unet_final_layer_linear", alpha=0.5)
    tensors |= kohya_pair("lora_unet_final_layer_adaLN_modulation_1", out=12)
    found = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors)).layers
    wrong = deltas(theirs._convert_kohya_flux_lora_to_diffusers(dict(tensors)))
    torch.testing.assert_close(found["transformer.proj_out"].dense() * 4, wrong["proj_out"])
    swapped = found["transformer.norm_out.linear"].dense()
    torch.testing.assert_close(swapped, wrong["norm_out.linear"])


def test_an_xlabs_file_has_diffusers_deltas(tmp_path):
    from diffusers.loaders import lora_conversion_utils as theirs

    stems = {"double_blocks.0.processor.qkv_lora1": 9, "double_blocks.0.processor.proj_lora2": 4,
             "double_blocks.0.processor.qkv_lora2": 9, "double_blocks.0.processor.proj_lora1": 4,
             "single_blocks.0.processor.qkv_lora": 9, "single_blocks.0.processor.proj_lora": 4}  # fmt: skip
    tensors = {}
    for stem, out in stems.items():
        tensors |= {f"{stem}.down.weight": numbers(2, 3), f"{stem}.up.weight": numbers(out, 2)}
    found = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors)).layers
    wanted = deltas(theirs._convert_xlabs_flux_lora_to_diffusers(dict(tensors)))
    assert set(found) == set(wanted)
    for path, delta in wanted.items():
        torch.testing.assert_close(found[path].dense(), delta)


def kohya_unet(unet, alphas):
    """A kohya file's adapter for every attention projection of a UNet, alphas in turn."""
    g = torch.Generator().manual_seed(0)
    paths = [p for p, m in unet.named_modules() if p.endswith(("to_q", "to_k", "to_v", "to_out.0"))]
    return Adapter(
        {
            f"unet.{path}": update(
                tuple(unet.get_submodule(path).weight.shape), 2, alpha=alphas[i % len(alphas)], generator=g
            )
            for i, path in enumerate(paths)
        }
    )


def scales_in_diffusers(tmp_path, adapter):
    pipeline = tiny_pipeline(tmp_path)
    pipeline.load_lora_weights(
        adapter.save(tmp_path / "kohya.safetensors", dialect="kohya"), adapter_name="a"
    )
    return {f"unet.{n}": m.scaling["a"] for n, m in pipeline.unet.named_modules() if hasattr(m, "scaling")}


@pytest.mark.usefixtures("quiet")
def test_our_kohya_file_loads_in_diffusers(tmp_path):
    adapter = kohya_unet(tiny_unet(), [3.0])
    scales = scales_in_diffusers(tmp_path, adapter)
    assert scales == {path: u.scale for path, u in adapter.layers.items()}


@pytest.mark.usefixtures("quiet")
def test_pins_diffusers_gives_non_uniform_alphas_the_commonest_and_ours_are_right(tmp_path):
    """engines.md 1.3: its alpha patterns name "attn1.processor.to_q", which matches no module (0.42)."""
    adapter = kohya_unet(tiny_unet(), [1.0, 4.0, 4.0])
    with pytest.warns(RuntimeWarning, match="did not match any targeted module and were ignored"):
        scales = scales_in_diffusers(tmp_path, adapter)
    wrong = [path for path, u in adapter.layers.items() if scales[path] != u.scale]
    assert wrong
    assert set(scales.values()) == {2.0}
    again = Adapter.load(tmp_path / "kohya.safetensors")
    assert {path: u.scale for path, u in again.layers.items()} == {
        p: u.scale for p, u in adapter.layers.items()
    }
    right = Adapter.load(again.save(tmp_path / "d", dialect="diffusers"))
    pipeline = tiny_pipeline(tmp_path)
    pipeline.load_lora_weights(tmp_path / "d", adapter_name="a")
    found = {f"unet.{n}": m.scaling["a"] for n, m in pipeline.unet.named_modules() if hasattr(m, "scaling")}
    assert found == {path: u.scale for path, u in right.layers.items()}


def test_low_rank_form_of_a_lycoris_file_reaches_peft(tmp_path):
    """LoHa, which peft's LoRA cannot hold, in its exact low-rank form."""
    stem = "lycoris_fc"
    tensors = {
        f"{stem}.hada_w{i}_{s}": numbers(*((5, 2) if s == "a" else (2, 6))) for i in (1, 2) for s in "ab"
    }
    adapter = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors), model=layers_model())
    exact = Adapter({"fc": adapter.layers["fc"].low_rank().update})
    assert isinstance(exact.layers["fc"], LowRank)
    state = merged(exact.save(tmp_path / "p", dialect="peft"))
    delta = state["fc.weight"] - layers_model().fc.weight
    torch.testing.assert_close(delta, adapter.layers["fc"].dense(), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("quiet")
def test_a_pipelines_adapter_comes_back_from_kohyas_form_whatever_transformers_calls_clips_layers(tmp_path):
    pipeline = tiny_pipeline(tmp_path)
    paths = match_layers(
        pipeline, ["text_encoder*q_proj", "text_encoder*fc1", "unet.*attn2.to_k", "unet.*conv1"]
    )
    adapter = adapter_for(pipeline, 3, paths=paths)
    file = adapter.save(tmp_path / "a.safetensors", dialect="kohya")
    assert Adapter.load(file, model=pipeline) == adapter
    names = {path for path in Adapter.load(file).layers if path.startswith("text_encoder")}
    assert all(name.startswith("text_encoder.text_model.encoder.layers.") for name in names)
