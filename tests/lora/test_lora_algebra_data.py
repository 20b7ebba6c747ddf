"""Data-aware composition and the covariances it needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from algebra_cases import SHAPES, acting, covariances, dense, exact_sum, member, three
from lora_cases import net, picture

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank, compose, input_covariances


def objective(delta, parts, inputs, path):
    """sum_i ||(D - D_i) X_i||^2 over sum_i ||D_i X_i||^2, from the inputs themselves."""
    n = len(parts)
    lost = sum(float(((delta - parts[i]) @ inputs[i][path]).square().sum()) for i in range(n))
    return lost / sum(float((parts[i] @ inputs[i][path]).square().sum()) for i in range(n))


def weighted(members, strengths, path):
    return [w * dense(m, path) for m, w in zip(members, strengths, strict=True)]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_it_beats_svd_on_the_members_outputs(rank):
    members, strengths = three()
    known, inputs = covariances(3)
    ours = compose(members, strengths, method="data", rank=rank, covariances=known)
    svd = compose(members, strengths, method="svd", rank=rank)
    for path in SHAPES:
        parts = weighted(members, strengths, path)
        got = objective(dense(ours.adapter, path), parts, inputs, path)
        assert got <= objective(dense(svd.adapter, path), parts, inputs, path) * 1.001
        assert ours.layers[path].error == pytest.approx(got**0.5, rel=1e-6)
    assert ours.error_of == "the members' outputs on their calibration inputs"


def test_without_truncation_it_is_the_least_squares_solution():
    """Brute force: D = Y X^+ for all inputs and wanted outputs side by side."""
    members, strengths = three()
    known, inputs = covariances(3, samples=90, noise=0.3)
    made = compose(members, strengths, method="data", covariances=known, ridge=1e-12)
    for path in SHAPES:
        parts = weighted(members, strengths, path)
        xs = torch.cat([inputs[i][path] for i in range(3)], 1).numpy()
        ys = torch.cat([parts[i] @ inputs[i][path] for i in range(3)], 1).numpy()
        solved = torch.from_numpy(np.linalg.lstsq(xs.T, ys.T, rcond=None)[0].T)
        torch.testing.assert_close(dense(made.adapter, path), solved, rtol=1e-5, atol=1e-7)


def test_at_a_rank_it_is_the_optimum_that_descent_finds():
    """Brute force at rank 1: alternating least squares from many starts finds nothing better."""
    members, strengths = three()
    known, inputs = covariances(3, samples=90, noise=0.3)
    path = "a.fc"
    parts = weighted(members, strengths, path)
    made = compose(members, strengths, method="data", rank=1, covariances=known, ridge=1e-12)
    got = objective(dense(made.adapter, path), parts, inputs, path)
    xs = torch.cat([inputs[i][path] for i in range(3)], 1)
    ys = torch.cat([parts[i] @ inputs[i][path] for i in range(3)], 1)
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(10):
        up = torch.randn(14, 1, generator=g, dtype=torch.float64)
        for _ in range(300):
            down = torch.linalg.lstsq(xs.T, (torch.linalg.pinv(up) @ ys).T).solution.T
            up = torch.linalg.lstsq((down @ xs).T, ys.T).solution.T
        found.append(objective(up @ down, parts, inputs, path))
    assert got <= min(found) * (1 + 1e-9)
    assert got == pytest.approx(min(found), rel=1e-6)


def test_on_the_same_white_inputs_it_is_the_svd_of_the_mean():
    """With C_i = I the objective is sum ||D - D_i||^2, whose solution is the mean of the members."""
    members = [member(1), member(2), member(3)]
    eye = {p: torch.eye(dense(members[0], p).shape[1]) for p in SHAPES}
    made = compose(members, method="data", covariances=[eye] * 3).adapter
    for path in SHAPES:
        torch.testing.assert_close(
            dense(made, path), exact_sum(members, [1 / 3] * 3, path), rtol=1e-9, atol=1e-11
        )


def test_a_member_without_the_layer_wants_its_inputs_left_alone():
    members, strengths = three()
    known, inputs = covariances(3)
    made = compose(members, strengths, method="data", covariances=known).adapter
    assert len(acting(members, strengths, "b.conv")) == 2  # the third lacks it
    there = dense(made, "b.conv") @ inputs[2]["b.conv"]
    summed = exact_sum(members, strengths, "b.conv") @ inputs[2]["b.conv"]
    assert there.norm() < 0.1 * summed.norm()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c[:2], "2 mappings of covariances for 3"),
        (lambda c: c[0], "one mapping"),
        (lambda c: [c[0], {k: v for k, v in c[1].items() if k != "c.out"}, c[2]], r"member 2, layer c\.out"),
        (lambda c: [{**c[0], "a.fc": torch.eye(3)}, *c[1:]], r"\[3, 3\], expected \[18, 18\]"),
        (lambda c: [{**c[0], "a.fc": torch.eye(18) * float("nan")}, *c[1:]], "not finite"),
        (lambda c: [{**c[0], "a.fc": torch.ones(18, 18).triu()}, *c[1:]], "symmetric"),
        (lambda c: [{**d, "a.fc": torch.eye(18) * -1} for d in c], "not positive definite"),
    ],
)
def test_covariances_that_do_not_serve_are_refused(change, said):
    members, strengths = three()
    with pytest.raises(UsageError, match=said) as caught:
        compose(members, strengths, method="data", covariances=change(covariances(3)[0]))
    assert caught.value.code == "E_COVARIANCE"


# -- gathering ----------------------------------------------------------------------------------------


def test_covariances_are_the_mean_of_x_xt_under_every_kind_of_padding():
    model = net()
    seen = {}
    paths = ["conv", "dilated", "point", "fc", "block.fc"]
    for path in paths:
        model.get_submodule(path).register_forward_pre_hook(
            lambda m, a, path=path: seen.setdefault(path, []).append(a[0])
        )
    batches = [picture(), picture()[:1] * 2]
    found = input_covariances(model, paths, batches)
    for path in paths:
        layer = model.get_submodule(path)
        rows = []
        for x in seen[path]:
            if path in ("fc", "block.fc"):
                rows.append(x.double())
                continue
            # a convolution whose output channels are the unit vectors gives back the patches themselves
            side = layer.weight[0].numel()
            unit = torch.eye(side).reshape(side, *layer.weight.shape[1:])
            rows.append(layer._conv_forward(x, unit, None).double().permute(0, 2, 3, 1).reshape(-1, side))
        x = torch.cat(rows)
        torch.testing.assert_close(found[path], x.T @ x / len(x), rtol=1e-5, atol=1e-6)


def test_gathering_leaves_the_model_alone_and_its_batches_may_be_args_or_keywords():
    layer = torch.nn.Sequential(torch.nn.Linear(6, 5))
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    by = [
        input_covariances(layer, ["0"], [x]),
        input_covariances(layer, ["0"], [(x,)]),
        input_covariances(layer, ["0"], [{"input": x}]),
        input_covariances(layer, ["0"], [x], run=lambda b: F.relu(layer(b))),
        input_covariances(layer, ["0"], [x[:3], x[3:]]),
    ]
    for found in by:
        torch.testing.assert_close(found["0"], x.double().T @ x.double() / 7)
    assert not layer[0]._forward_pre_hooks
    with pytest.raises(RuntimeError):
        input_covariances(layer, ["0"], [torch.ones(2, 3)])
    assert not layer[0]._forward_pre_hooks


@pytest.mark.parametrize(
    ("layers", "code", "said"),
    [
        (["fcc"], "E_NO_MATCH", "nearest: fc"),
        (["grouped"], "E_LAYER", "grouped"),
        (["table"], "E_LAYER", "Embedding"),
    ],
)
def test_layers_that_cannot_be_measured_are_refused(layers, code, said):
    with pytest.raises(UsageError, match=said) as caught:
        input_covariances(net(), layers, [picture()])
    assert caught.value.code == code


def test_a_layer_that_never_ran_or_saw_nan_is_an_error():
    with pytest.raises(UsageError, match="never ran"):
        input_covariances(net(), ["fc"], [])
    with pytest.raises(UsageError, match="NaN"):
        input_covariances(net(), ["conv"], [picture() * float("nan")])


def test_from_model_to_adapter():
    """The whole way on a model: the composed adapter keeps each member's outputs better than the svd does."""
    model = torch.nn.Sequential(torch.nn.Linear(16, 12))
    g = torch.Generator().manual_seed(3)
    members, batches = [], []
    for _ in range(3):
        members.append(
            Adapter({"0": LowRank(torch.randn(4, 16, generator=g), torch.randn(12, 4, generator=g), 4)})
        )
        batches.append(torch.randn(50, 5, generator=g) @ torch.randn(5, 16, generator=g))
    known = [input_covariances(model, ["0"], [b]) for b in batches]

    def apart(adapter):
        delta = adapter.layers["0"].dense()
        own = [m.layers["0"].dense() for m in members]
        return sum(float((b @ (delta - d).T).norm()) for b, d in zip(batches, own, strict=True))

    data = compose(members, method="data", rank=8, covariances=known).adapter
    assert apart(data) < 0.5 * apart(compose(members, method="svd", rank=8).adapter)
