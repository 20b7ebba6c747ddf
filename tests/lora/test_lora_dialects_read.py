"""Every dialect is read by content: which layers its names mean, with which scale, every tensor used."""

from __future__ import annotations

import itertools
import json
import warnings

import pytest
import torch
from dialect_cases import AB, STEMS, Odd, Torn, kohya_pair, numbers, spelled, stem_file
from lora_cases import net, pair, peft_folder, picture_of, refusal, save_tensors

from counterpoise.errors import RefusedInputError
from counterpoise.lora import Adapter, Host
from counterpoise.lora.dialects import read
from counterpoise.lora.dialects.models import BFL, CLIP, FLUX, SGM, T5, UNET, XLABS
from counterpoise.lora.dialects.spellings import SPELLINGS
from counterpoise.lora.kinds import Biased, DoRA, Embedding, Full, LoHa, LoKr, LowRank, Tucker

GRAMMARS = {"UNet": UNET, "SGM": SGM, "BFL": BFL, "Flux": FLUX, "xlabs": XLABS, "CLIP": CLIP, "T5": T5}


@pytest.mark.parametrize(("dialect", "stem", "ends", "paths"), STEMS)
def test_what_a_name_means(tmp_path, dialect, stem, ends, paths):
    file = stem_file(tmp_path, stem, ends)
    found = read(file)
    assert found.dialects == (dialect,)
    assert sorted(found.layers) == sorted(paths)
    down, up = spelled(stem, *ends).values()
    assert {u.scale for u in found.layers.values()} == {1.0}
    assert all(torch.equal(u.down, down) for u in found.layers.values())
    if stem.endswith("adaLN_modulation_1"):
        assert torch.equal(found.layers[paths[0]].up, torch.cat([up[6:], up[:6]]))
    else:
        assert torch.equal(torch.cat([found.layers[path].up for path in paths]), up)


def test_every_spelling_has_a_case():
    assert {spelling.name for spelling in SPELLINGS} - {"PEFT"} == {dialect for dialect, *_ in STEMS}


@pytest.mark.parametrize("name", GRAMMARS)
def test_no_name_of_a_known_model_has_two_meanings(name):
    """The contract of every row of every grammar, with numbers of one and two digits."""
    grammar = GRAMMARS[name]
    for rule, number in itertools.product(grammar.rules, ("0", "13")):
        source = rule.source.replace("#", number)
        targets = tuple(target.replace("#", number) for target in rule.targets)
        for meaning in (grammar.dotted(source), grammar.flattened(source.replace(".", "_"))):
            assert meaning is not None, source
            assert meaning.targets == targets
        written = grammar.written(targets[0])
        assert written is not None
        again = grammar.dotted(written[0])
        assert again is not None
        assert again.targets == targets
    assert grammar.flattened("nothing_like_it_0") is None
    assert len({rule.source for rule in grammar.rules}) == len(grammar.rules)


def paths_of(module):
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [path for path, part in module.named_modules() if isinstance(part, kinds)]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_layer_of_the_real_classes_is_in_the_tables():
    from diffusers import FluxTransformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(4, 8, 8), norm_num_groups=2, cross_attention_dim=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3), attention_head_dim=2, addition_embed_type="text_time",
        addition_time_embed_dim=4, projection_class_embeddings_input_dim=32, use_linear_projection=True,
    )  # fmt: skip
    flux = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, attention_head_dim=4, num_attention_heads=2, joint_attention_dim=8,
        pooled_projection_dim=8, in_channels=4, guidance_embeds=True, axes_dims_rope=(2, 2, 0),
    )  # fmt: skip
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": 30, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    clip = CLIPTextModelWithProjection(CLIPTextConfig(**sizes, **tokens, projection_dim=8))
    t5 = T5EncoderModel(
        T5Config(
            d_model=8,
            d_kv=4,
            d_ff=8,
            num_layers=1,
            num_heads=2,
            vocab_size=30,
            feed_forward_proj="gated-gelu",
        )
    )
    for grammar, model in ((UNET, unet), (FLUX, flux), (CLIP, clip), (T5, t5)):
        unknown = [p for p in paths_of(model) if grammar.flattened(p.replace(".", "_")) is None]
        assert unknown == []
    for grammar, model in ((SGM, unet), (BFL, flux)):
        reached = {
            target for path in paths_of(model) if (w := grammar.written(path)) for target in w[1].targets
        }
        assert set(paths_of(model)) <= reached


