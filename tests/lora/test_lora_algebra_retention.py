"""`retention` beside dense truths, and what must hold of it whatever the adapters."""

from __future__ import annotations

import pytest
import torch
from algebra_cases import SHAPES, covariances, dense, exact_sum, three

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, compose
from counterpoise.lora.algebra import METHODS, retention


def test_a_member_alone_keeps_all_of_itself():
    members, _ = three()
    seen, _ = covariances(1)
    (found,) = retention(members[0], members[:1], covariances=seen)
    assert found.kept == pytest.approx(1.0)
    assert found.disturbance == pytest.approx(0.0, abs=1e-10)


def test_of_the_sum_it_is_what_dense_matrices_say():
    members, strengths = three()
    seen, _ = covariances(3)
    made = compose(members, strengths).adapter
    for member, c, found in zip(members, seen, retention(made, members, covariances=seen), strict=True):
        own = shared = apart = 0.0
        for path in SHAPES:
            d, total = dense(member, path), exact_sum(members, strengths, path)
            own += float((d @ c[path] * d).sum())
            shared += float((total @ c[path] * d).sum())
            apart += float(((total - d) @ c[path] * (total - d)).sum())
        assert found.kept == pytest.approx(shared / own, rel=1e-6)
        assert found.disturbance == pytest.approx(apart / own, rel=1e-6)


def test_a_member_whose_layers_the_stack_lacks_has_lost_them():
    members, _ = three()
    seen, _ = covariances(1)
    (half,) = retention(Adapter({"c.out": members[0].layers["c.out"]}), [members[0]], covariances=seen)
    assert 0 < half.kept < 1
    assert half.disturbance == pytest.approx(1 - half.kept)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "data"])
def test_no_method_disturbs_less_than_the_data_aware_one(method):
    members, _ = three()
    seen, _ = covariances(3)

    def lost(made):
        """Summed over members in absolute terms, which is what the data-aware method minimises."""
        total = 0.0
        for member, c, found in zip(members, seen, retention(made, members, covariances=seen), strict=True):
            paths = [path for path in SHAPES if path in member.layers]
            own = sum(float((dense(member, p) @ c[p] * dense(member, p)).sum()) for p in paths)
            total += found.disturbance * own
        return total

    best = lost(compose(members, method="data", covariances=seen, ridge=1e-12).adapter)
    assert best <= lost(compose(members, method=method).adapter) * (1 + 1e-6)


def test_it_refuses_what_it_cannot_judge():
    members, _ = three()
    seen, _ = covariances(3)
    with pytest.raises(UsageError, match="covariances for"):
        retention(members[0], members, covariances=seen[:2])
    with pytest.raises(UsageError, match="covariances for"):
        retention(members[0], members, covariances=[])
    silent = Adapter({p: type(u)(u.down, torch.zeros_like(u.up), 1.0) for p, u in members[2].layers.items()})
    (found,) = retention(members[0], [silent], covariances=seen[:1])
    assert (found.kept, found.disturbance) == (None, None)
