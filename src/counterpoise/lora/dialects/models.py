"""The layers of the models that LoRA files are made for, as templates: what their names may be in a file.

Sources: diffusers' UNet2DConditionModel and FluxTransformer2DModel, transformers' CLIP and T5; Stability's
sgm names beside diffusers' (sd-scripts, library/sdxl_model_util.py); Black Forest Labs' names beside
diffusers' (sd-scripts, networks/convert_flux_lora.py). In "#" stands a number.
"""

from __future__ import annotations

from itertools import product

from counterpoise.lora.dialects.grammar import Grammar, Rule, identity

_ATTENTION = (
    "proj_in",
    "proj_out",
    *(f"transformer_blocks.#.attn{i}.{p}" for i in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"transformer_blocks.#.{p}" for p in ("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3")),
    "norm",
)  # fmt: skip
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_BLOCKS = ("down_blocks.#", "mid_block", "up_blocks.#")
_OUTSIDE = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}

UNET = Grammar(
    identity(
        [
            *(f"{block}.attentions.#.{part}" for block, part in product(_BLOCKS, _ATTENTION)),
            *(f"{block}.resnets.#.{part}" for block, part in product(_BLOCKS, _RESNET.values())),
            "down_blocks.#.downsamplers.#.conv",
            "up_blocks.#.upsamplers.#.conv",
            *_OUTSIDE.values(),
        ]
    )
)


def _sgm() -> list[Rule]:
    """Stability's UNet: blocks of two layers and a sampler, counted through; three layers on the way up."""
    places = [(f"input_blocks.{3 * b + j + 1}", f"down_blocks.{b}", j) for b in range(4) for j in range(2)]
    places += [(f"output_blocks.{3 * b + j}", f"up_blocks.{b}", j) for b in range(4) for j in range(3)]
    rules = [Rule(source, (target,)) for source, target in _OUTSIDE.items()]
    for sgm, block, j in places:
        rules += [Rule(f"{sgm}.0.{s}", (f"{block}.resnets.{j}.{t}",)) for s, t in _RESNET.items()]
        rules += [Rule(f"{sgm}.1.{part}", (f"{block}.attentions.{j}.{part}",)) for part in _ATTENTION]
    for j in range(2):
        part = f"middle_block.{2 * j}"
        rules += [Rule(f"{part}.{s}", (f"mid_block.resnets.{j}.{t}",)) for s, t in _RESNET.items()]
    rules += [Rule(f"middle_block.1.{part}", (f"mid_block.attentions.0.{part}",)) for part in _ATTENTION]
    for b in range(3):
        rules.append(Rule(f"input_blocks.{3 * b + 3}.0.op", (f"down_blocks.{b}.downsamplers.0.conv",)))
        # The sampler follows the attention; where a block has none (SD 1 and 2), it takes its place.
        for place in (2, 1):
            source = f"output_blocks.{3 * b + 2}.{place}.conv"
            rules.append(Rule(source, (f"up_blocks.{b}.upsamplers.0.conv",)))
    return rules


SGM = Grammar(tuple(_sgm()))

CLIP = Grammar(
    identity(
        [
            *(f"text_model.encoder.layers.#.self_attn.{p}_proj" for p in ("q", "k", "v", "out")),
            *(f"text_model.encoder.layers.#.{p}{i}" for p in ("mlp.fc", "layer_norm") for i in (1, 2)),
            *(f"text_model.embeddings.{p}_embedding" for p in ("token", "position")),
            "text_model.final_layer_norm",
            "text_projection",
        ]
    )
)  # fmt: skip
T5 = Grammar(
    identity(
        [
            *(f"encoder.block.#.layer.0.SelfAttention.{p}" for p in "qkvo"),
            *(f"encoder.block.#.layer.1.DenseReluDense.{p}" for p in ("wi", "wi_0", "wi_1", "wo")),
            "shared",
        ]
    )
)

_TEXT_TIME = "time_text_embed"
_DOUBLE, _SINGLE = "transformer_blocks.#", "single_transformer_blocks.#"
_FLUX_ONE = {
    "double_blocks.#.img_attn.proj": f"{_DOUBLE}.attn.to_out.0",
    "double_blocks.#.txt_attn.proj": f"{_DOUBLE}.attn.to_add_out",
    "double_blocks.#.img_mlp.0": f"{_DOUBLE}.ff.net.0.proj",
    "double_blocks.#.img_mlp.2": f"{_DOUBLE}.ff.net.2",
    "double_blocks.#.txt_mlp.0": f"{_DOUBLE}.ff_context.net.0.proj",
    "double_blocks.#.txt_mlp.2": f"{_DOUBLE}.ff_context.net.2",
    "double_blocks.#.img_mod.lin": f"{_DOUBLE}.norm1.linear",
    "double_blocks.#.txt_mod.lin": f"{_DOUBLE}.norm1_context.linear",
    "single_blocks.#.linear2": f"{_SINGLE}.proj_out",
    "single_blocks.#.modulation.lin": f"{_SINGLE}.norm.linear",
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": f"{_TEXT_TIME}.timestep_embedder.linear_1",
    "time_in.out_layer": f"{_TEXT_TIME}.timestep_embedder.linear_2",
    "vector_in.in_layer": f"{_TEXT_TIME}.text_embedder.linear_1",
    "vector_in.out_layer": f"{_TEXT_TIME}.text_embedder.linear_2",
    "guidance_in.in_layer": f"{_TEXT_TIME}.guidance_embedder.linear_1",
    "guidance_in.out_layer": f"{_TEXT_TIME}.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_QKV = tuple(f"{_DOUBLE}.attn.to_{x}" for x in "qkv")
_ADDED_QKV = tuple(f"{_DOUBLE}.attn.add_{x}_proj" for x in "qkv")
_SINGLE_QKV = tuple(f"{_SINGLE}.attn.to_{x}" for x in "qkv")
_FLUX_FUSED = (
    Rule("double_blocks.#.img_attn.qkv", _QKV, (1, 1, 1)),
    Rule("double_blocks.#.txt_attn.qkv", _ADDED_QKV, (1, 1, 1)),
    # The MLP is four times as wide as the model (mlp_ratio of FLUX.1).
    Rule("single_blocks.#.linear1", (*_SINGLE_QKV, f"{_SINGLE}.proj_mlp"), (1, 1, 1, 4)),
    # BFL keeps shift before scale, diffusers' AdaLayerNormContinuous scale before shift.
    Rule("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True),
)
BFL = Grammar((*(Rule(source, (target,)) for source, target in _FLUX_ONE.items()), *_FLUX_FUSED))
FLUX = Grammar(identity([*_FLUX_ONE.values()] + [t for rule in _FLUX_FUSED for t in rule.targets]))

# x-flux (https://github.com/XLabs-AI/x-flux): processors beside BFL's layers; 1 is the image's, 2 the text's.
XLABS = Grammar(
    (
        Rule("double_blocks.#.processor.qkv_lora1", _QKV, (1, 1, 1)),
        Rule("double_blocks.#.processor.qkv_lora2", _ADDED_QKV, (1, 1, 1)),
        Rule("double_blocks.#.processor.proj_lora1", (f"{_DOUBLE}.attn.to_out.0",)),
        Rule("double_blocks.#.processor.proj_lora2", (f"{_DOUBLE}.attn.to_add_out",)),
        Rule("single_blocks.#.processor.qkv_lora", _SINGLE_QKV, (1, 1, 1)),
        Rule("single_blocks.#.processor.proj_lora", (f"{_SINGLE}.proj_out",)),
    )
)
