"""Every kind of update in a host: beside is folded, and W0 comes back by bytes."""

from __future__ import annotations

import pytest
import torch
from lora_cases import DTYPES, assert_bits, net, picture, weights

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


def test_an_update_of_the_bias_is_refused_by_name():
    with pytest.raises(CounterpoiseError, match="changes the bias") as caught:
        Host(net()).mount(Adapter({"fc": Biased(PAIR, rand(5))}))
    assert caught.value.code == "E_LAYER"


def test_gates_leave_other_kinds_to_their_mounted_strength():
    model, x = net(), torch.ones(3, 6)
    host = Host(model)
    host.mount(Adapter({"fc": KINDS["full"][1]}), name="full")
    host.mount(Adapter({"fc": PAIR}), name="pair")
    with pytest.raises(CounterpoiseError, match="in place of the weight"), host.per_sample([{"pair": 1.0}]):
        model.fc(x)