def kohya_file(folder, tensors, metadata=None):
    return save_tensors(folder / "kohya.safetensors", tensors, metadata)


def test_kohyas_alphas_are_each_layers_own(tmp_path):
    """Non-uniform alphas and dims, as block-wise training and dynamic resizing leave them; a missing one is 1."""
    stems = [f"lora_unet_down_blocks_0_attentions_{i}_transformer_blocks_0_attn1_to_q" for i in range(4)]
    alphas = [1.0, 4.0, None, 0.5]
    tensors = {}
    for i, (stem, alpha) in enumerate(zip(stems, alphas, strict=True)):
        tensors |= kohya_pair(stem, rank=2 + i, alpha=alpha)
    scales = [u.scale for u in Adapter.load(kohya_file(tmp_path, tensors)).layers.values()]
    assert scales == [1 / 2, 4 / 3, 1.0, 0.5 / 5]


def test_mixed_ranks_without_alphas_have_scale_one_whatever_the_order(tmp_path):
    """B15."""
    tensors = kohya_pair("lora_unet_a", rank=64) | kohya_pair("lora_unet_b", rank=16)
    for order in (sorted(tensors), sorted(tensors, reverse=True)):
        found = Adapter.load(kohya_file(tmp_path, {key: tensors[key] for key in order}))
        assert [u.scale for u in found.layers.values()] == [1.0, 1.0]


def test_a_header_alpha_whose_tensors_are_lost_is_a_conflict(tmp_path):
    said = {"ss_network_dim": "2", "ss_network_alpha": "1.0"}
    error = refusal(kohya_file(tmp_path, kohya_pair("lora_unet_a"), said))
    assert error.code == "E_CONFIG"
    assert "alpha 1 for dim 2" in str(error)
    for harmless in (
        {**said, "ss_network_alpha": "2"},
        {**said, "ss_network_alpha": "Dynamic"},
        {"ss_network_alpha": "1"},
    ):
        assert Adapter.load(kohya_file(tmp_path, kohya_pair("lora_unet_a"), harmless))
    with_tensors = kohya_pair("lora_unet_a", alpha=3.0)
    assert Adapter.load(kohya_file(tmp_path, with_tensors, said)).layers["lora_unet_a"].scale == 1.5


