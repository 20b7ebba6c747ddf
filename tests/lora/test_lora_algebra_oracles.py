"""The merge methods against dense ones written here from their papers, and against peft where it is right."""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from algebra_cases import SHAPES, acting, dense, exact_sum, member, three, truncated
from peft.utils.merge_utils import ties as peft_ties

from counterpoise.lora import Adapter, compose
from counterpoise.lora.algebra.core import generator_for
from counterpoise.lora.algebra.merges import METHODS

FULL = 99  # more than any rank: nothing is truncated


# -- dense numpy, entry by entry ----------------------------------------------------------------------


def ties_oracle(members, density):
    members = [np.asarray(m, dtype=np.float64) for m in members]
    trimmed = []
    for m in members:
        keep = max(1, int(density * m.size))
        limit = np.sort(np.abs(m).ravel())[-keep]
        trimmed.append(np.where(np.abs(m) >= limit, m, 0.0))
    out = np.zeros_like(members[0])
    for at in np.ndindex(out.shape):
        values = [t[at] for t in trimmed]
        sign = 1.0 if sum(values) >= 0 else -1.0
        agree = [v for v in values if v * sign > 0]
        out[at] = sum(agree) / len(agree) if agree else 0.0
    return torch.from_numpy(out)


def dare_oracle(members, masks, density):
    return sum(m * mask / density for m, mask in zip(members, masks, strict=True))


def knots_oracle(members, density):
    n = len(members)
    u, s, vh = np.linalg.svd(np.concatenate([np.asarray(m) for m in members], axis=1), full_matrices=False)
    k = int((s > 1e-6 * s[0]).sum())
    parts = np.split(s[:k, None] * vh[:k], n, axis=1)
    return torch.from_numpy(u[:, :k]) @ ties_oracle(parts, density)


