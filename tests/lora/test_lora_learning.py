"""What factors do and learn beside a layer, against the same written out densely in float64."""

from __future__ import annotations

import math

import pytest
import torch
from lora_cases import Net, adapter_for, net, picture
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host, LowRank, Schedule, Trainable, train, trainable
from counterpoise.lora.kinds import DoRA

CONVOLUTIONAL = ["conv", "dilated", "grouped", "point", "block.fc", "block.out", "fc"]


class Tokens(nn.Module):
    """What Net lacks: three dimensions before a linear layer, an embedding, attention, Conv1d."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc, self.bare = nn.Linear(8, 6), nn.Linear(6, 5, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.conv(self.table(ids).transpose(1, 2)).transpose(1, 2)
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return self.bare(torch.relu_(self.fc(x)))


TOKEN_LAYERS = ["table", "conv", "attn.in_proj", "attn.out_proj", "fc", "bare"]
NAMES = {"attn.in_proj": "attn.in_proj_weight"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tokens() -> Tokens:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Tokens().double().eval()


CASES = {
    "net": (lambda: net(torch.float64), lambda: picture(torch.float64), CONVOLUTIONAL),
    "tokens": (tokens, lambda: torch.randint(9, (2, 5), generator=generator(8)), TOKEN_LAYERS),
}


def weight_of(model: nn.Module, path: str) -> nn.Parameter:
    return model.get_parameter(NAMES.get(path, f"{path}.weight"))


def with_magnitudes(model: nn.Module, adapter: Adapter) -> Adapter:
    def dora(path: str, update: LowRank) -> DoRA:
        shape = (update.weight_shape[0], *(1 for _ in update.weight_shape[1:]))
        return DoRA(update, 0.5 + torch.rand(shape, generator=generator(len(path)), dtype=torch.float64))

    return Adapter({path: dora(path, update) for path, update in adapter.layers.items()})


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["lora", "dora", "pissa"])
def test_outputs_and_gradients_are_the_dense_ones(case: str, kind: str) -> None:
    make, example, paths = CASES[case]
    model, x = make(), example()
    adapter = adapter_for(model, paths=paths)
    adapter = Adapter(
        {path: LowRank(u.down.double(), u.up.double(), u.alpha) for path, u in adapter.layers.items()}
    )
    other = adapter_for(model, seed=7, paths=paths).layers
    minus = {path: LowRank(u.down.double(), u.up.double(), u.alpha) for path, u in other.items()}
    if kind == "dora":
        adapter = with_magnitudes(model, adapter)
    factors = Trainable(model, adapter, minus=minus if kind == "pissa" else None)
    wanted_weights, leaves = {}, []
    for path, update in adapter.layers.items():
        inner = update.inner if isinstance(update, DoRA) else update
        down, up = (t.clone().requires_grad_() for t in (inner.down, inner.up))
        delta = inner.scale * (up.flatten(1) @ down.flatten(1)).reshape(inner.weight_shape)
        if kind == "pissa":
            delta = delta - minus[path].dense(torch.float64)
        whole = weight_of(model, path).detach() + delta
        leaves += [down, up]
        if isinstance(update, DoRA):
            magnitude = update.magnitude.clone().requires_grad_()
            lengths = torch.linalg.vector_norm(whole.detach().flatten(1), dim=1).reshape(magnitude.shape)
            whole = magnitude * whole / lengths  # the lengths are constants: section 4.3, arXiv:2402.09353
            leaves.append(magnitude)
        wanted_weights[NAMES.get(path, f"{path}.weight")] = whole
    wanted = functional_call(model, wanted_weights, (x,))
    slope = torch.randn(wanted.shape, generator=generator(1), dtype=torch.float64)
    wanted_gradients = torch.autograd.grad((wanted * slope).sum(), leaves)
    with factors:
        found = model(x)
        gradients = torch.autograd.grad((found * slope).sum(), factors.parameters())
        snapshot = factors.adapter()
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    for mine, theirs in zip(gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-9)
    host = Host(model)
    with host.mounted(snapshot):
        torch.testing.assert_close(model(x), wanted.detach(), rtol=1e-9, atol=1e-9)


def test_beside_a_half_layer_nothing_is_kept_wider_than_it_is() -> None:
    layer = nn.Linear(32, 48, bias=False, dtype=torch.bfloat16)
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    x = torch.randn(4, 7, 32, dtype=torch.bfloat16, requires_grad=True)
    factors = trainable(nn.Sequential(layer), ["0"], rank=2, generator=generator())
    with factors, saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    per_token = [t for t in kept.values() if t.numel() >= 28 * 2]
    assert {t.dtype for t in kept.values()} == {torch.bfloat16}
    assert sorted(t.numel() for t in per_token if t.shape[0] in (4, 28)) == [28 * 2, 28 * 32]


@pytest.mark.parametrize("path", ["fc", "conv", "grouped"])
def test_pissa_starts_at_the_largest_directions_and_changes_nothing(path: str) -> None:
    model, x = net(), picture()
    before, weight = model(x).detach(), weight_of(net(), path).detach()
    factors = trainable(model, [path], rank=3, alpha=6.0, generator=generator(), init="pissa")
    down, up = (p.detach().double().flatten(1) for p in factors.parameters())
    u, s, vh = torch.linalg.svd(weight.double().flatten(1), full_matrices=False)
    best = (u[:, :3] * s[:3]) @ vh[:3]
    torch.testing.assert_close(2.0 * up @ down, best, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1), rtol=1e-4, atol=1e-5)
    with factors:
        torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)
    update = factors.adapter().layers[path]
    assert (update.rank, update.scale) == (6, 2.0)
    assert float(update.dense().abs().max()) < 1e-6
    assert torch.equal(weight_of(model, path), weight)


def test_a_trained_pissa_file_is_valid_on_the_plain_base(tmp_path) -> None:
    model, x = net(), picture()
    factors = trainable(model, ["block.*", "fc"], rank=2, generator=generator(), init="pissa")
    adapter, _ = train(factors, lambda g: (model(x) - 1).square().mean(), Schedule(5, 2, 1e-2, warmup=0))
    with factors:
        trained = model(x).detach()
    with Host(model).mounted(Adapter.load(adapter.save(tmp_path / "a"))):
        torch.testing.assert_close(model(x), trained, rtol=1e-5, atol=1e-5)
    again = trainable(model, ["block.*", "fc"], rank=2, generator=generator(), init="pissa")
    again.load(Adapter.load(adapter.save(tmp_path / "b")))
    assert again.adapter() == adapter
    plain = trainable(model, ["block.*", "fc"], rank=4, generator=generator())
    with pytest.raises(UsageError, match="other layers, ranks or alphas"):
        again.load(plain.adapter())


def test_dora_starts_as_nothing_with_the_rows_own_lengths() -> None:
    model, x = net(), picture()
    with torch.no_grad():
        model.fc.weight[1] = 0.0  # a row without a direction
    factors = trainable(model, CONVOLUTIONAL, rank=2, generator=generator(), dora=True)
    before = model(x).detach()
    with factors:
        assert torch.equal(model(x), before)
        model(x).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in factors.parameters())
    update = factors.adapter().layers["conv"]
    assert isinstance(update, DoRA)
    assert tuple(update.magnitude.shape) == (8, 1, 1, 1)
    lengths = torch.linalg.vector_norm(model.conv.weight.detach(), dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(update.magnitude, lengths)


def test_lengths_of_columns_are_refused() -> None:
    update = adapter_for(net(), paths=["fc"]).layers["fc"]
    by_column = Adapter({"fc": DoRA(update, torch.ones(1, 6))})
    with pytest.raises(UsageError, match="cannot be trained"):
        Trainable(net(), by_column)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_rank_stabilised_scale(rank: int) -> None:
    factors = trainable(net(), ["fc"], rank=rank, alpha=3.0, generator=generator(), rank_stabilised=True)
    update = factors.adapter().layers["fc"]
    assert update.scale == pytest.approx(3.0 / math.sqrt(rank), rel=1e-12)
    assert update.alpha == pytest.approx(3.0 * math.sqrt(rank), rel=1e-12)


def test_up_learns_at_its_own_rate() -> None:
    model, x = net(torch.float64), picture(torch.float64)
    start = adapter_for(model, paths=["fc", "block.fc"])
    factors = Trainable(model, start)
    plan = Schedule(steps=4, batch=1, lr=1e-3, warmup=0, cooldown=4, up_rate=16.0, weight_decay=0.0)

    def loss_of(_: torch.Generator) -> Tensor:
        return model(x).square().mean()

    adapter, _ = train(factors, loss_of, plan)
    peer = Trainable(model, start)
    values = peer.parameters()
    optimiser = torch.optim.AdamW(
        [{"params": values[0::2], "lr": 1e-3}, {"params": values[1::2], "lr": 16e-3}],
        betas=(0.9, 0.99),
        weight_decay=0.0,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    with peer:
        for step in range(4):
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * plan.rate(step)
            optimiser.zero_grad()
            loss_of(generator()).backward()
            nn.utils.clip_grad_norm_(values, 1.0)
            optimiser.step()
    for path, update in peer.adapter().layers.items():
        for role, wanted in update.tensors().items():
            torch.testing.assert_close(adapter.layers[path].tensors()[role], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"init": "pisa"}, "nearest: pissa"),
        ({"init": "pissa", "rank": 6}, "more than 5"),
        ({"init": "pissa", "alpha": 0.0}, "above 0"),
        ({"alpha": float("inf")}, "finite"),
    ],
)
def test_starts_that_cannot_be(arguments: dict, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        trainable(Net(), ["fc"], **{"rank": 2, "generator": generator(), **arguments})