def test_a_fused_layers_rows_are_split_and_its_down_is_shared(tmp_path):
    """The sum of the parts is the fused layer's own delta, row for row."""
    sizes = {"lora_unet_double_blocks_0_img_attn_qkv": 12, "lora_unet_single_blocks_0_linear1": 28}
    tensors = {}
    for stem, out in sizes.items():
        tensors |= kohya_pair(stem, rank=3, out=out, alpha=1.5)
    found = Adapter.load(kohya_file(tmp_path, tensors)).layers
    double = [f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    single = [
        f"transformer.single_transformer_blocks.0.{p}"
        for p in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    ]
    assert sorted(found) == sorted(double + single)
    assert [found[path].weight_shape[0] for path in single] == [4, 4, 4, 16]
    for stem, paths in zip(sizes, (double, single), strict=True):
        whole = tensors[f"{stem}.lora_up.weight"] @ tensors[f"{stem}.lora_down.weight"] * 0.5
        torch.testing.assert_close(torch.cat([found[path].dense() for path in paths]), whole)


def test_a_block_diagonal_fused_layer_comes_apart_into_its_blocks(tmp_path):
    up, down = torch.zeros(12, 6), numbers(6, 5)
    for i in range(3):
        up[4 * i : 4 * i + 4, 2 * i : 2 * i + 2] = numbers(4, 2, seed=i)
    stem = "lora_unet_double_blocks_0_txt_attn_qkv"
    tensors = {
        f"{stem}.lora_down.weight": down,
        f"{stem}.lora_up.weight": up,
        f"{stem}.alpha": torch.tensor(3.0),
    }
    found = Adapter.load(kohya_file(tmp_path, tensors)).layers
    assert [(u.rank, u.scale) for u in found.values()] == [(2, 0.5)] * 3
    q = found["transformer.transformer_blocks.0.attn.add_q_proj"]
    torch.testing.assert_close(q.dense(), (up @ down)[:4] * 0.5)


def test_kinds_that_do_not_come_apart_are_refused(tmp_path):
    stem = "lora_unet_double_blocks_0_txt_attn_qkv"
    tensors = {f"{stem}.lokr_w1": numbers(3, 2), f"{stem}.lokr_w2": numbers(4, 3)}
    assert "cannot be taken apart" in str(refusal(kohya_file(tmp_path, tensors)))
    uneven = refusal(kohya_file(tmp_path, kohya_pair(stem, out=13)))
    assert uneven.code == "E_UNSUPPORTED"
    halves = kohya_pair("lora_unet_final_layer_adaLN_modulation_1", out=5)
    assert refusal(kohya_file(tmp_path, halves)).code == "E_UNSUPPORTED"


def test_the_other_kinds_of_a_fused_layer(tmp_path):
    stem, width = "lora_unet_double_blocks_0_img_attn_qkv", 6
    loha = {
        f"{stem}.hada_w{i}_{s}": numbers(*((12, 2) if s == "a" else (2, width)), seed=i)
        for i in (1, 2)
        for s in "ab"
    }
    dora = kohya_pair(stem, out=12) | {f"{stem}.dora_scale": numbers(12, 1).abs()}
    full = {f"{stem}.diff": numbers(12, width), f"{stem}.diff_b": numbers(12)}
    biased = kohya_pair(stem, out=12) | {f"{stem}.diff_b": numbers(12)}
    base = numbers(12, width, seed=9)
    for tensors in (loha, dora, full, biased):
        found = list(Adapter.load(kohya_file(tmp_path, tensors)).layers.values())
        whole = Adapter.load(
            kohya_file(tmp_path, {k.replace(stem, "lora_unet_whole"): t for k, t in tensors.items()})
        )
        update = whole.layers["lora_unet_whole"]
        order = [2, 0, 1] if len(found) == 3 else []  # sorted: to_k, to_q, to_v
        parts = [found[1], found[0], found[2]]
        assert order
        dense = torch.cat([p.dense(base=base[4 * i : 4 * i + 4]) for i, p in enumerate(parts)])
        torch.testing.assert_close(dense, update.dense(base=base))
        if update.bias_delta is not None:
            assert torch.equal(torch.cat([p.bias_delta for p in parts]), update.bias_delta)
    columns = kohya_pair(stem, out=12) | {f"{stem}.dora_scale": numbers(1, width).abs()}
    assert refusal(kohya_file(tmp_path, columns)).code == "E_UNSUPPORTED"


def test_t5_is_fluxs_second_encoder_and_stable_diffusion_3s_third(tmp_path):
    t5 = kohya_pair("lora_te3_encoder_block_0_layer_0_SelfAttention_q")
    assert [p.partition(".")[0] for p in Adapter.load(kohya_file(tmp_path, t5)).layers] == ["text_encoder_3"]
    flux = t5 | kohya_pair("lora_unet_double_blocks_0_img_mlp_0")
    parts = {p.partition(".")[0] for p in Adapter.load(kohya_file(tmp_path, flux)).layers}
    assert parts == {"transformer", "text_encoder_2"}
    named = pair("text_encoder_3.encoder.block.0.layer.0.SelfAttention.q") | pair(
        "transformer.single_transformer_blocks.0.proj_out"
    )
    parts = {p.partition(".")[0] for p in Adapter.load(kohya_file(tmp_path, named)).layers}
    assert parts == {"transformer", "text_encoder_3"}  # said in full: believed


# --- kinds ---------------------------------------------------------------------------------------

STEM = "lora_unet_x"
KINDS = {
    "lora": (kohya_pair(STEM), LowRank),
    "conv": ({f"{STEM}.lora_down.weight": numbers(2, 3, 3, 3), f"{STEM}.lora_up.weight": numbers(5, 2, 1, 1)}, LowRank),
    "conv1d": ({f"{STEM}.lora_down.weight": numbers(2, 3, 3), f"{STEM}.lora_up.weight": numbers(5, 2, 1)}, LowRank),
    "tucker": (
        {f"{STEM}.lora_down.weight": numbers(2, 3, 1, 1), f"{STEM}.lora_mid.weight": numbers(2, 2, 3, 3),
         f"{STEM}.lora_up.weight": numbers(5, 2, 1, 1)}, Tucker,
    ),
    "loha": ({f"{STEM}.hada_w{i}_{s}": numbers(*((5, 2) if s == "a" else (2, 6))) for i in (1, 2) for s in "ab"}, LoHa),
    "lokr": ({f"{STEM}.lokr_w1": numbers(2, 2), f"{STEM}.lokr_w2_a": numbers(3, 2), f"{STEM}.lokr_w2_b": numbers(2, 3)}, LoKr),
    "full": ({f"{STEM}.diff": numbers(5, 6), f"{STEM}.diff_b": numbers(5)}, Full),
    "norm": ({f"{STEM}.w_norm": numbers(5), f"{STEM}.b_norm": numbers(5)}, Full),
    "dora": (kohya_pair(STEM) | {f"{STEM}.dora_scale": numbers(5, 1)}, DoRA),
    "dora of columns": (kohya_pair(STEM) | {f"{STEM}.dora_scale": numbers(1, 6)}, DoRA),
    "dora of one axis": (kohya_pair(STEM) | {f"{STEM}.dora_scale": numbers(5)}, DoRA),
    "peft dora": (kohya_pair(STEM) | {f"{STEM}.lora_magnitude_vector": numbers(5)}, DoRA),
    "diff_b": (kohya_pair(STEM) | {f"{STEM}.diff_b": numbers(5)}, Biased),
    "bias": (pair("x") | {"x.lora_B.bias": numbers(5)}, Biased),
    "embedding": ({"t.lora_embedding_A": numbers(2, 7), "t.lora_embedding_B": numbers(3, 2)}, Embedding),
    "scalar of 1": (kohya_pair(STEM) | {f"{STEM}.scalar": torch.tensor(1.0)}, LowRank),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [None, 0.5])
def test_every_kind_is_read_with_every_tensor(tmp_path, kind, alpha):
    tensors, cls = KINDS[kind]
    stem = next(iter(tensors)).partition(".")[0]
    extra = {} if alpha is None else {f"{stem}.alpha": torch.tensor(alpha)}
    (update,) = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors | extra)).layers.values()
    assert type(update) is cls
    kept = sorted((tuple(t.shape), float(t.sum())) for t in update.tensors().values() if t.numel() > 1)
    wanted = sorted((tuple(t.shape), float(t.sum())) for t in tensors.values() if t.numel() > 1)
    assert [total for _, total in kept] == [total for _, total in wanted]
    if cls is not Full:
        assert update.scale == (1.0 if alpha is None else alpha / 2)


