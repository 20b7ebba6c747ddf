"""Other strengths for each sample, token and step, and every kind of layer."""

from __future__ import annotations

import pytest
import torch
from lora_cases import adapter_for, assert_bits, net, weights
from torch import Tensor, nn

from counterpoise.errors import CounterpoiseError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.lora.layers import Layout


class Wide(nn.Module):
    """Layers wide enough to take factors beside them: tokens, a picture, a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 40)
        self.fc = nn.Linear(40, 36)
        self.line = nn.Conv1d(36, 32, 3, padding=1)
        self.space = nn.Conv3d(1, 30, 3, padding=1)
        self.grouped = nn.Conv2d(32, 48, 3, padding=1, groups=2)
        self.out = nn.Linear(48, 40)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.fc(self.table(ids)).tanh()  # [b, 16, 36]
        x = self.line(x.transpose(1, 2))  # [b, 32, 16]
        x = x + self.space(x[:, None, :, :, None]).mean((1, 4)).tanh()
        x = self.grouped(x.unflatten(2, (4, 4)))
        return self.out(x.flatten(2).transpose(1, 2))


LAYERS = ["table", "fc", "line", "space", "grouped", "out"]


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Wide().double().eval()


@pytest.fixture
def ids():
    return torch.randint(50, (4, 16), generator=torch.Generator().manual_seed(3))


def adapters(model):
    return {name: adapter_for(model, i, rank=i + 1, paths=LAYERS) for i, name in enumerate("abc")}


def with_strengths(model, ids, strengths):
    host = Host(model)
    for name, adapter in adapters(model).items():
        host.mount(adapter, name=name, strength=strengths.get(name, 0.0))
    out = model(ids)
    host.restore()
    return out


@pytest.mark.parametrize("path", LAYERS)
def test_beside_is_folded_for_every_kind_of_layer(model, ids, path):
    before = weights(model)
    host = Host(model)
    plain = model(ids)
    host.mount(adapter_for(model, 1, paths=[path]))
    beside = model(ids)
    assert not torch.allclose(beside, plain)
    host.fold()
    torch.testing.assert_close(model(ids), beside)
    host.restore()
    assert_bits(model, before)


def test_every_sample_as_if_it_were_alone(model, ids):
    rows = [{"a": 1.0}, {}, {"b": -0.5, "c": 2.0}, {"a": 0.3, "b": 0.3, "c": 0.3}]
    expected = torch.cat([with_strengths(model, ids[i : i + 1], row) for i, row in enumerate(rows)])
    host = Host(model)
    for name, adapter in adapters(model).items():
        host.mount(adapter, name=name, strength=0.7)
    outside = model(ids)
    with host.per_sample(rows):
        torch.testing.assert_close(model(ids), expected)
        torch.testing.assert_close(model(torch.cat([ids, ids])), torch.cat([expected, expected]))
        with pytest.raises(CounterpoiseError, match="strengths for 4 samples, but a layer sees a batch of 3"):
            model(ids[:3])
    assert torch.equal(model(ids), outside)


def test_a_schedule_goes_by_step(model, ids):
    host = Host(model)
    for name, adapter in adapters(model).items():
        host.mount(adapter, name=name, strength=0.7)
    with host.schedule({"a": [1.0, 0.0], "b": [0.5]}) as clock:
        first = {"a": 1.0, "b": 0.5, "c": 0.7}
        torch.testing.assert_close(model(ids), with_strengths_of(model, ids, first))
        assert clock.callback(None, 0, None, {"kept": 1}) == {"kept": 1}
        torch.testing.assert_close(model(ids), with_strengths_of(model, ids, first | {"a": 0.0}))
        clock.at(99)
        torch.testing.assert_close(model(ids), with_strengths_of(model, ids, first | {"a": 0.0}))


def with_strengths_of(model, ids, strengths):
    import copy

    twin = copy.deepcopy(model)
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return with_strengths(twin, ids, strengths)


def test_a_mask_is_where_an_adapter_acts(model, ids):
    adapter = adapter_for(model, 1, paths=["out"])
    host = Host(model)
    plain = model(ids)
    host.mount(adapter, name="a")
    full = model(ids)
    left = torch.zeros(64, 64)
    left[:, :32] = 1
    with host.masked({"a": left}):
        seen = model(ids).unflatten(1, (4, 4))
    torch.testing.assert_close(seen[:, :, :2], full.unflatten(1, (4, 4))[:, :, :2])
    torch.testing.assert_close(seen[:, :, 2:], plain.unflatten(1, (4, 4))[:, :, 2:])
    third = torch.zeros(16)
    third[2] = 0.5
    with host.masked({"a": third}):
        seen = model(ids)
    torch.testing.assert_close(seen[:, 2], (plain[:, 2] + full[:, 2]) / 2)
    torch.testing.assert_close(seen[:, 3:], plain[:, 3:])


def test_a_mask_of_other_tokens_leaves_the_update_whole(model, ids):
    host = Host(model)
    host.mount(adapter_for(model, 1, paths=["out"]), name="a")
    full = model(ids)
    with host.masked({"a": torch.zeros(77)}):
        torch.testing.assert_close(model(ids), full)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda h: h.per_sample([{"nobody": 1.0}]), "E_NAME"),
        (lambda h: h.per_sample([]), "E_BATCH"),
        (lambda h: h.per_sample([{"a": float("nan")}]), "E_STRENGTH"),
        (lambda h: h.masked({"a": torch.ones(1, 2, 3)}), "E_MASK"),
        (lambda h: h.masked({"a": torch.full((4,), float("inf"))}), "E_MASK"),
        (lambda h: h.schedule({"a": []}), "E_STRENGTH"),
        (lambda h: (h.fold(), h.per_sample([{"a": 1.0}]))[1], "E_STATE"),
    ],
)
def test_refused_gates(model, ids, call, code):
    host = Host(model)
    host.mount(adapter_for(model, 1, paths=LAYERS), name="a")
    with pytest.raises(CounterpoiseError) as caught, call(host):
        pass
    assert caught.value.code == code


class Attention(nn.Module):
    def __init__(self, width=None) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(12, 3, batch_first=True, kdim=width, vdim=width)
        self.experts = nn.ParameterList([nn.Parameter(torch.randn(12, 12))])
        self.scale = nn.Parameter(torch.randn(12, 12))

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x, x, x)[0] @ self.scale


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("path", ["attn.in_proj", "attn.out_proj", "scale"])
def test_a_parameter_takes_its_update_once_and_in_place(path, train):
    """PEFT adds the delta of out_proj twice."""
    torch.manual_seed(0)
    model = Attention().double().train(train)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    adapter = adapter_for(model, 1, paths=[path])
    before = weights(model)
    host = Host(model)
    host.mount(adapter)
    base = host.fingerprint()
    beside = model(x)
    assert host.fingerprint() == base
    assert isinstance(Layout.of(model).sites[path].weight, nn.Parameter)
    host.fold()
    folded = model(x)
    torch.testing.assert_close(beside, folded)
    host.restore()
    assert_bits(model, before)
    site = Layout.of(model).sites[path]
    with torch.no_grad():
        site.weight.add_(adapter.layers[path].dense(torch.float64))
    torch.testing.assert_close(model(x), folded)


def test_a_forward_that_raises_leaves_the_parameter_in_its_place():
    model = Attention()
    own = model.attn.in_proj_weight
    with Host(model).mounted(adapter_for(model, 1, paths=["attn.in_proj"])):
        with pytest.raises((AssertionError, RuntimeError)):
            model(torch.randn(2, 5, 7))
        assert model.attn.in_proj_weight is own


def test_a_parameter_can_be_trained_in_place():
    from counterpoise.lora import trainable

    torch.manual_seed(0)
    model, x = Attention(), torch.randn(2, 5, 12)
    with trainable(model, ["attn.in_proj", "scale"], rank=2, generator=torch.Generator()) as factors:
        model(x).square().mean().backward()
        grads = [p.grad for p in factors.parameters()]
        assert all(grad is not None for grad in grads)
        assert any(float(grad.abs().max()) > 0 for grad in grads)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_an_unequal_batch_of_one_row_is_all_samples(model, ids):
    host = Host(model)
    host.mount(adapter_for(model, 1, paths=LAYERS), name="a")
    with host.per_sample([{"a": 0.5}]):
        half = model(ids)
    host.set_strengths({"a": 0.5})
    torch.testing.assert_close(half, model(ids))


def test_an_embedding_with_max_norm_is_refused():
    model = nn.ModuleDict({"table": nn.Embedding(5, 4, max_norm=1.0)})
    adapter = Adapter({"table": LowRank(torch.ones(1, 4), torch.ones(5, 1), 1)})
    with pytest.raises(CounterpoiseError, match="max_norm"):
        Host(model).mount(adapter)


def test_the_net_of_the_other_tests_has_sites_for_all_its_layers():
    assert set(Layout.of(net()).sites) >= {"conv", "grouped", "block.fc", "table"}
