"""Factors that are trained beside a frozen model."""

from __future__ import annotations

import pytest
import torch
from lora_cases import adapter_for, net, picture, picture_of

from counterpoise.errors import CounterpoiseError, StateError, UsageError
from counterpoise.lora import Adapter, Host, trainable


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_starts_as_nothing_and_learns(tmp_path):
    model, x = net(), picture()
    before, plain = picture_of(model), model(x).detach()
    target = plain + 1
    with trainable(model, ["*"], rank=2, generator=generator()) as factors:
        assert torch.equal(model(x), plain)
        assert not any(p.requires_grad for p in model.parameters())
        optimiser = torch.optim.Adam(factors.parameters(), lr=0.05)
        losses = []
        for _ in range(30):
            loss = (model(x) - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0] / 4
        trained = model(x).detach()
        adapter = factors.adapter({"title": "t"})
    assert picture_of(model) == before
    assert all(p.grad is None for p in model.parameters())
    with Host(model).mounted(Adapter.load(adapter.save(tmp_path / "a"))):
        torch.testing.assert_close(model(x), trained, rtol=1e-5, atol=1e-5)
    assert dict(adapter.metadata) == {"title": "t"}


def test_the_start_depends_on_the_generator_alone():
    torch.manual_seed(1)
    first = trainable(net(), ["fc", "conv"], rank=3, generator=generator(4)).adapter()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = trainable(Host(net(seed=9)), ["conv", "fc"], rank=3, generator=generator(4)).adapter()
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first != trainable(net(), ["fc", "conv"], rank=3, generator=generator(5)).adapter()
    bound = 1 / (4 * 9) ** 0.5
    down = first.layers["conv"].down
    assert float(down.abs().max()) <= bound
    assert float(down.std()) == pytest.approx(bound / 3**0.5, rel=0.2)
    assert bool((first.layers["conv"].up == 0).all())
    assert first.layers["fc"].scale == 1.0


def test_a_snapshot_is_apart_and_loads_back_in_place():
    model = net()
    with trainable(model, ["fc"], rank=2, alpha=6, generator=generator()) as factors:
        parameters = factors.parameters()
        start = factors.adapter()
        with torch.no_grad():
            for p in parameters:
                p.add_(1)
        assert factors.adapter() != start
        factors.load(start)
        assert factors.adapter() == start
        assert all(a is b for a, b in zip(parameters, factors.parameters(), strict=True))
        assert [tuple(p.shape) for p in parameters] == [(2, 6), (5, 2)]
        for wrong in (adapter_for(model, paths=["fc"], rank=3), adapter_for(model, paths=["conv"])):
            with pytest.raises(UsageError, match="other layers, ranks or alphas"):
                factors.load(wrong)
        assert factors.adapter() == start


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_factors_stay_float32_beside_half_weights(dtype):
    model = net(dtype)
    with trainable(model, ["fc"], rank=2, generator=generator()) as factors:
        out = model.fc(torch.ones(3, 6, dtype=dtype))
        assert out.dtype == dtype
        out.float().sum().backward()
        assert all(p.dtype == torch.float32 and p.grad is not None for p in factors.parameters())


def test_autocast_and_mixed_flags():
    model = net()
    model.conv.weight.requires_grad_(False)
    before = picture_of(model)
    with trainable(model, ["fc"], rank=2, generator=generator()) as factors:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(picture()).float().sum()
        loss.backward()
        assert factors.parameters()[1].grad is not None
    assert picture_of(model) == before


def test_an_exception_inside_leaves_the_model_as_it_was():
    model = net()
    before = picture_of(model)
    factors = trainable(model, ["*"], rank=2, generator=generator())
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), factors:
            raise error
        assert picture_of(model) == before
    with factors, pytest.raises(StateError, match="already mounted"):
        factors.__enter__()
    assert picture_of(model) == before


def test_beside_a_mounted_adapter():
    model, x = net(), picture()
    host = Host(model)
    host.mount(adapter_for(model))
    mounted = model(x)
    with trainable(host, ["fc"], rank=2, generator=generator()) as factors:
        assert torch.equal(model(x), mounted)
        with torch.no_grad():
            factors.parameters()[1].fill_(1)
        assert not torch.equal(model(x), mounted)
    assert torch.equal(model(x), mounted)


@pytest.mark.parametrize(
    "call",
    [
        lambda m: trainable(m, ["fc"], rank=0, generator=generator()),
        lambda m: trainable(m, ["fc"], rank=True, generator=generator()),
        lambda m: trainable(m, ["fc"], rank=2, alpha=float("nan"), generator=generator()),
        lambda m: trainable(m, ["nothing"], rank=2, generator=generator()),
        lambda m: trainable(m, [], rank=2, generator=generator()),
        lambda m: trainable(m, ["norm"], rank=2, generator=generator()),
    ],
)
def test_refused_starts(call):
    model = net()
    before = picture_of(model)
    with pytest.raises(CounterpoiseError):
        call(model)
    assert picture_of(model) == before