def test_dora_axes_are_told_by_the_shape(tmp_path):
    square = {"f.lora_down.weight": numbers(2, 5), "f.lora_up.weight": numbers(5, 2)}
    for stored, per_output in ((numbers(5, 1), True), (numbers(1, 5), False), (numbers(5), True)):
        file = save_tensors(tmp_path / "a.safetensors", square | {"f.dora_scale": stored})
        assert Adapter.load(file).layers["f"].per_output is per_output
    conv = {"c.lora_A.weight": numbers(2, 5, 3, 3), "c.lora_B.weight": numbers(5, 2, 1, 1)}
    peft = save_tensors(tmp_path / "b.safetensors", conv | {"c.lora_magnitude_vector": numbers(1, 5, 1, 1)})
    assert Adapter.load(peft).layers["c"].per_output  # PEFT's are always of outputs
    lycoris = save_tensors(tmp_path / "c.safetensors", conv | {"c.dora_scale": numbers(1, 5, 1, 1)})
    assert not Adapter.load(lycoris).layers["c"].per_output


@pytest.mark.parametrize(
    ("roles", "config", "code"),
    [
        ({"lora_magnitude_vector": numbers(5)}, {"use_dora": False}, "E_CONFIG"),
        ({"lora_B.bias": numbers(5)}, {}, "E_CONFIG"),
        ({}, {"use_dora": True}, "E_CONFIG"),
        ({"lora_magnitude_vector": numbers(5)}, {"use_dora": True}, None),
        ({"lora_B.bias": numbers(5)}, {"lora_bias": True}, None),
    ],
)
def test_a_config_and_its_tensors_belong_together(tmp_path, roles, config, code):
    folder = peft_folder(tmp_path / "p", pair() | {f"fc.{role}": t for role, t in roles.items()}, **config)
    if code is None:
        assert Adapter.load(folder).layers["fc"].scale == 2.0
    else:
        assert refusal(folder).code == code