def tsv_oracle(members):
    n, side = len(members), min(members[0].shape)
    us, ss, vs = [], [], []
    for m in members:
        u, s, vh = np.linalg.svd(np.asarray(m), full_matrices=False)
        k = min(max(1, side // n), int((s > 1e-10 * s[0]).sum()))
        us.append(u[:, :k])
        ss.append(s[:k])
        vs.append(vh[:k])
    pu, _, qu = np.linalg.svd(np.concatenate(us, 1), full_matrices=False)
    pv, _, qv = np.linalg.svd(np.concatenate(vs, 0), full_matrices=False)
    return torch.from_numpy(pu @ qu @ np.diag(np.concatenate(ss)) @ pv @ qv)


def iso_oracle(total):
    u, s, vh = np.linalg.svd(np.asarray(total), full_matrices=False)
    k = int((s > 1e-10 * s[0]).sum())
    return torch.from_numpy(u[:, :k] @ vh[:k]) * float(s[:k].mean())


def core_bases_oracle(members, path):
    """Left singular vectors of the stacked ups and right ones of the stacked downs, by dense SVD."""
    have = [m.layers[path] for m in members if path in m.layers]
    ups = np.concatenate([u.up.double().flatten(1).numpy() for u in have], 1)
    downs = np.concatenate([u.down.double().flatten(1).numpy() for u in have], 0)
    u, s, _ = np.linalg.svd(ups, full_matrices=False)
    _, t, vh = np.linalg.svd(downs, full_matrices=False)
    return torch.from_numpy(u[:, s > 1e-10 * s[0]]), torch.from_numpy(vh[t > 1e-10 * t[0]])


def masks_of(members, path, shape, *, seed, density):
    found = []
    for m in members:
        if path in m.layers:
            generator = generator_for(seed, path, m.fingerprint())
            found.append((torch.rand(shape, generator=generator) < density).double())
    return found


def expected(method, members, strengths, path):
    """The untruncated result of `method` on one layer, seed 5, density 0.4."""
    parts = acting(members, strengths, path)
    left, right = core_bases_oracle(members, path)
    cores = [left.T @ p @ right.T for p in parts]
    masks = masks_of(members, path, parts[0].shape, seed=5, density=0.4)
    core_masks = masks_of(members, path, cores[0].shape, seed=5, density=0.4)
    return {
        "svd": lambda: sum(parts),
        "ties": lambda: ties_oracle(parts, 0.4),
        "ties-core": lambda: left @ ties_oracle(cores, 0.4) @ right,
        "dare": lambda: dare_oracle(parts, masks, 0.4),
        "dare-ties": lambda: ties_oracle([m * k / 0.4 for m, k in zip(parts, masks, strict=True)], 1.0),
        "dare-core": lambda: left @ dare_oracle(cores, core_masks, 0.4) @ right,
        "knots": lambda: knots_oracle(parts, 0.4),
        "tsv-m": lambda: tsv_oracle(parts),
        "iso-c": lambda: iso_oracle(sum(parts)),
    }[method]()


ORACLES = [m for m in METHODS if m not in ("concat", "data")]


@pytest.mark.parametrize("path", SHAPES)
@pytest.mark.parametrize("method", ORACLES)
def test_every_method_against_a_dense_oracle(method, path):
    members, strengths = three()
    options = {"density": 0.4} if "density" in METHODS[method].options else {}
    target = expected(method, members, strengths, path)
    made = compose(members, strengths, method=method, rank=FULL, seed=5, **options)
    torch.testing.assert_close(dense(made.adapter, path), target, rtol=1e-7, atol=1e-9)
    assert made.layers[path].norm == pytest.approx(float(target.norm()))
    cut = compose(members, strengths, method=method, rank=2, seed=5, **options)
    _, best = truncated(target, 2)
    got = float((dense(cut.adapter, path) - target).norm() / target.norm())
    assert got == pytest.approx(best, rel=1e-4, abs=1e-12)
    assert cut.layers[path].error == pytest.approx(got, abs=1e-10)


def test_iso_c_truncates_in_the_sums_own_order():
    """All its values are equal, so that any truncation is optimal: ours keeps the sum's first directions."""
    members, strengths = three()
    made = compose(members, strengths, method="iso-c", rank=1).adapter
    u, _, vh = torch.linalg.svd(exact_sum(members, strengths, "a.fc"), full_matrices=False)
    got = dense(made, "a.fc")
    torch.testing.assert_close(got / got.norm(), u[:, :1] @ vh[:1], rtol=1e-8, atol=1e-10)


def test_members_that_are_the_same_do_not_bring_arbitrary_directions_into_tsv_m():
    a = member(1)
    made = compose([a, a], method="tsv-m", rank=FULL).adapter
    for path in SHAPES:
        whole = dense(a, path)
        basis = torch.linalg.svd(whole, full_matrices=False)[0][:, : a.layers[path].rank]
        got = dense(made, path)
        torch.testing.assert_close(basis @ (basis.T @ got), got, rtol=1e-8, atol=1e-10)


def test_dare_has_the_sum_as_its_mean_and_its_seed_as_an_argument():
    members, strengths = three()
    draws = [
        dense(compose(members, strengths, method="dare", rank=FULL, seed=s, density=0.5).adapter, "a.fc")
        for s in range(200)
    ]
    target = exact_sum(members, strengths, "a.fc")
    assert (torch.stack(draws).mean(0) - target).norm() < 0.15 * target.norm()
    assert not torch.equal(draws[0], draws[1])


# -- peft 0.21 ----------------------------------------------------------------------------------------


class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(18, 14)
        self.conv = torch.nn.Conv2d(4, 12, 3)


PEFT_SHAPES = {"fc": "a.fc", "conv": "b.conv"}


def peft_model(members):
    """A peft model that holds `members` (renamed to its two layers) as adapters "0", "1", ..."""
    config = peft.LoraConfig(r=3, lora_alpha=3, target_modules=["fc", "conv"])
    model = peft.get_peft_model(Two().double(), config, adapter_name="0")
    for i in range(1, len(members)):
        model.add_adapter(str(i), peft.LoraConfig(r=3, lora_alpha=3, target_modules=["fc", "conv"]))
    with torch.no_grad():
        for i, m in enumerate(members):
            for name in PEFT_SHAPES:
                layer = model.get_submodule(f"base_model.model.{name}")
                layer.lora_A[str(i)].weight.copy_(m.layers[name].down)
                layer.lora_B[str(i)].weight.copy_(m.layers[name].up)
                layer.scaling[str(i)] = m.layers[name].scale
    return model


def peft_members():
    found = []
    for seed in (1, 2):
        layers = {}
        for name, path in PEFT_SHAPES.items():
            u = member(seed, layers=(path,)).layers[path]
            layers[name] = type(u)(u.down, u.up, 4.0 + seed)
        found.append(Adapter(layers))
    return found


@pytest.mark.parametrize(("kind", "method", "rank"), [("cat", "concat", None), ("svd", "svd", 2)])
def test_pefts_cat_and_svd_agree(kind, method, rank):
    members, strengths = peft_members(), [1.0, 0.5]
    model = peft_model(members)
    model.add_weighted_adapter(["0", "1"], strengths, "made", combination_type=kind, svd_rank=rank)
    ours = compose(members, strengths, method=method, rank=rank).adapter
    for name in PEFT_SHAPES:
        theirs = model.get_submodule(f"base_model.model.{name}").get_delta_weight("made").detach()
        got = ours.layers[name].dense(torch.float64)
        assert (got - theirs).norm() <= 1e-6 * theirs.norm()


def test_ties_agrees_with_pefts_on_dense_updates():
    members = peft_members()
    parts = [m.layers["fc"].dense(torch.float64) for m in members]
    theirs = peft_ties(parts, torch.ones(2, dtype=torch.float64), density=0.3)
    ours = compose(members, method="ties", rank=FULL, density=0.3).adapter.layers["fc"]
    torch.testing.assert_close(ours.dense(torch.float64), theirs, rtol=1e-9, atol=1e-11)


def test_pins_pefts_linear_has_cross_terms_and_ours_has_none():
    """engines.md: (sum A)(sum B) is not the sum of the products; relative error about 1 on random members."""
    members = peft_members()
    model = peft_model(members)
    model.add_weighted_adapter(["0", "1"], [1.0, 1.0], "made", combination_type="linear")
    theirs = model.get_submodule("base_model.model.fc").get_delta_weight("made").detach()
    target = sum(m.layers["fc"].dense(torch.float64) for m in members)
    assert (theirs - target).norm() > 0.5 * target.norm()
    ours = compose(members).adapter.layers["fc"].dense(torch.float64)
    assert (ours - target).norm() < 1e-13 * target.norm()
