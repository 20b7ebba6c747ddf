"""Against the real peft and diffusers: their files are read, ours load in them, where they are right.

Where they are wrong, the wrong is pinned by name, so that a repaired release is noticed.
"""

from __future__ import annotations

import json
import warnings

import peft
import pytest
import torch
from lora_cases import adapter_for, assert_bits, linear_adapter, net, picture, update, weights

from counterpoise.errors import RefusedInputError
from counterpoise.lora import Adapter, Host, LowRank, match_layers

# peft cannot express a grouped convolution's update (its down spans all channels) nor one beside a
# dilated layer: see the pins below.
PLAIN = ["block.fc", "block.out", "conv", "fc", "point"]


def peft_model(model, folder):
    with warnings.catch_warnings():
        # transformers' deprecations inside peft are not ours; a missing or unexpected key would be.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        return peft.PeftModel.from_pretrained(model, folder)


@pytest.mark.parametrize("mixed", [False, True])
def test_our_peft_folder_has_the_same_effect_in_peft(tmp_path, mixed):
    model, x = net(), picture()
    adapter = adapter_for(model, 1, paths=PLAIN)
    if not mixed:
        adapter = Adapter({p: LowRank(u.down[:2], u.up[:, :2], 8) for p, u in adapter.layers.items()})
    with Host(model).mounted(adapter):
        ours = model(x)
    folder = adapter.save(tmp_path / "p", dialect="peft")
    theirs = peft_model(net(), folder)
    torch.testing.assert_close(theirs(x), ours, rtol=1e-5, atol=1e-6)
    for path, u in adapter.layers.items():
        layer = theirs.get_submodule(f"base_model.model.{path}")
        assert layer.scaling["default"] == u.scale
        torch.testing.assert_close(layer.get_delta_weight("default"), u.dense(), rtol=1e-5, atol=1e-6)


def test_a_bare_name_does_not_also_take_deeper_layers(tmp_path):
    """PEFT's list of targets and its patterns match at the end of a path: "fc" would take "block.fc" too."""
    model = net()
    g = torch.Generator().manual_seed(0)
    layers = {
        "fc": update((5, 6), 2, alpha=1, generator=g),
        "block.fc": update((10, 6), 3, alpha=9, generator=g),
    }
    for chosen in (["fc"], ["block.fc"], ["fc", "block.fc"]):
        adapter = Adapter({path: layers[path] for path in chosen})
        theirs = peft_model(net(), adapter.save(tmp_path / "-".join(chosen), dialect="peft"))
        found = {
            n for n, m in theirs.base_model.model.named_modules() if isinstance(m, peft.tuners.lora.Linear)
        }
        assert found == set(chosen)
        with Host(model).mounted(adapter):
            torch.testing.assert_close(theirs(picture()), model(picture()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rslora", [False, True])
def test_pefts_own_folder_is_read_with_its_scales(tmp_path, rslora):
    model, x = net(), picture()
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=PLAIN,
        rank_pattern={"^fc": 2, "conv": 3},
        alpha_pattern={"block.*": 5, "fc": 1},
        use_rslora=rslora,
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(model, config)
    expected = theirs(x)
    theirs.save_pretrained(tmp_path)
    adapter = Adapter.load(tmp_path)
    plain = net()
    with Host(plain).mounted(adapter):
        torch.testing.assert_close(plain(x), expected, rtol=1e-5, atol=1e-6)
    for path, u in adapter.layers.items():
        assert u.scale == pytest.approx(theirs.get_submodule(f"base_model.model.{path}").scaling["default"])


def test_pins_pefts_unmerge_drifts_and_ours_does_not(tmp_path):
    """engines.md: 42 % of float16 weights differ after one merge and unmerge (peft 0.21)."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 64)).half()
    adapter = linear_adapter("0", width=64, out=64, rank=8)
    before = weights(model)
    host = Host(model)
    host.mount(adapter)
    host.fold()
    host.restore()
    assert_bits(model, before)
    theirs = peft_model(model, adapter.save(tmp_path / "p", dialect="peft"))
    theirs.merge_adapter()
    theirs.unmerge_adapter()
    changed = theirs.get_submodule("base_model.model.0.base_layer").weight != before["0.weight"]
    assert changed.float().mean() > 0.05


def test_pins_peft_ignores_dilation_beside_the_weights(tmp_path):
    """Its lora_A copies stride and padding but not dilation: its forward is not its merge."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=2, dilation=2))
    adapter = Adapter({"0": update((4, 3, 3, 3), 2, alpha=2, generator=torch.Generator().manual_seed(0))})
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    host = Host(model)
    host.mount(adapter)
    beside = model(x)
    host.fold()
    torch.testing.assert_close(model(x), beside, rtol=1e-4, atol=1e-5)
    host.restore()
    theirs = peft_model(model, adapter.save(tmp_path / "p", dialect="peft"))
    with pytest.raises(RuntimeError, match="size of tensor"):  # its update comes out larger than the output
        theirs(x)
    theirs.merge_adapter()
    torch.testing.assert_close(theirs(x), beside, rtol=1e-4, atol=1e-5)


def test_a_peft_file_of_a_grouped_convolution_is_refused_by_shape():
    """PEFT's down spans all input channels there; ours spans a group's, as the weight does."""
    u = update((12, 8, 3, 3), 4, alpha=4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(RefusedInputError, match=r"weight \[12, 2, 3, 3\] but the update is \[12, 8, 3, 3\]"):
        Host(net()).mount(Adapter({"grouped": u}))


# --- diffusers -----------------------------------------------------------------------------------


def tiny_unet():
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(4, 8),
            norm_num_groups=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
        ).eval()


def tiny_pipeline(tmp_path):
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}
    vocab = letters | {f"{c}</w>": 26 + i for c, i in letters.items()}
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                vocab_size=len(vocab),
                max_position_embeddings=16,
                bos_token_id=len(vocab) - 2,
                eos_token_id=len(vocab) - 1,
                pad_token_id=len(vocab) - 1,
            )
        )
        vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=4)
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=16)
    pipeline = StableDiffusionPipeline(
        vae=vae.eval(),
        text_encoder=text.eval(),
        tokenizer=tokenizer,
        unet=tiny_unet(),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise(unet):
    g = torch.Generator().manual_seed(3)
    latents, text = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 5, 8, generator=g)
    with torch.no_grad():
        return unet(latents, 7, encoder_hidden_states=text).sample


