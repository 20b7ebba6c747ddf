"""Any mix of known names and shapes is loaded or refused in one line; what is loaded uses every tensor."""

from __future__ import annotations

import warnings

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lora_cases import save_tensors

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter
from counterpoise.lora.dialects import DIALECTS

STEMS = [
    "fc", "unet.a.to_q", "base_model.model.fc", "lora_unet_x", "lora_unet_conv_in", "lora_te_x", "lycoris_x",
    "lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_final_layer_adaLN_modulation_1", "diffusion_model.x",
    "double_blocks.0.processor.qkv_lora1", "unet.a.processor.to_out_lora", "lora_transformer_x_embedder",
]  # fmt: skip
ENDS = [
    "lora_A.weight", "lora_B.weight", "lora_A", "lora_B.one.weight", "lora_B.bias", "lora_down.weight", "lora_up.weight",
    "lora_mid.weight", "down.weight", "up.weight", "alpha", "scalar", "dora_scale", "lora_magnitude_vector", "diff",
    "diff_b", "w_norm", "lora_embedding_A", "lora_embedding_B", "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b",
    "lokr_w2_a", "lokr_w2_b", "lokr_t2", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
]  # fmt: skip
# Sets that make a kind, so that more than refusals is tried.
SETS = [
    ["lora_A.weight", "lora_B.weight"], ["lora_down.weight", "lora_up.weight"], ["down.weight", "up.weight"],
    ["lora_down.weight", "lora_up.weight", "lora_mid.weight"], ["lora_embedding_A", "lora_embedding_B"], ["diff"],
    ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"], ["lokr_w1", "lokr_w2"], ["lokr_w1", "lokr_w2_a", "lokr_w2_b"],
]  # fmt: skip
SHAPES = [
    (),
    (1,),
    (6,),
    (2, 2),
    (6, 2),
    (2, 6),
    (6, 1),
    (1, 6),
    (6, 6),
    (2, 6, 3, 3),
    (6, 2, 1, 1),
    (2, 6, 1, 1),
    (2, 2, 3, 3),
]
# A shape for each ending that fits the others, drawn more often than any.
FITTING = {"A": (2, 6), "B": (6, 2), "down": (2, 6), "up": (6, 2), "diff": (6, 6), "lora_embedding_A": (2, 6)}
FITTING |= {
    "lora_embedding_B": (6, 2),
    "dora_scale": (6, 1),
    "lora_magnitude_vector": (6,),
    "diff_b": (6,),
    "bias": (6,),
}
FITTING |= {f"hada_w{i}_{s}": (6, 2) if s == "a" else (2, 6) for i in (1, 2) for s in "ab"}
FITTING |= {
    "lokr_w1": (2, 2),
    "lokr_w2": (6, 6),
    "lokr_w2_a": (6, 2),
    "lokr_w2_b": (2, 6),
    "alpha": (),
    "scalar": (),
}
LAYER = st.tuples(st.sampled_from(STEMS), st.sampled_from(SETS), st.lists(st.sampled_from(ENDS), max_size=2))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(LAYER, min_size=1, max_size=2), st.data())
def test_any_mix_of_names_and_shapes(tmp_path_factory, layers, data):
    tensors = {}
    for stem, ends, more in layers:
        for end in (*ends, *more):
            word = next((w for w in (end, *end.removeprefix("lora_").split(".")) if w in FITTING), None)
            fits = word is not None and data.draw(st.integers(0, 9)) > 0
            shape = FITTING[word] if fits else data.draw(st.sampled_from(SHAPES))
            tensors[f"{stem}.{end}"] = torch.full(shape, 1.0)
    folder = tmp_path_factory.mktemp("mix")
    file = save_tensors(folder / "a.safetensors", tensors)
    adapter, refused = attempt(lambda: Adapter.load(file), RefusedInputError)
    if adapter is None:
        assert str(refused).isprintable()
        return
    used = sum(t.numel() for u in adapter.layers.values() for t in u.tensors().values())
    assert used >= sum(t.numel() for key, t in tensors.items() if not key.endswith((".alpha", ".scalar")))
    for dialect in DIALECTS:
        where, refused = attempt(lambda name=dialect: adapter.save(folder / name, dialect=name), UsageError)
        if where is None:
            assert refused.code in {"E_UNSUPPORTED", "E_UNRESOLVED", "E_AMBIGUOUS"}
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            back = Adapter.load(where)
        # Names that only a model explains stay flattened in kohya's form.
        assert len(back.layers) == len(adapter.layers) or dialect == "kohya"
        if set(back.layers) == set(adapter.layers):
            assert back == adapter


def attempt(call, refusal):
    """(result, None) or (None, the refusal); anything else that is raised fails the test."""
    try:
        return call(), None
    except refusal as error:
        return None, error
