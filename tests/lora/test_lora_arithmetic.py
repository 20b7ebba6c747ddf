"""The update itself against a float64 oracle: dense, beside the weights, folded into them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lora_cases import DTYPES, adapter_for, linear_adapter, net, picture, update, weights
from torch import nn

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host, LowRank, match_layers


def oracle_weight(model, adapters):
    """W0 + sum of strength * alpha / rank * up @ down in float64, by einsum over every index."""
    found = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for adapter, strength in adapters:
        for path, u in adapter.layers.items():
            up = u.up.double().flatten(1)
            delta = torch.einsum("or,r...->o...", up, u.down.double())
            found[f"{path}.weight"] = found[f"{path}.weight"] + strength * u.alpha / u.rank * delta
    return found


def oracle_output(model, adapters, x):
    reference = net(torch.float64)
    reference.load_state_dict({k: v.double() for k, v in oracle_weight(model, adapters).items()})
    return reference(x.double())


def test_dense_is_the_definition():
    g = torch.Generator().manual_seed(0)
    for shape in [(5, 6), (8, 4, 3, 3), (6, 12, 1, 1)]:
        u = update(shape, 3, alpha=7.0, generator=g)
        expected = torch.einsum("or,r...->o...", u.up.double().flatten(1), u.down.double()) * 7 / 3
        assert u.dense(torch.float64).shape == shape == u.weight_shape
        torch.testing.assert_close(u.dense(torch.float64), expected, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(u.dense(), expected.float())
        assert (u.rank, u.scale) == (3, 7 / 3)
        with torch.autocast("cpu", torch.bfloat16):
            assert u.dense().dtype == torch.float32
            torch.testing.assert_close(u.dense(), expected.float())
    with pytest.raises(UsageError, match="float32 or float64"):
        u.dense(torch.float16)


@pytest.mark.parametrize("accumulate", [torch.float32, torch.float64])
def test_mounted_and_folded_agree_with_float64(accumulate):
    model, x = net(), picture()
    a, b = adapter_for(model, 1), adapter_for(model, 2, rank=4, paths=["fc", "grouped", "conv"])
    expected = oracle_output(model, [(a, 0.7), (b, -1.5)], x)
    oracle = oracle_weight(model, [(a, 0.7), (b, -1.5)])
    host = Host(model)
    host.mount(a, name="a", strength=0.7)
    host.mount(b, name="b", strength=-1.5)
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-5)
    host.fold(dtype=accumulate)
    torch.testing.assert_close(model(x).double(), expected, rtol=1e-4, atol=1e-5)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight.double(), oracle[name].double(), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    """The folded weight is the nearest half-precision number to the float64 sum (ties aside)."""
    model = net(dtype)
    a = adapter_for(model, 1)
    oracle = oracle_weight(model, [(a, 0.3)])
    host = Host(model)
    host.mount(a, strength=0.3)
    host.fold(dtype=torch.float64)
    for path in a.layers:
        assert torch.equal(model.get_submodule(path).weight, oracle[f"{path}.weight"].to(dtype)), path


@pytest.mark.parametrize("dtype", DTYPES)
def test_mounted_beside_in_every_dtype(dtype):
    model, x = net(dtype), picture(dtype)
    a = adapter_for(model, 1)
    expected = oracle_output(model, [(a, 0.5)], x)
    host = Host(model)
    host.mount(a, strength=0.5)
    assert model(x).dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}[dtype]
    torch.testing.assert_close(model(x).double(), expected, rtol=tolerance, atol=tolerance)


def test_under_autocast_the_layers_own_dtype_comes_out():
    model, x = net(), picture()
    a = adapter_for(model, 1)
    host = Host(model)
    host.mount(a)
    full = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.fc(torch.ones(2, 6)).dtype == torch.bfloat16
        torch.testing.assert_close(model(x).float(), full, rtol=0.1, atol=0.1)


def test_grouped_convolution_beside_equals_the_dense_update():
    model = net(torch.float64)
    a = adapter_for(model, 4, paths=["grouped"])
    u = a.layers["grouped"]
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = model.grouped.weight + u.dense(torch.float64)
    expected = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, groups=4)
    with Host(model).mounted(a):
        torch.testing.assert_close(model.grouped(x), expected)


def test_many_adapters_are_two_products_not_a_loop(monkeypatch):
    model, x = nn.ModuleDict({"fc": nn.Linear(80, 60)}), torch.ones(3, 80)
    host = Host(model)
    for i in range(7):
        host.mount(linear_adapter(rank=i + 1, width=80, out=60), name=f"a{i}", strength=0.1 * i)
    calls = []
    real = F.linear
    monkeypatch.setattr(F, "linear", lambda *args: calls.append(args[1].shape) or real(*args))
    model.fc(x)
    # One for the layer itself, one down, one up; the adapter of strength 0 is not in the stack.
    assert calls == [(60, 80), (27, 80), (60, 27)]
    calls.clear()
    host.mount(linear_adapter(rank=8, width=80, out=60), name="past")  # 36 of 34.3: factors would cost more
    model.fc(x)
    assert calls == [(60, 80)]


def test_strength_zero_is_bit_for_bit_absent():
    model, x = net(), picture()
    plain = model(x)
    host = Host(model)
    host.mount(adapter_for(model), strength=0.0)
    assert torch.equal(model(x), plain)
    before = weights(model)
    host.fold()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in before.items())


def test_order_and_history_leave_no_trace_in_the_folded_bits():
    adapters = {f"a{i}": adapter_for(net(), i) for i in range(4)}
    prints = set()
    for order in (["a0", "a1", "a2", "a3"], ["a3", "a1", "a0", "a2"]):
        host = Host(net())
        for name in order:
            host.mount(adapters[name], name=name, strength=0.25)
        host.fold()
        prints.add(host.fingerprint())
    host = Host(net())
    host.mount(adapters["a2"], name="a2", strength=9.0)
    host.fold()
    for name in ["a1", "a3", "a0"]:
        host.mount(adapters[name], name=name, strength=0.25)
    host.set_strengths({"a2": 0.25})
    prints.add(host.fingerprint())
    assert len(prints) == 1


def test_global_matmul_precision_does_not_reach_the_fold():
    prints = []
    for precision in ("highest", "medium"):
        host = Host(net(torch.float64))
        host.mount(adapter_for(net(), 1))
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            host.fold()
            prints.append(host.fingerprint())
        finally:
            torch.set_float32_matmul_precision(before)
    assert prints[0] == prints[1]


def test_a_layer_called_with_a_keyword():
    model, x = net(), torch.ones(2, 6)
    with Host(model).mounted(linear_adapter()):
        assert torch.equal(model.fc(input=x), model.fc(x))


def test_gradients_flow_through_a_mounted_adapter():
    model, x = net(), picture().requires_grad_()
    with Host(model).mounted(adapter_for(model)):
        model(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.abs().sum() > 0)


def test_mounting_in_inference_mode_can_be_trained_through_later():
    model, x = net(), picture()
    host = Host(model)
    with torch.inference_mode():
        host.mount(adapter_for(model))
        model(x)
        host.fold()
        host.unfold()
        model(x)
    x.requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize(
    ("down", "up", "alpha", "code"),
    [
        (torch.ones(2, 3), torch.ones(4, 3), 1.0, "E_RANK"),
        (torch.ones(0, 3), torch.ones(4, 0), 1.0, "E_RANK"),
        (torch.ones(2, 0), torch.ones(4, 2), 1.0, "E_SHAPE"),
        (torch.ones(2, 3), torch.ones(4, 2, 1, 1), 1.0, "E_SHAPE"),
        (torch.ones(2, 3, 3, 3), torch.ones(4, 2, 3, 3), 1.0, "E_SHAPE"),
        (torch.ones(2), torch.ones(2), 1.0, "E_SHAPE"),
        (torch.ones(2, 3), torch.full((4, 2), math.nan), 1.0, "E_NONFINITE"),
        (torch.ones(2, 3), torch.full((4, 2), -math.inf), 1.0, "E_NONFINITE"),
        (torch.ones(2, 3), torch.ones(4, 2), math.nan, "E_NONFINITE"),
        (torch.ones(2, 3), torch.ones(4, 2), True, "E_ALPHA"),
        (torch.ones(2, 3), torch.ones(4, 2), "8", "E_ALPHA"),
        (torch.ones(2, 3, dtype=torch.int32), torch.ones(4, 2), 1.0, "E_DTYPE"),
        ([[1.0]], torch.ones(4, 2), 1.0, "E_DTYPE"),
    ],
)
def test_unsound_factors_are_refused(down, up, alpha, code):
    with pytest.raises(UsageError) as caught:
        LowRank(down, up, alpha)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_equality_is_bit_for_bit():
    a = linear_adapter()
    u = a.layers["fc"]
    assert a == linear_adapter()
    assert a != Adapter({"fc": LowRank(u.down, u.up, 5.0)})
    assert a != Adapter({"fc": LowRank(u.down.double(), u.up, 4.0)})
    assert a != Adapter({"fc": LowRank(u.down, u.up + 1, 4.0)})
    assert a != Adapter(a.layers, {"title": "x"})
    assert a.fingerprint() == Adapter(a.layers, {"title": "x"}).fingerprint()
    assert a.fingerprint() != Adapter({"fc": LowRank(u.down, u.up, 5.0)}).fingerprint()
    assert a.fingerprint() != a.prefixed("unet").fingerprint()
    assert a.prefixed("unet").component("unet") == a


def test_match_layers_lists_by_pattern_and_names_the_nearest():
    model = net()
    assert match_layers(model, ["*"]) == [
        "block.fc", "block.out", "conv", "dilated", "fc", "grouped", "point",
    ]  # fmt: skip
    assert match_layers(model, ["*fc", "conv", "fc"]) == ["block.fc", "conv", "fc"]
    with pytest.raises(UsageError, match=r"'blok\.fc' matches none of 7 .* nearest: block\.fc"):
        match_layers(model, ["conv", "blok.fc"])
    with pytest.raises(UsageError, match="expected a list"):
        match_layers(model, "conv")
