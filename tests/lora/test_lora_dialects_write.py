"""What is written is read back equal, in every dialect that can hold it; what cannot be held is refused."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
import torch
from dialect_cases import Odd, Torn, numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import adapter_for, linear_adapter, update
from safetensors import safe_open
from safetensors.torch import save as safetensors_bytes
from test_lora_kinds import MAKERS, SHAPES, made
from torch import nn

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank
from counterpoise.lora.dialects import DIALECTS
from counterpoise.lora.dialects.metadata import PROVENANCE, without_paths
from counterpoise.lora.kinds import Biased, DoRA, Embedding, Full, LoHa, LoKr, Tucker

SD1 = [
    "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k",
    "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "unet.mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
    "unet.up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2",
    "unet.mid_block.resnets.0.time_emb_proj",
    "unet.time_embedding.linear_1",
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
]
SDXL = [
    "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_out.0",
    "unet.up_blocks.1.attentions.2.transformer_blocks.0.ff.net.0.proj",
    "unet.up_blocks.0.upsamplers.0.conv",
    "unet.add_embedding.linear_2",
    "unet.conv_in",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "text_encoder_2.text_projection",
]
FLUX = [
    *(f"transformer.transformer_blocks.3.attn.to_{x}" for x in "qkv"),
    *(f"transformer.single_transformer_blocks.11.attn.to_{x}" for x in "qkv"),
    "transformer.single_transformer_blocks.11.proj_mlp",
    "transformer.transformer_blocks.3.ff_context.net.0.proj",
    "transformer.norm_out.linear",
    "transformer.time_text_embed.guidance_embedder.linear_1",
    "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "text_encoder_2.encoder.block.0.layer.1.DenseReluDense.wi_0",
]
FAMILIES = {"SD1": (SD1, (6, 4)), "SDXL": (SDXL, (6, 4)), "Flux": (FLUX, (8, 4))}


def adapter_of(paths, shape, *, alpha=None, seed=0) -> Adapter:
    g = torch.Generator().manual_seed(seed)
    layers = {}
    for i, path in enumerate(paths):
        out = shape[0] * 4 if path.endswith("proj_mlp") else shape[0]
        fused = ".attn." in path or "proj_mlp" in path
        rank, each = (2, 3.0) if "Flux" in str(alpha) and fused else (1 + i % 3, 0.25 + i)
        layers[path] = update((out, shape[1]), rank, alpha=each, generator=g)
    return Adapter(layers, {"title": "t", "modelspec.trigger_phrase": "sks style"})


@pytest.mark.parametrize("family", FAMILIES)
def test_from_dialect_to_dialect_and_back(tmp_path, family):
    """C15: equal tensors, alphas and metadata on every leg."""
    paths, shape = FAMILIES[family]
    adapter = adapter_of(paths, shape, alpha=family)
    for legs in (
        ("kohya",),
        ("diffusers",),
        ("peft",),
        ("kohya", "peft", "diffusers", "kohya"),
        ("peft", "kohya"),
    ):
        back = adapter
        for i, dialect in enumerate(legs):
            back = Adapter.load(back.save(tmp_path / f"{'-'.join(legs)}-{i}", dialect=dialect))
        assert back == adapter
        assert back.fingerprint() == adapter.fingerprint()


@pytest.mark.parametrize(
    ("family", "stems"),
    [
        ("SD1", ["lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0",
                 "lora_te_text_model_encoder_layers_0_self_attn_q_proj"]),
        ("SDXL", ["lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_out_0", "lora_unet_output_blocks_2_2_conv",
                  "lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te2_text_projection", "lora_unet_label_emb_0_2"]),
        ("Flux", ["lora_unet_double_blocks_3_img_attn_qkv", "lora_unet_single_blocks_11_linear1",
                  "lora_unet_final_layer_adaLN_modulation_1", "lora_te3_encoder_block_0_layer_1_DenseReluDense_wi_0"]),
    ],
)  # fmt: skip
def test_kohyas_names_are_those_of_each_models_own_tools(tmp_path, family, stems):
    paths, shape = FAMILIES[family]
    file = adapter_of(paths, shape, alpha=family).save(tmp_path / "a.safetensors", dialect="kohya")
    with safe_open(file, "pt") as opened:
        keys = set(opened.keys())
    for stem in stems:
        assert {f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"} <= keys


def test_a_kohya_file_of_flux_comes_back_tensor_for_tensor(tmp_path):
    """Splitting shares the down; fusing finds it again."""
    tensors = {
        "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": numbers(3, 6),
        "lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": numbers(12, 3),
        "lora_unet_double_blocks_0_img_attn_qkv.alpha": torch.tensor(1.5),
        "lora_unet_single_blocks_0_linear2.lora_down.weight": numbers(3, 6),
        "lora_unet_single_blocks_0_linear2.lora_up.weight": numbers(12, 3),
        "lora_unet_single_blocks_0_linear2.alpha": torch.tensor(1.5),
    }
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(tensors))
    adapter = Adapter.load(tmp_path / "a.safetensors")
    through = Adapter.load(adapter.save(tmp_path / "d", dialect="diffusers"))
    file = through.save(tmp_path / "b.safetensors", dialect="kohya")
    with safe_open(file, "pt") as opened:
        assert set(opened.keys()) == set(tensors)
        assert all(torch.equal(opened.get_tensor(key), tensor) for key, tensor in tensors.items())


def test_odd_names_come_back_through_the_model(tmp_path):
    """C15: to_out.0, 0_proj, underscores in module names."""
    model = Odd()
    adapter = adapter_for(model)
    file = adapter.save(tmp_path / "a.safetensors", dialect="kohya")
    assert Adapter.load(file) != adapter
    assert Adapter.load(file, model=model) == adapter
    opened = Adapter.load(file)
    assert Adapter.load(opened.save(tmp_path / "b.safetensors", dialect="kohya"), model=model) == adapter
    for dialect in ("peft", "diffusers"):
        with pytest.raises(UsageError, match="matched") as caught:
            opened.save(tmp_path / dialect, dialect=dialect)
        assert caught.value.code == "E_UNRESOLVED"
        assert not (tmp_path / dialect).exists()


def test_names_of_models_that_no_grammar_knows_stay_as_they_were(tmp_path):
    pairs = {f"diffusion_model.blocks.0.attn.q.lora_{side}.weight": numbers(2, 2) for side in "AB"}
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes(pairs))
    adapter = Adapter.load(tmp_path / "a.safetensors")
    assert list(adapter.layers) == ["diffusion_model.blocks.0.attn.q"]
    assert Adapter.load(adapter.save(tmp_path / "b.safetensors", dialect="kohya")) == adapter
    model = nn.ModuleDict(
        {"blocks": nn.ModuleList([nn.ModuleDict({"attn": nn.ModuleDict({"q": nn.Linear(2, 2)})})])}
    )
    assert list(adapter.matched(model).layers) == ["blocks.0.attn.q"]


PARTS = st.text(st.sampled_from("abq_01"), min_size=1, max_size=4).filter(lambda s: s not in {"_", "__"})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.lists(PARTS, min_size=1, max_size=3).map(".".join),
        st.tuples(st.integers(1, 3), st.floats(1e-3, 1e6)),
        min_size=1,
        max_size=5,
    )
)
def test_any_model_gets_its_names_back_from_kohyas_form(tmp_path_factory, described):
    """Or the two layers that are one there are refused, by name."""
    model = nn.Module()
    for path in described:
        part = model
        for name in path.split(".")[:-1]:
            if name not in part._modules:
                part.add_module(name, nn.Module())
            part = part._modules[name]
        last = path.split(".")[-1]
        layer = nn.Linear(2, 3, bias=False)
        for name, child in part._modules.get(last, nn.Module())._modules.items():
            layer.add_module(name, child)
        part.add_module(last, layer)
    g = torch.Generator().manual_seed(0)
    adapter = Adapter({p: update((3, 2), r, alpha=a, generator=g) for p, (r, a) in described.items()})
    flat = {path.replace(".", "_") for path in described}
    file = tmp_path_factory.mktemp("any") / "a.safetensors"
    if len(flat) < len(described):
        with pytest.raises(UsageError) as caught:
            adapter.save(file, dialect="kohya")
        assert caught.value.code == "E_AMBIGUOUS"
    else:
        assert Adapter.load(adapter.save(file, dialect="kohya"), model=model) == adapter


# --- kinds ---------------------------------------------------------------------------------------

HOLDS = {
    "peft": (LowRank, Embedding),
    "diffusers": (LowRank,),
    "kohya": (LowRank, Tucker, LoHa, LoKr, Full),
}
CASES = [(name, shape) for name, (_, shapes) in MAKERS.items() for shape in shapes]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_every_kind_in_every_dialect_or_refused_by_name(tmp_path, dialect, name, shape):
    model = nn.Module()
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.zeros(shape))
    model.add_module("block", layer)
    kind = made(name, shape)
    ones = (1,) * len(shape[2:])
    inner = Full(kind.weight) if isinstance(kind, Full) else kind
    rows, columns = numbers(shape[0], 1, *ones), numbers(1, shape[1], *ones)
    lengths = columns if isinstance(kind, Embedding) else rows
    peft_like = dialect in ("peft", "diffusers")
    variants = {
        "plain": (kind, True),
        "dora": (DoRA(inner, lengths), True),
        "dora of the other axis": (DoRA(inner, rows if lengths is columns else columns), not peft_like),
        "bias": (Biased(inner, numbers(shape[0])), peft_like),
        "diff_b": (
            Biased(inner, numbers(shape[0]), scaled=False),
            not peft_like and not isinstance(kind, Full),
        ),
    }
    if isinstance(kind, Embedding):
        del variants["bias"], variants["diff_b"]
    for variant, (each, holds) in variants.items():
        adapter = Adapter({"block": each})
        target = tmp_path / variant.replace(" ", "-")
        if isinstance(kind, HOLDS[dialect]) and holds:
            assert Adapter.load(adapter.save(target, dialect=dialect), model=model) == adapter, variant
        elif variant != "diff_b" or not isinstance(kind, Full):
            with pytest.raises(UsageError) as caught:
                adapter.save(target, dialect=dialect)
            assert caught.value.code == "E_UNSUPPORTED"
            assert "block has" in str(caught.value)
            assert not target.exists()


@pytest.mark.parametrize("dialect", ["peft", "diffusers"])
def test_what_a_config_says_of_all_layers_must_hold_for_all(tmp_path, dialect):
    plain = linear_adapter().layers["fc"]
    for other in (DoRA(plain, torch.ones(5, 1)), Biased(plain, torch.ones(5))):
        with pytest.raises(UsageError, match="all or none") as caught:
            Adapter({"a": plain, "b": other}).save(tmp_path / "x", dialect=dialect)
        assert caught.value.code == "E_UNSUPPORTED"


@pytest.mark.parametrize(
    ("layers", "code"),
    [
        (lambda: {"a": linear_adapter().layers["fc"], "vae.conv_in": linear_adapter().layers["fc"]}, "E_UNSUPPORTED"),
        (lambda: {"a": LowRank(torch.ones(1, 2), torch.ones(3, 1), 0.0)}, "E_UNSUPPORTED"),
        (lambda: dict(adapter_of(FLUX[:2] + FLUX[3:], (8, 4), alpha="Flux").layers), "E_UNSUPPORTED"),
        (lambda: dict(adapter_of(FLUX, (8, 4)).layers), "E_UNSUPPORTED"),
        (lambda: dict(adapter_of(["unet.down_blocks.0_attentions.0.proj_in"], (6, 4)).layers), "E_AMBIGUOUS"),
        (lambda: dict(adapter_for(Torn()).layers), "E_AMBIGUOUS"),
    ],
)  # fmt: skip
def test_layers_that_kohyas_form_cannot_hold(tmp_path, layers, code):
    with pytest.raises(UsageError) as caught:
        Adapter(layers()).save(tmp_path / "a.safetensors", dialect="kohya")
    assert caught.value.code == code
    assert list(tmp_path.iterdir()) == []


# --- metadata ------------------------------------------------------------------------------------


def header(file):
    with safe_open(file, "pt") as opened:
        return opened.metadata(), {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def inner_file(where):
    return where if where.is_file() else next(where.glob("*.safetensors"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_file_says_what_its_readers_look_for(tmp_path, dialect):
    """Hashes as sd-scripts computes them, modelspec's required fields, alpha, provenance."""
    provenance = json.dumps({"parents": [{"name": "a"}, {"name": "b"}], "method": "exact"})
    g = torch.Generator().manual_seed(0)
    path = "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k"
    layers = {
        path: update((320, 768), 256, alpha=8.0, generator=g),
        "unet.conv_in": update((4, 4), 256, alpha=8.0, generator=g),
    }
    adapter = Adapter(layers, {PROVENANCE: provenance, "ss_output_name": "my_lora", "ss_note": "ü"})
    where = adapter.save(tmp_path / "out", dialect=dialect)
    fields, tensors = header(inner_file(where))
    raw = inner_file(where).read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    assert fields["sshs_model_hash"] == hashlib.sha256(raw[begin:]).hexdigest()
    kept = {key: value for key, value in fields.items() if key.startswith("ss_")}
    theirs = io.BytesIO(safetensors_bytes(tensors, kept))
    theirs.seek(0x100000)
    assert len(raw) > 0x110000
    assert fields["sshs_legacy_hash"] == hashlib.sha256(theirs.read(0x10000)).hexdigest()[:8]
    assert fields["modelspec.hash_sha256"] == f"0x{fields['sshs_model_hash']}"
    assert fields["modelspec.sai_model_spec"] == "1.0.1"
    assert fields["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert fields["modelspec.title"] == "my_lora"
    assert fields["modelspec.implementation"]
    assert (fields["ss_network_dim"], fields["ss_network_alpha"]) == ("256", "8")
    assert (fields["ss_base_model_version"], fields["ss_v2"]) == ("sd_v1", "False")
    assert fields[PROVENANCE] == provenance
    assert ("lora_adapter_metadata" in fields) == (dialect == "diffusers")
    alphas = [float(tensor) for key, tensor in tensors.items() if key.endswith(".alpha")]
    assert alphas == ([8.0, 8.0] if dialect == "kohya" else [])
    assert Adapter.load(where) == adapter
    mixed = Adapter({**layers, "unet.b": update((4, 4), 2, alpha=1.0, generator=g)})
    fields, _ = header(inner_file(mixed.save(tmp_path / "mixed", dialect=dialect)))
    assert (fields["ss_network_dim"], fields["ss_network_alpha"]) == ("Dynamic", "Dynamic")


def test_an_alpha_that_float32_cannot_hold_is_kept_in_float64(tmp_path):
    adapter = Adapter({"unet.conv_in": LowRank(torch.ones(3, 2), torch.ones(4, 3), 0.1)})
    assert Adapter.load(adapter.save(tmp_path / "a.safetensors", dialect="kohya")) == adapter


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/me/models/sd.safetensors", "sd.safetensors"),
        (r"C:\Users\me\models\sd.safetensors", "sd.safetensors"),
        (r"\\server\share\me\sd.ckpt", "sd.ckpt"),
        ("~/data/me", "me"),
        ("file:///home/me/x.png", "x.png"),
        ('{"dirs": ["/home/me/10_cat", "rel/x"], "n": 1}', '{"dirs": ["10_cat", "rel/x"], "n": 1}'),
        ('{"d": "C:\\\\Users\\\\me\\\\10_cat"}', '{"d": "10_cat"}'),
        ("trained from /home/me/a b/photos/", "trained from photos"),
        (
            "https://github.com/Stability-AI/generative-models",
            "https://github.com/Stability-AI/generative-models",
        ),
        ("stable-diffusion-v1/lora", "stable-diffusion-v1/lora"),
        ("1/2 of a/b", "1/2 of a/b"),
        ("sks style", "sks style"),
    ],
)
def test_metadata_leaks_no_absolute_path(tmp_path, text, kept):
    assert without_paths(text) == kept
    assert without_paths(kept) == kept
    adapter = Adapter(linear_adapter().layers, {"ss_sd_model_name": text})
    assert dict(Adapter.load(adapter.save(tmp_path / "a.safetensors")).metadata) == {"ss_sd_model_name": kept}


def test_fields_that_the_file_itself_works_out_are_no_adapters_own():
    for field in ("ss_network_dim", "ss_network_alpha", "sshs_model_hash", "modelspec.hash_sha256"):
        with pytest.raises(UsageError) as caught:
            Adapter(linear_adapter().layers, {field: "1"})
        assert caught.value.code == "E_METADATA"


def test_shapes_cover_every_layer_kind():
    assert {len(shape) for shape in SHAPES} == {2, 3, 4, 5}
