"""Adapters that differ in rank, alpha, dtype, kind and set of layers, and dense truths about them."""

from __future__ import annotations

import torch
from lora_cases import update

from counterpoise.lora import Adapter

SHAPES = {"a.fc": (14, 18), "b.conv": (12, 4, 3, 3), "c.out": (20, 11), "d.point": (9, 13, 1, 1)}


def member(seed, *, rank=3, alpha=2.0, layers=tuple(SHAPES), dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    made = {}
    for i, path in enumerate(layers):
        u = update(SHAPES[path], rank + i % 2, alpha=alpha + i, generator=g)
        made[path] = type(u)(u.down.to(dtype), u.up.to(dtype), u.alpha)
    return Adapter(made)


def three(dtype=torch.float64):
    """Three members at strengths 1, -0.6, 0.5; each lacks a layer or has another rank."""
    members = [
        member(1, dtype=dtype),
        member(2, rank=2, alpha=5, layers=("a.fc", "b.conv"), dtype=dtype),
        member(3, rank=1, alpha=1, layers=("a.fc", "c.out", "d.point"), dtype=dtype),
    ]
    return members, [1.0, -0.6, 0.5]


def dense(adapter, path):
    """Delta W as [out, in] float64, zeros where the adapter has no such layer."""
    if path not in adapter.layers:
        return torch.zeros(SHAPES[path], dtype=torch.float64).flatten(1)
    u = adapter.layers[path]
    delta = torch.einsum("or,r...->o...", u.up.double().flatten(1), u.down.double())
    return (u.alpha / u.rank * delta).flatten(1)


def acting(members, strengths, path):
    """The weighted dense updates of the members that have the layer."""
    return [w * dense(m, path) for m, w in zip(members, strengths, strict=True) if path in m.layers]


def exact_sum(members, strengths, path):
    return torch.stack(acting(members, strengths, path)).sum(0)


def truncated(matrix, rank):
    """Eckart-Young by a full dense SVD, and its relative error."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank], float(s[rank:].norm() / s.norm())


def covariances(count, seed=0, *, samples=40, noise=0.02):
    """One {layer: C} for each of `count` members: inputs in a few directions of its own, and a little noise."""
    g = torch.Generator().manual_seed(seed)
    found, inputs = [], []
    for _ in range(count):
        xs = {}
        for path, shape in SHAPES.items():
            side = torch.Size(shape[1:]).numel()
            few = torch.randn(side, 4, generator=g, dtype=torch.float64)
            xs[path] = few @ torch.randn(4, samples, generator=g, dtype=torch.float64)
            xs[path] += noise * torch.randn(side, samples, generator=g, dtype=torch.float64)
        inputs.append(xs)
        found.append({path: x @ x.T / samples for path, x in xs.items()})
    return found, inputs
