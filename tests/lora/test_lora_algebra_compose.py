"""compose: identities, what holds of every method of the table, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from algebra_cases import SHAPES, covariances, dense, exact_sum, member, three, truncated
from lora_cases import net, picture

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host, LowRank, compose
from counterpoise.lora.algebra import METHODS
from counterpoise.lora.algebra.members import PROVENANCE
from counterpoise.lora.algebra.merges import SUM


def composed(members, strengths, method, **rest):
    if METHODS[method].takes_covariances:
        rest.setdefault("covariances", covariances(len(members))[0])
    return compose(members, strengths, method=method, **rest)


def assert_same_effect(adapter, members, strengths, *, tolerance):
    for path in SHAPES:
        expected = exact_sum(members, strengths, path)
        assert (dense(adapter, path) - expected).norm() <= tolerance * expected.norm(), path


# -- identities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_member_at_strength_one_is_itself_bit_for_bit(dtype):
    a = member(1, dtype=dtype)
    assert dict(compose([a], [1]).adapter.layers) == dict(a.layers)
    assert dict(compose([a]).adapter.layers) == dict(a.layers)


def test_concat_is_the_exact_sum():
    members, strengths = three()
    made = compose(members, strengths)
    assert_same_effect(made.adapter, members, strengths, tolerance=1e-14)
    assert made.error == made.distance == 0.0
    assert made.adapter.layers["a.fc"].rank == 3 + 2 + 1
    assert made.adapter.layers["b.conv"].down.shape[1:] == (4, 3, 3)


@pytest.mark.parametrize(("dtype", "out"), [(torch.float16, torch.float32), (torch.float32, torch.float32)])
def test_concat_of_narrow_factors_is_stored_in_float32(dtype, out):
    members, strengths = three(dtype)
    made = compose(members, strengths)
    assert made.adapter.layers["a.fc"].up.dtype == out
    assert_same_effect(made.adapter, members, strengths, tolerance=3e-7)


def test_the_widest_members_dtype_is_kept():
    made = compose([member(1, dtype=torch.float16), member(2)], method="svd", rank=2)
    assert made.adapter.layers["a.fc"].down.dtype == torch.float64


def test_concat_acts_on_a_model_as_its_members_do():
    model, x = net(), picture()
    from lora_cases import adapter_for

    a, b = adapter_for(model, 1), adapter_for(model, 2, rank=3)
    host = Host(model)
    host.mount(a, name="a", strength=0.7)
    host.mount(b, name="b", strength=-0.4)
    expected = model(x)
    host.restore()
    with host.mounted(compose([a, b], [0.7, -0.4]).adapter):
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_svd_is_the_eckart_young_optimum(rank):
    members, strengths = three()
    made = compose(members, strengths, method="svd", rank=rank)
    for path, kept in made.layers.items():
        target = exact_sum(members, strengths, path)
        best = truncated(target, rank)[1]
        got = float((dense(made.adapter, path) - target).norm() / target.norm())
        assert got <= best * 1.0001 + 1e-14
        assert kept.error == pytest.approx(got, abs=1e-12)
        assert made.distances[path] == kept.error
        assert kept.norm == pytest.approx(float(target.norm()))
        assert made.adapter.layers[path].rank == kept.rank == min(rank, kept.before)


def test_svd_without_a_rank_loses_nothing_and_drops_what_is_zero():
    a = member(1)
    twice = compose([a, a], [1.0, 0.5], method="svd")
    assert_same_effect(twice.adapter, [a], [1.5], tolerance=1e-13)
    assert {p: u.rank for p, u in twice.adapter.layers.items()} == {p: u.rank for p, u in a.layers.items()}


def test_a_sum_that_cancels_is_one_zero_direction():
    a = member(1)
    made = compose([a, a], [1.0, -1.0], method="svd", rank=3)
    for path, kept in made.layers.items():
        assert dense(made.adapter, path).norm() <= 1e-14 * dense(a, path).norm()
        assert kept.norm <= 1e-14 * dense(a, path).norm()


def test_composing_compositions_is_composing():
    members, strengths = three()
    halves = compose([compose(members[:2], strengths[:2]).adapter, members[2]], [1, strengths[2]])
    assert_same_effect(halves.adapter, members, strengths, tolerance=1e-13)


def test_strength_zero_is_as_if_it_were_not_there():
    members, strengths = three()
    without = compose(members[:2], strengths[:2], method="svd", rank=2).adapter
    silent = compose(members, [*strengths[:2], 0.0], method="svd", rank=2).adapter
    assert dict(silent.layers) == dict(without.layers)


# -- every method -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_contract_of_every_method(method):
    row = METHODS[method]
    assert row.paper.startswith(("https://arxiv.org/abs/", "https://doi.org/"))
    members, strengths = three()
    rank = {"rank": 2} if row.takes_rank else {}
    made = composed(members, strengths, method, seed=7, **rank)
    assert set(made.adapter.layers) == set(SHAPES)
    for path, u in made.adapter.layers.items():
        assert u.weight_shape == SHAPES[path]
        assert u.up.dtype == torch.float64
        assert u.rank == made.layers[path].rank <= (2 if row.takes_rank else 7)
        got = dense(made.adapter, path)
        total = exact_sum(members, strengths, path)
        assert made.distances[path] == pytest.approx(float((got - total).norm() / total.norm()), abs=1e-7)
        assert 0 <= made.layers[path].error <= 1 + 1e-9 or row.takes_covariances
        if row.error_of == SUM:
            assert made.layers[path].error == made.distances[path]
    # the same call gives the same bits, in any order of the members, and says where it came from
    order = [2, 0, 1]
    again = composed(
        [members[i] for i in order],
        [strengths[i] for i in order],
        method,
        seed=7,
        **rank,
        **({"covariances": [covariances(3)[0][i] for i in order]} if row.takes_covariances else {}),
    )
    assert again.adapter == made.adapter
    said = json.loads(made.adapter.metadata[PROVENANCE])
    assert said["method"] == method
    assert {(p["fingerprint"], p["strength"]) for p in said["parents"]} == {
        (m.fingerprint(), s) for m, s in zip(members, strengths, strict=True)
    }
    json.dumps(made.to_dict())


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].takes_rank])
def test_of_one_low_rank_member_every_method_at_its_full_rank_errs_by_nothing(method):
    """The truncation itself costs nothing where the rank allows all of the method's result."""
    made = composed([member(1)], [1.0], method, rank=99, seed=1)
    if METHODS[method].takes_covariances:
        assert made.error < 1e-6
    assert all(kept.error < 1e-6 for kept in made.layers.values())


