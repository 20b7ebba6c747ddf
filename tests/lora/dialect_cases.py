"""Files in the dialects of other tools, made from their documented names, and the layers that they mean."""

from __future__ import annotations

from pathlib import Path

import torch
from lora_cases import save_tensors
from torch import Tensor, nn


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def kohya_pair(
    stem: str, *, rank: int = 2, width: int = 6, out: int = 5, alpha: float | None = None
) -> dict[str, Tensor]:
    found = {
        f"{stem}.lora_down.weight": numbers(rank, width),
        f"{stem}.lora_up.weight": numbers(out, rank, seed=1),
    }
    return found | ({} if alpha is None else {f"{stem}.alpha": torch.tensor(alpha)})


def spelled(stem: str, down: str, up: str) -> dict[str, Tensor]:
    return {f"{stem}{down}": numbers(2, 6), f"{stem}{up}": numbers(12, 2, seed=1)}


_DOUBLE, _SINGLE = "transformer.transformer_blocks.3", "transformer.single_transformer_blocks.7"
AB, DU = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
OLD = (".down.weight", ".up.weight")
# Dialect, stem, the ends of its pair's names -> the layers that it means.
STEMS: list[tuple[str, str, tuple[str, str], list[str]]] = [
    ("diffusers", "unet.down_blocks.0.attentions.1.proj_in", AB, ["unet.down_blocks.0.attentions.1.proj_in"]),
    ("diffusers", "transformer.x_embedder", AB, ["transformer.x_embedder"]),
    ("diffusers", "transformer.a.to_q", DU, ["transformer.a.to_q"]),
    ("diffusers", "transformer.mochi.to_q", (".lora_A", ".lora_B"), ["transformer.mochi.to_q"]),
    ("diffusers", "unet.a.to_q", (".lora_A.my_style.weight", ".lora_B.my_style.weight"), ["unet.a.to_q"]),
    ("diffusers", "unet.a.to_q", (".lora.down.weight", ".lora.up.weight"), ["unet.a.to_q"]),
    (
        "diffusers", "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj"],
    ),
    ("module paths", "block.fc", AB, ["block.fc"]),
    ("module paths", "block.fc", DU, ["block.fc"]),
    ("old diffusers", "unet.a.attn1.processor.to_q_lora", OLD, ["unet.a.attn1.to_q"]),
    ("old diffusers", "unet.a.attn1.processor.to_out_lora", OLD, ["unet.a.attn1.to_out.0"]),
    ("old diffusers", "down.attn2.processor.add_k_proj_lora", OLD, ["down.attn2.add_k_proj"]),
    (
        "old diffusers", "text_encoder.text_model.encoder.layers.3.self_attn.to_out_lora", OLD,
        ["text_encoder.text_model.encoder.layers.3.self_attn.out_proj"],
    ),
    (
        "kohya", "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0", DU,
        ["unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0"],
    ),
    (
        "kohya", "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj", DU,
        ["unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.0.proj"],
    ),
    ("kohya", "lora_unet_mid_block_resnets_1_time_emb_proj", DU, ["unet.mid_block.resnets.1.time_emb_proj"]),
    ("kohya", "lora_unet_time_embedding_linear_1", DU, ["unet.time_embedding.linear_1"]),
    ("kohya", "lora_unet_down_blocks_2_downsamplers_0_conv", DU, ["unet.down_blocks.2.downsamplers.0.conv"]),
    (
        "kohya", "lora_unet_input_blocks_4_1_transformer_blocks_9_attn2_to_k", DU,
        ["unet.down_blocks.1.attentions.0.transformer_blocks.9.attn2.to_k"],
    ),
    ("kohya", "lora_unet_input_blocks_3_0_op", DU, ["unet.down_blocks.0.downsamplers.0.conv"]),
    ("kohya", "lora_unet_input_blocks_7_0_in_layers_2", DU, ["unet.down_blocks.2.resnets.0.conv1"]),
    ("kohya", "lora_unet_middle_block_1_proj_out", DU, ["unet.mid_block.attentions.0.proj_out"]),
    ("kohya", "lora_unet_middle_block_2_emb_layers_1", DU, ["unet.mid_block.resnets.1.time_emb_proj"]),
    ("kohya", "lora_unet_output_blocks_5_1_norm", DU, ["unet.up_blocks.1.attentions.2.norm"]),
    ("kohya", "lora_unet_output_blocks_5_2_conv", DU, ["unet.up_blocks.1.upsamplers.0.conv"]),
    ("kohya", "lora_unet_output_blocks_2_1_conv", DU, ["unet.up_blocks.0.upsamplers.0.conv"]),
    ("kohya", "lora_unet_output_blocks_8_0_skip_connection", DU, ["unet.up_blocks.2.resnets.2.conv_shortcut"]),
    ("kohya", "lora_unet_label_emb_0_2", DU, ["unet.add_embedding.linear_2"]),
    ("kohya", "lora_unet_input_blocks_0_0", DU, ["unet.conv_in"]),
    ("kohya", "lora_unet_out_2", DU, ["unet.conv_out"]),
    (
        "kohya", "lora_te_text_model_encoder_layers_11_self_attn_out_proj", DU,
        ["text_encoder.text_model.encoder.layers.11.self_attn.out_proj"],
    ),
    (
        "kohya", "lora_te1_text_model_encoder_layers_0_mlp_fc1", DU,
        ["text_encoder.text_model.encoder.layers.0.mlp.fc1"],
    ),
    ("kohya", "lora_te2_text_projection", DU, ["text_encoder_2.text_projection"]),
    (
        "kohya", "lora_te3_encoder_block_0_layer_0_SelfAttention_q", DU,
        ["text_encoder_3.encoder.block.0.layer.0.SelfAttention.q"],
    ),
    ("kohya", "lora_unet_double_blocks_3_img_attn_proj", DU, [f"{_DOUBLE}.attn.to_out.0"]),
    (
        "kohya", "lora_unet_double_blocks_3_txt_attn_qkv", DU,
        [f"{_DOUBLE}.attn.add_{x}_proj" for x in "qkv"],
    ),
    ("kohya", "lora_unet_double_blocks_3_img_mod_lin", DU, [f"{_DOUBLE}.norm1.linear"]),
    ("kohya", "lora_unet_single_blocks_7_linear2", DU, [f"{_SINGLE}.proj_out"]),
    ("kohya", "lora_unet_single_blocks_7_modulation_lin", DU, [f"{_SINGLE}.norm.linear"]),
    ("kohya", "lora_unet_guidance_in_out_layer", DU, ["transformer.time_text_embed.guidance_embedder.linear_2"]),
    ("kohya", "lora_unet_final_layer_linear", DU, ["transformer.proj_out"]),
    ("kohya", "lora_unet_final_layer_adaLN_modulation_1", DU, ["transformer.norm_out.linear"]),
    ("kohya", "lora_unet_my_own_layer_0", DU, ["lora_unet_my_own_layer_0"]),
    ("OneTrainer", "lora_transformer_transformer_blocks_3_attn_to_out_0", DU, [f"{_DOUBLE}.attn.to_out.0"]),
    ("OneTrainer", "lora_transformer_single_transformer_blocks_7_attn_to_q", DU, [f"{_SINGLE}.attn.to_q"]),
    ("LyCORIS", "lycoris_down_blocks_0_resnets_0_conv_shortcut", DU, ["down_blocks.0.resnets.0.conv_shortcut"]),
    ("LyCORIS", "lycoris_transformer_blocks_3_ff_context_net_2", DU, ["transformer_blocks.3.ff_context.net.2"]),
    ("LyCORIS", "lycoris_something_else", DU, ["lycoris_something_else"]),
    ("diffusion_model", "diffusion_model.double_blocks.3.img_attn.qkv", AB, [f"{_DOUBLE}.attn.to_{x}" for x in "qkv"]),
    ("diffusion_model", "diffusion_model.input_blocks.4.1.proj_in", DU, ["unet.down_blocks.1.attentions.0.proj_in"]),
    ("diffusion_model", "diffusion_model.double_blocks.3.processor.proj_lora2", OLD, [f"{_DOUBLE}.attn.to_add_out"]),
    ("diffusion_model", "diffusion_model.blocks.0.self_attn.q", AB, ["diffusion_model.blocks.0.self_attn.q"]),
    (
        "ComfyUI text encoders", "text_encoders.clip_l.transformer.text_model.encoder.layers.1.mlp.fc2", DU,
        ["text_encoder.text_model.encoder.layers.1.mlp.fc2"],
    ),
    ("fal Flux", "base_model.model.double_blocks.3.img_mlp.0", AB, [f"{_DOUBLE}.ff.net.0.proj"]),
    ("BFL or xlabs Flux", "double_blocks.3.processor.qkv_lora2", OLD, [f"{_DOUBLE}.attn.add_{x}_proj" for x in "qkv"]),
    ("BFL or xlabs Flux", "double_blocks.3.processor.proj_lora1", OLD, [f"{_DOUBLE}.attn.to_out.0"]),
    ("BFL or xlabs Flux", "single_blocks.7.processor.proj_lora", OLD, [f"{_SINGLE}.proj_out"]),
    ("BFL or xlabs Flux", "single_blocks.7.processor.qkv_lora", OLD, [f"{_SINGLE}.attn.to_{x}" for x in "qkv"]),
    ("BFL or xlabs Flux", "double_blocks.3.txt_mlp.2", AB, [f"{_DOUBLE}.ff_context.net.2"]),
]  # fmt: skip


def stem_file(folder: Path, stem: str, ends: tuple[str, str]) -> Path:
    return save_tensors(folder / "other.safetensors", spelled(stem, *ends))


class Odd(nn.Module):
    """Layers whose names hold underscores where a path has dots, and the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.to_out = nn.ModuleList([nn.Linear(6, 5)])
        self.ff_net = nn.ModuleDict({"0_proj": nn.Linear(6, 5)})
        self.my_block = nn.ModuleDict(
            {"in_proj": nn.Linear(6, 5), "in": nn.ModuleDict({"fc_1": nn.Linear(6, 5)})}
        )
        self.conv_ = nn.Conv2d(4, 8, 3)


class Torn(nn.Module):
    """Two layers that are one when flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a_b = nn.ModuleDict({"c": nn.Linear(6, 5)})
        self.a = nn.ModuleDict({"b_c": nn.Linear(6, 5)})