def draw(pipeline):
    pictures = pipeline(
        "ab c", num_inference_steps=2, height=8, width=8, output_type="np",
        generator=torch.Generator().manual_seed(0),
    ).images  # fmt: skip
    return torch.from_numpy(pictures)


@pytest.fixture
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def unet_adapter(unet, **kwargs):
    paths = match_layers(unet, ["*attn*", "*.conv1", "conv_in", "*time_emb_proj"])
    return adapter_for(unet, 1, paths=paths, **kwargs)


@pytest.mark.usefixtures("quiet")
def test_our_file_loads_in_a_diffusers_model(tmp_path, caplog):
    unet = tiny_unet()
    adapter = unet_adapter(unet)
    with Host(unet).mounted(adapter):
        ours = noise(unet)
    assert not torch.allclose(ours, noise(unet), atol=1e-3)
    adapter.save(tmp_path / "plain")
    unet.load_lora_adapter(
        tmp_path / "plain", prefix=None, adapter_name="a", weight_name="pytorch_lora_weights.safetensors"
    )
    torch.testing.assert_close(noise(unet), ours, rtol=1e-4, atol=1e-5)
    scales = {n: m.scaling["a"] for n, m in unet.named_modules() if hasattr(m, "scaling")}
    assert scales == {path: u.scale for path, u in adapter.layers.items()}
    assert "unexpected" not in caplog.text
    assert "missing" not in caplog.text


@pytest.mark.usefixtures("quiet")
def test_a_diffusers_models_own_file_loads_in_ours(tmp_path):
    unet = tiny_unet()
    config = peft.LoraConfig(
        r=2,
        lora_alpha=3,
        target_modules=["to_q", "to_k"],
        alpha_pattern={"attn2.to_k": 9},
        init_lora_weights=False,
    )
    unet.add_adapter(config, adapter_name="a")
    theirs = noise(unet)
    unet.save_lora_adapter(tmp_path, adapter_name="a")
    plain = tiny_unet()
    adapter = Adapter.load(tmp_path)
    assert {u.alpha for u in adapter.layers.values()} == {3.0, 9.0}
    with Host(plain).mounted(adapter):
        torch.testing.assert_close(noise(plain), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("quiet")
def test_a_whole_pipeline_both_ways(tmp_path, caplog):
    from diffusers import StableDiffusionPipeline
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    pipeline = tiny_pipeline(tmp_path)
    host = Host(pipeline)
    base, plain = host.fingerprint(), draw(pipeline)
    text = match_layers(pipeline, ["text_encoder*q_proj", "text_encoder*fc1"])
    adapter = Adapter(
        {**unet_adapter(pipeline.unet).prefixed("unet").layers, **adapter_for(pipeline, 2, paths=text).layers}
    )
    host.mount(adapter)
    ours = draw(pipeline)
    assert float((ours - plain).abs().max()) > 1e-3
    host.fold()
    torch.testing.assert_close(draw(pipeline), ours, rtol=1e-3, atol=1e-4)
    host.restore()
    assert host.fingerprint() == base
    assert torch.equal(draw(pipeline), plain)

    pipeline.load_lora_weights(adapter.save(tmp_path / "ours.safetensors"), adapter_name="a")
    torch.testing.assert_close(draw(pipeline), ours, rtol=1e-3, atol=1e-4)
    assert "unexpected" not in caplog.text
    assert "No LoRA keys" not in caplog.text

    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "theirs",
        unet_lora_layers=convert_state_dict_to_diffusers(
            get_peft_model_state_dict(pipeline.unet, adapter_name="a")
        ),
        text_encoder_lora_layers=get_peft_model_state_dict(pipeline.text_encoder, adapter_name="a"),
        unet_lora_adapter_metadata=_metadata(pipeline.unet),
        text_encoder_lora_adapter_metadata=_metadata(pipeline.text_encoder),
    )
    assert Adapter.load(tmp_path / "theirs").layers == adapter.layers


def _metadata(module):
    config = module.peft_config["a"].to_dict()
    return {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}


@pytest.mark.usefixtures("quiet")
def test_our_peft_folder_loads_on_a_diffusers_unet(tmp_path):
    unet = tiny_unet()
    adapter = unet_adapter(unet)
    with Host(unet).mounted(adapter):
        ours = noise(unet)
    theirs = peft_model(tiny_unet(), adapter.save(tmp_path / "p", dialect="peft"))
    torch.testing.assert_close(noise(theirs.base_model.model), ours, rtol=1e-4, atol=1e-5)
