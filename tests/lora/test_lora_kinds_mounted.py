"""Every kind of update in a host: beside is folded, and W0 comes back by bytes."""

from __future__ import annotations

import pytest
import torch
from lora_cases import DTYPES, assert_bits, net, picture, weights
from torch import nn

from counterpoise.errors import CounterpoiseError
from counterpoise.lora import Adapter, Host
from counterpoise.lora.kinds import Biased, DoRA, Full, LoHa, LoKr, LowRank, Tucker


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) / 4


PAIR = LowRank(rand(2, 6, seed=1), rand(5, 2, seed=2), 3.0)
KINDS = {
    "lora": ("fc", PAIR),
    "loha": ("fc", LoHa(rand(5, 2), rand(2, 6), rand(5, 2, seed=3), rand(2, 6, seed=4), alpha=2.0)),
    "lokr": ("block.fc", LoKr(2.0, w1=rand(2, 2), w2=rand(5, 3))),
    "full": ("fc", Full(rand(5, 6))),
    "dora out": ("fc", DoRA(PAIR, rand(5, 1).abs() + 1)),
    "dora in": ("fc", DoRA(PAIR, rand(1, 6).abs() + 1)),
    "tucker": ("conv", Tucker(rand(2, 4, 1, 1), rand(2, 2, 3, 3), rand(8, 2, 1, 1), 2.0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_beside_is_folded_is_dense_and_w0_comes_back(kind, dtype):
    path, update = KINDS[kind]
    model, x = net(dtype), picture(dtype)
    before = weights(model)
    plain = model(x)
    host = Host(model)
    host.mount(Adapter({path: update}), name="a", strength=0.7)
    assert_bits(model, before)
    beside = model(x)
    assert not torch.equal(beside, plain)
    host.fold()
    layer = model.get_submodule(path)
    own = before[f"{path}.weight"]
    expected = own.double() + 0.7 * update.dense(torch.float64, base=own)
    tolerance = torch.finfo(dtype).eps
    torch.testing.assert_close(layer.weight.double(), expected, rtol=tolerance * 2, atol=tolerance)
    torch.testing.assert_close(model(x), beside, rtol=tolerance * 64, atol=tolerance * 8)
    host.set_strengths({"a": -0.3})
    host.restore()
    assert_bits(model, before)


def test_kinds_stack_in_any_order():
    fits = [kind for kind, (path, _) in KINDS.items() if path == "fc"]
    seen = set()
    for order in (fits, fits[::-1]):
        model = net()
        host = Host(model)
        for kind in order:
            host.mount(Adapter({"fc": KINDS[kind][1]}), name=kind.replace(" ", "-"))
        host.fold()
        seen.add(host.fingerprint())
        host.restore()
        assert_bits(model, weights(net()))
    assert len(seen) == 1


BIASED = {
    "scaled": ("fc", Biased(PAIR, rand(5))),
    "beside a pair": ("fc", Biased(PAIR, rand(5), scaled=False)),
    "beside dora": ("fc", Biased(DoRA(PAIR, rand(5, 1).abs() + 1), rand(5))),
    "full": ("conv", Full(rand(8, 4, 3, 3), rand(8))),
    "norm": ("norm", Full(rand(6), rand(6, seed=1))),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", BIASED)
def test_biases_and_norms_are_updated_and_come_back(kind, dtype):
    path, update = BIASED[kind]
    model, x = net(dtype), picture(dtype)
    before, host = weights(model), Host(model)
    host.mount(Adapter({path: update}), name="a", strength=0.7)
    beside = model(x)
    host.fold()
    layer, tolerance = model.get_submodule(path), torch.finfo(dtype).eps
    expected = before[f"{path}.bias"].double() + 0.7 * update.bias_delta
    torch.testing.assert_close(layer.bias.double(), expected, rtol=tolerance * 2, atol=tolerance)
    torch.testing.assert_close(model(x), beside, rtol=tolerance * 64, atol=tolerance * 8)
    host.set_strengths({"a": 0.0})
    assert_bits(model, before)
    host.unmount("a")
    assert host.state == "bare"
    assert_bits(model, before)


def test_a_bias_that_is_not_there_and_a_norm_of_factors_are_refused():
    host, layer = Host(net()), {"block.out": Biased(LowRank(rand(2, 10), rand(6, 2), 2.0), rand(6))}
    with pytest.raises(
        CounterpoiseError, match=r"block\.out has no bias, but its update changes one"
    ) as caught:
        host.mount(Adapter(layer))
    assert caught.value.code == "E_LAYER"
    with pytest.raises(CounterpoiseError, match="which takes a full difference, not a LoRA") as caught:
        host.mount(Adapter({"norm": LowRank(rand(2, 1), rand(6, 2), 2.0)}))
    assert caught.value.code == "E_LAYER"
    assert host.state == "bare"


def test_an_attention_takes_its_packed_bias_once():
    torch.manual_seed(0)
    model, x = nn.MultiheadAttention(8, 2, batch_first=True).eval(), rand(1, 3, 8)
    before, host = weights(model), Host(model)
    host.mount(Adapter({"in_proj": Full(rand(24, 8), rand(24)), "out_proj": Full(rand(8, 8), rand(8))}))
    beside = model(x, x, x)[0]
    host.fold()
    torch.testing.assert_close(model(x, x, x)[0], beside)
    torch.testing.assert_close(model.in_proj_bias, before["in_proj_bias"] + rand(24))
    host.restore()
    assert_bits(model, before)


def test_gates_leave_other_kinds_to_their_mounted_strength():
    model, x = net(), torch.ones(3, 6)
    host = Host(model)
    host.mount(Adapter({"fc": KINDS["full"][1]}), name="full")
    host.mount(Adapter({"fc": PAIR}), name="pair")
    with pytest.raises(CounterpoiseError, match="in place of the weight"), host.per_sample([{"pair": 1.0}]):
        model.fc(x)