def test_with_a_config_names_are_paths_and_nothing_is_renamed(tmp_path):
    """Whoever adapts Black Forest Labs' own modules, or one named like an old processor, gets them back."""
    names = ["double_blocks.0.img_attn.qkv", "lora_unet_down_blocks_0_attentions_0_proj_in"]
    folder = peft_folder(tmp_path / "p", {k: t for name in names for k, t in pair(name).items()})
    assert sorted(Adapter.load(folder).layers) == names


# --- matching a model ----------------------------------------------------------------------------

ODD = {
    "to_out.0": "lycoris_to_out_0",
    "ff_net.0_proj": "lycoris_ff_net_0_proj",
    "my_block.in_proj": "lycoris_my_block_in_proj",
    "my_block.in.fc_1": "lycoris_my_block_in_fc_1",
}


def test_flattened_names_are_resolved_by_the_models_own_modules(tmp_path):
    tensors = {k: t for name in ODD.values() for k, t in kohya_pair(name).items()}
    file = kohya_file(tmp_path, tensors)
    assert sorted(Adapter.load(file).layers) == sorted(ODD.values())
    model = Odd()
    matched = Adapter.load(file, model=model)
    assert sorted(matched.layers) == sorted(ODD)
    for path, name in ODD.items():
        assert torch.equal(matched.layers[path].down, tensors[f"{name}.lora_down.weight"])
    with Host(model).mounted(matched):
        pass
    with pytest.raises(RefusedInputError, match=r"resolved by adapter\.matched"):
        Host(model).mount(Adapter.load(file))


def test_the_kernel_that_a_file_leaves_open_is_the_models(tmp_path):
    stem = "lycoris_conv_"
    flat = {
        f"{stem}.hada_w{i}_{s}": numbers(*((8, 2) if s == "a" else (2, 36))) for i in (1, 2) for s in "ab"
    }
    found = Adapter.load(kohya_file(tmp_path, flat), model=Odd())
    assert found.layers["conv_"].weight_shape == (8, 4, 3, 3)


def test_a_name_that_fits_two_layers_or_none(tmp_path):
    file = kohya_file(tmp_path, kohya_pair("lycoris_a_b_c"))
    with pytest.raises(
        RefusedInputError, match=r"can be a_b\.c and a\.b_c|can be a\.b_c and a_b\.c"
    ) as caught:
        Adapter.load(file, model=Torn())
    assert caught.value.code == "E_AMBIGUOUS"
    with pytest.raises(RefusedInputError, match=r"1 of 1 layers .* nearest: .*my_block\.in_proj") as caught:
        Adapter.load(kohya_file(tmp_path, kohya_pair("lycoris_my_block_in_porj")), model=Odd())
    assert caught.value.code == "E_NO_MATCH"
    assert caught.value.file == str(file)
    both = pair("to_out.0") | kohya_pair("lycoris_to_out_0")
    assert refusal(kohya_file(tmp_path, both)).code == "E_DUP_MODULE"
    twice = kohya_pair("lora_unet_to_out_0") | kohya_pair("lycoris_to_out_0")
    with pytest.raises(RefusedInputError, match="are both layer to_out") as caught:
        Adapter.load(kohya_file(tmp_path, twice), model=Odd())
    assert caught.value.code == "E_DUP_MODULE"