def test_an_adapter_in_no_grad_inference_mode_or_autocast_is_composed_the_same():
    members, strengths = three(torch.float32)
    expected = compose(members, strengths, method="svd", rank=2).adapter
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made = compose(members, strengths, method="svd", rank=2).adapter
    assert made == expected
    assert not made.layers["a.fc"].up.is_inference()
    grown = Adapter(
        {p: LowRank(u.down.clone().requires_grad_(), u.up, u.alpha) for p, u in members[0].layers.items()}
    )
    assert not compose([grown, members[1]]).adapter.layers["a.fc"].down.requires_grad


def test_members_are_left_as_they_were_and_the_rng_is_not_touched():
    members, strengths = three()
    prints, state = [m.fingerprint() for m in members], torch.get_rng_state()
    for method in METHODS:
        composed(members, strengths, method)
    assert [m.fingerprint() for m in members] == prints
    assert torch.equal(torch.get_rng_state(), state)


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "code", "said"),
    [
        ({"members": []}, "E_EMPTY", "no adapters"),
        ({"members": "one"}, "E_ADAPTER", "list of adapters"),
        ({"members": [3]}, "E_ADAPTER", "member 1"),
        ({"strengths": [1.0]}, "E_STRENGTH", "1 strengths for 3"),
        ({"strengths": [1.0, float("nan"), 1.0]}, "E_STRENGTH", "member 2"),
        ({"strengths": [1.0, True, 1.0]}, "E_STRENGTH", "member 2"),
        ({"strengths": [0, 0, 0]}, "E_STRENGTH", "nothing is left"),
        ({"strengths": [1e60, 1, 1]}, "E_OVERFLOW", "lower the strength"),
        ({"method": "svd", "rank": 0}, "E_RANK", "rank is 0"),
        ({"method": "svd", "rank": 2.5}, "E_RANK", "2.5"),
        ({"rank": 2}, "E_RANK", "use method='svd'"),
        ({"method": "sdv"}, "E_METHOD", "nearest: svd"),
        ({"method": "ties", "densty": 0.3}, "E_OPTION", "nearest: density"),
        ({"method": "ties", "density": 0.0}, "E_OPTION", "density is 0.0"),
        ({"method": "dare", "density": float("nan")}, "E_OPTION", "density is nan"),
        ({"method": "svd", "density": 0.3}, "E_OPTION", "it takes none"),
        ({"seed": 1.5}, "E_SEED", "1.5"),
        ({"method": "data"}, "E_COVARIANCE", "needs covariances"),
        ({"covariances": [{}, {}, {}]}, "E_COVARIANCE", "takes no covariances"),
    ],
)
def test_refusals(kwargs, code, said):
    members, strengths = three()
    asked = {"members": members, "strengths": strengths, **kwargs}
    if asked["members"] == "one":
        asked["members"] = members[0]
    if len(kwargs.get("members", "abc")) < 3 and "strengths" not in kwargs:
        asked["strengths"] = None
    with pytest.raises(UsageError, match=said) as caught:
        compose(**asked)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_another_models_layer_is_refused_by_name_and_both_shapes():
    other = Adapter({"a.fc": LowRank(torch.ones(2, 7), torch.ones(14, 2), 1)}, source="other.safetensors")
    with pytest.raises(UsageError, match=r"a\.fc.*\[14, 18\].*other\.safetensors.*\[14, 7\]") as caught:
        compose([member(1), other])
    assert caught.value.code == "E_SHAPE"


def test_a_layer_under_two_names_is_refused():
    with pytest.raises(UsageError, match=r"prefixed\('unet'\)") as caught:
        compose([member(1).prefixed("unet"), member(2)])
    assert caught.value.code == "E_PREFIX"
