"""interference: every figure against its dense definition."""

from __future__ import annotations

import json
import time

import pytest
import torch
from algebra_cases import SHAPES, covariances, dense, member, three

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, LowRank, compose, interference


def flat(members, strengths):
    """Each member's whole weighted update as one vector."""
    return torch.stack(
        [
            torch.cat([w * dense(m, p).flatten() for p in SHAPES])
            for m, w in zip(members, strengths, strict=True)
        ]
    )


def test_cosines_and_energies_are_those_of_the_dense_updates():
    members, strengths = three()
    found = interference(members, strengths)
    vectors = flat(members, strengths)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        torch.tensor(found.overall.cosine, dtype=torch.float64), unit @ unit.T, rtol=1e-6, atol=1e-6
    )
    assert found.overall.energies == pytest.approx(vectors.square().sum(1).tolist())
    ratio = float(vectors.sum(0).square().sum() / vectors.square().sum())
    assert found.overall.energy_ratio == pytest.approx(ratio)
    for path, pairs in found.layers.items():
        a, b = (dense(members[i], path) * strengths[i] for i in (0, 1))
        if b.any():
            assert pairs.cosine[0][1] == pytest.approx(float((a * b).sum() / a.norm() / b.norm()), abs=1e-6)
        else:
            assert pairs.cosine[0][1] is None


def test_cosine_is_one_of_a_member_with_itself_and_minus_one_against_it():
    a = member(1)
    found = interference([a, a, a], [1, -2, 0.5]).overall
    assert found.cosine[0] == pytest.approx((1, -1, 1), abs=1e-9)
    assert found.output_overlap[0] == pytest.approx((1, 1, 1), abs=1e-9)
    assert found.input_overlap[1] == pytest.approx((1, 1, 1), abs=1e-9)
    assert interference([a, a], [1, -1]).overall.energy_ratio == pytest.approx(0, abs=1e-12)
    assert interference([a, a]).overall.energy_ratio == pytest.approx(2)


def test_overlaps_are_those_of_the_dense_singular_vectors():
    members, strengths = three()
    found = interference(members, strengths)
    for path in SHAPES:
        vectors = []
        for m in members:
            u, s, vh = torch.linalg.svd(dense(m, path), full_matrices=False)
            k = int((s > 1e-10).sum())
            vectors.append((u[:, :k], vh[:k].T))
        for i in range(3):
            for j in range(3):
                for side, name in enumerate(("output", "input")):
                    got = getattr(found.layers[path], f"{name}_overlap")[i][j]
                    chance = getattr(found.layers[path], f"{name}_chance")[i][j]
                    first, second = vectors[i][side], vectors[j][side]
                    if not first.shape[1] or not second.shape[1]:
                        assert got is None
                        continue
                    least = min(first.shape[1], second.shape[1])
                    assert got == pytest.approx(float((first.T @ second).square().sum()) / least, abs=1e-6)
                    assert chance == pytest.approx(max(first.shape[1], second.shape[1]) / first.shape[0])


def test_random_subspaces_overlap_as_chance_has_it():
    g = torch.Generator().manual_seed(0)
    members = [
        Adapter({"x": LowRank(torch.randn(6, 60, generator=g), torch.randn(90, 6, generator=g), 6)})
        for _ in range(12)
    ]
    found = interference(members).overall
    pairs = [(i, j) for i in range(12) for j in range(i)]
    for name, side in (("output", 90), ("input", 60)):
        mean = sum(getattr(found, f"{name}_overlap")[i][j] for i, j in pairs) / len(pairs)
        assert mean == pytest.approx(6 / side, rel=0.1)


def test_a_rank_that_is_not_used_is_not_counted():
    """Three rows, two of them the same: the update has rank 2."""
    down = torch.tensor([[1.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]])
    a = Adapter({"x": LowRank(down, torch.eye(4)[:, :3], 3)})
    found = interference([a, a]).layers["x"]
    assert found.output_chance[0][1] == pytest.approx(2 / 4)
    assert found.input_chance[0][1] == pytest.approx(2 / 5)
    assert found.output_overlap[0][1] == pytest.approx(1)


def test_the_suggested_strengths_make_equals_and_keep_the_stack_at_their_mean_energy():
    members, strengths = three()
    found = interference(members, strengths)
    after = interference(members, found.suggested).overall
    assert after.energies == pytest.approx([after.energies[0]] * 3)
    stack = flat(members, found.suggested).sum(0)
    mean = flat(members, strengths).square().sum(1).mean()
    assert float(stack.square().sum()) == pytest.approx(float(mean))
    assert [s * w > 0 for s, w in zip(found.suggested, strengths, strict=True)] == [True] * 3
    # at full strength n copies of one adapter are n^2 times as loud; as suggested they are one
    copies = interference([members[0]] * 4)
    assert copies.suggested == pytest.approx([0.25] * 4)


def test_silent_members_and_cancelling_stacks_get_no_wild_strengths():
    a, b = member(1), member(2)
    assert interference([a, b], [1, 0]).suggested == pytest.approx((1, 0))
    assert interference([a, b], [0, 0]).suggested == (0, 0)
    assert interference([a, b], [0, 0]).overall.energy_ratio is None
    assert interference([a, a], [1, -1]).suggested == pytest.approx((1, -1))


def test_the_functional_share_is_that_of_the_outputs():
    members, strengths = three()
    known, inputs = covariances(3)
    found = interference(members, strengths, covariances=known)
    for path in SHAPES:
        parts = [w * dense(m, path) for m, w in zip(members, strengths, strict=True)]
        for k in range(3):
            x = inputs[k][path]
            energies = [float((p @ x).square().sum()) for p in parts]
            assert found.layers[path].functional_share[k] == pytest.approx(
                [e / sum(energies) for e in energies]
            )
            others = sum((p for i, p in enumerate(parts) if i != k), torch.zeros_like(parts[0])) @ x
            got = found.layers[path].disturbance[k]
            if energies[k]:
                assert got == pytest.approx(float(others.square().sum()) / energies[k], abs=1e-9)
            else:
                assert got is None
    assert interference(members, strengths).overall.functional_share is None
    for row in found.overall.functional_share:
        assert sum(row) == pytest.approx(1)


def test_the_report_is_json_without_nan():
    members, strengths = three()
    said = interference(members, strengths, covariances=covariances(3)[0]).to_dict()
    assert json.loads(json.dumps(said, allow_nan=False))["overall"]["energy_ratio"] > 0


def test_a_composition_of_members_is_as_near_to_them_as_they_say():
    a, b = member(1), member(2)
    cosine = interference([a, compose([a, b]).adapter]).overall.cosine[0][1]
    x, y = flat([a, b], [1, 1])
    assert cosine == pytest.approx(float(torch.cosine_similarity(x, x + y, dim=0)), abs=1e-9)


def test_it_takes_milliseconds():
    g = torch.Generator().manual_seed(0)
    members = [
        Adapter({"x": LowRank(torch.randn(16, 768, generator=g), torch.randn(768, 16, generator=g), 6)})
        for _ in range(6)
    ]
    interference(members)
    begun = time.perf_counter()
    interference(members)
    assert time.perf_counter() - begun < 0.5  # some 5 ms on an idle core


def test_refusals():
    with pytest.raises(UsageError, match="no adapters"):
        interference([])
    with pytest.raises(UsageError, match="expected a finite number"):
        interference([member(1)], [float("inf")])
    with pytest.raises(UsageError, match="1 mappings"):
        interference([member(1), member(2)], covariances=[{}])