def test_clips_paths_in_either_version_of_transformers(tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModel

    sizes = {"hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": 30, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    clip = CLIPTextModel(CLIPTextConfig(**sizes, **tokens))
    fc1 = next(path for path, _ in clip.named_modules() if path.endswith("fc1"))
    stem = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert list(Adapter.load(kohya_file(tmp_path, kohya_pair(stem)), model=clip).layers) == [fc1]
    old = pair("text_encoder.text_model.encoder.layers.0.mlp.fc1")
    assert list(Adapter.load(kohya_file(tmp_path, old), model=clip).layers) == [fc1]


def test_a_component_is_taken_off_for_the_component_itself(tmp_path):
    model = net()
    file = save_tensors(tmp_path / "a.safetensors", pair("unet.fc"))
    assert list(Adapter.load(file, model=model).layers) == ["fc"]
    plain = Adapter.load(save_tensors(tmp_path / "b.safetensors", pair("fc")))
    assert plain.matched(model) == plain


@pytest.mark.parametrize("kind", [kind for kind, (_, cls) in KINDS.items() if cls is not LowRank])
def test_a_host_mounts_a_kind_where_it_fits_and_else_stays_as_it_was(tmp_path, kind):
    model = net()
    before = picture_of(model)
    tensors = {f"fc.{key.split('.', 1)[1]}": t for key, t in KINDS[kind][0].items()}
    adapter = Adapter.load(save_tensors(tmp_path / "a.safetensors", tensors))
    host, update = Host(model), adapter.layers["fc"]
    if update.shaped((5, 6)).weight_shape == (5, 6):
        host.mount(adapter, allow_extreme=True)
        host.fold()
        assert picture_of(model) != before
        host.restore()
    else:
        with pytest.raises(RefusedInputError) as caught:
            host.mount(adapter)
        assert caught.value.code == "E_SHAPE"
    assert picture_of(model) == before


# --- bad contents --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "both",
    [
        kohya_pair("lora_unet_down_blocks_0_attentions_0_proj_in") | pair("unet.down_blocks.0.attentions.0.proj_in"),
        kohya_pair("lora_unet_conv_in") | kohya_pair("lora_unet_input_blocks_0_0"),
        kohya_pair("lora_te_text_projection") | kohya_pair("lora_te1_text_projection"),
        kohya_pair("lora_unet_double_blocks_0_img_attn_qkv", out=6) | pair("transformer.transformer_blocks.0.attn.to_k"),
        spelled("unet.a.processor.to_q_lora", ".down.weight", ".up.weight") | pair("unet.a.to_q"),
        spelled("a", ".lora_A.weight", ".lora_B.weight") | spelled("a", ".lora_A.one.weight", ".lora_B.one.weight"),
        spelled("a", ".lora_A.one.weight", ".lora_B.one.weight") | spelled("a", ".lora_A.two.weight", ".lora_B.two.weight"),
        spelled("a", *AB) | kohya_pair("a"),
    ],
)  # fmt: skip
def test_one_layer_in_two_styles(tmp_path, both):
    """B11."""
    error = refusal(save_tensors(tmp_path / "a.safetensors", both))
    assert error.code == "E_DUP_MODULE"
    assert "comes twice" in str(error)


@pytest.mark.parametrize("name", ["../../etc/passwd", "fc\0x", "fc\u202ex", "x" * 10_000, "fc\x1b[31m"])
@pytest.mark.parametrize("role", ["alpha", "dora_scale", "hada_w1_a", "diff"])
def test_hostile_names_in_any_role(tmp_path, name, role):
    """B19."""
    assert (
        refusal(save_tensors(tmp_path / "a.safetensors", {f"{name}.{role}": torch.ones(1)})).code == "E_KEY"
    )


def test_the_nearest_known_ending_is_named(tmp_path):
    error = refusal(save_tensors(tmp_path / "a.safetensors", pair() | {"fc.lora_C.weight": torch.ones(2, 6)}))
    assert error.code == "E_UNKNOWN_KEY"
    assert "nearest: lora_A.weight" in str(error) or "nearest: lora_B.weight" in str(error)


@pytest.mark.parametrize(
    "tags", ["{not json", json.dumps({f"tag {i}": i for i in range(50_000)}), '{"a": NaN}']
)
def test_training_metadata_never_affects_the_load(tmp_path, tags):
    """B21."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # past 1 MiB the entry is left out with a warning (A13)
        file = save_tensors(tmp_path / "a.safetensors", pair("unet.fc"), {"ss_tag_frequency": tags})
        assert list(Adapter.load(file).layers) == ["unet.fc"]


def test_a_wrong_hash_is_warned_of_and_made_right(tmp_path):
    """B25."""
    right = Adapter.load(save_tensors(tmp_path / "a.safetensors", pair("unet.fc")))
    whole = right.save(tmp_path / "b.safetensors")
    digest = read_header_field(whole, "sshs_model_hash")
    for said, text in (
        ("0x" + digest, "0x"),
        ("f" * 64, "does not match"),
        ("0x" + "f" * 64, "does not match"),
    ):
        file = save_tensors(tmp_path / "c.safetensors", pair("unet.fc"), {"sshs_model_hash": said})
        with pytest.warns(UserWarning, match=text):
            found = Adapter.load(file)
        assert found == right
        assert read_header_field(found.save(tmp_path / "d.safetensors"), "sshs_model_hash") == digest


def read_header_field(file, field):
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return opened.metadata()[field]
