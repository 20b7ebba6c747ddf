"""Folding in rows: the compiled loops round as torch does, and W0 comes back whatever lay there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoise.lora.compiled import kernels, rows
from counterpoise.lora.compiled.rows import ChangedError, Rows, Whole, usable, write
from counterpoise.lora.threads import together
from counterpoise.lora.weights import checksum

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def weight_of(dtype, shape=(37, 48), std=0.03, seed=0):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * std).to(dtype)


def pair_of(weight, rank=3, std=0.3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    width = weight.numel() // weight.shape[0]
    down = torch.randn(rank, width, generator=generator) * std
    return down, torch.randn(weight.shape[0], rank, generator=generator) * std


def same_bits(a, b):
    return torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))


@pytest.fixture(autouse=True, params=[16, 200, 2**14])
def block(request, monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", request.param)
    monkeypatch.setattr(rows, "LEAST", 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_two_byte_float_plus_anything_is_rounded_as_torch_does(dtype):
    words = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
    weight = words.view(dtype).view(256, 256)
    add = torch.randn(256, 256, generator=torch.Generator().manual_seed(0)) * 10 ** torch.linspace(-9, 6, 256)
    kind = kernels.BFLOAT16 if dtype == torch.bfloat16 else kernels.FLOAT16
    old, new = words.numpy().view(np.uint16), np.empty(2**16, np.uint16)
    pair = kernels.packed(np.float32([[1.0]]), add.flatten().numpy()[None])
    for begin in range(0, 2**16, 512):
        u, place = kernels._begun(pair, 0, begin, np.zeros(512, np.float32))
        kernels._write(old, new, np.uint64(begin), 512, kind, pair[1], place, u, np.zeros(512, np.float32))
    expected = (weight.float() + add).to(dtype).flatten()
    got = torch.from_numpy(new.view(np.int16)).view(dtype)
    assert torch.equal(got.isnan(), expected.isnan())
    assert same_bits(got[~got.isnan()], expected[~got.isnan()])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("std", [1e-4, 0.3, 30.0])
def test_there_and_back_by_bytes_with_checksums(dtype, std):
    weight = weight_of(dtype)
    before, pair = weight.clone(), pair_of(weight, std=std)
    assert usable(weight, exact=torch.float32)
    own = Rows(weight, pair)
    sums, infinite = own.fold(weight)
    assert (sums.before, sums.after, infinite) == (checksum(before).words, checksum(weight).words, False)
    expected = before.double() + (pair[1].double() @ pair[0].double())
    step = torch.finfo(dtype).eps * expected.abs() + 1e-6 * std**2
    assert bool(((weight.double() - expected).abs() <= step).all())
    folded = weight.clone()
    assert own.unfold(weight).after == checksum(before).words
    assert same_bits(weight, before)
    assert own.again(weight).after == checksum(folded).words
    assert same_bits(weight, folded)
    assert same_bits(own.unfolded(folded), before)
    assert same_bits(own.refolded(before), folded)


@pytest.mark.parametrize("dtype", DTYPES)
def test_from_one_stack_to_another_is_as_from_w0(dtype):
    weight = weight_of(dtype)
    before = weight.clone()
    first, second = (Rows(weight, pair_of(weight, seed=seed)) for seed in (1, 2))
    direct = weight.clone()
    Rows(direct, pair_of(weight, seed=2)).fold(direct)
    first.fold(weight)
    back, there, _ = second.replace(weight, first)
    assert (back.after, there.before) == (checksum(before).words,) * 2
    assert same_bits(weight, direct)
    second.unfold(weight)
    assert same_bits(weight, before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [1, 7, 8, 9, 19])
@pytest.mark.parametrize("shape", [(5, 1032), (37, 48)])
def test_from_a_whole_w0_over_another_stack_the_bits_are_those_of_folding_in_place(dtype, rank, shape):
    weight = weight_of(dtype, shape)
    w0, direct = weight.clone(), weight.clone()
    first = Rows(weight, pair_of(weight), keep=False)
    second = Rows(weight, pair_of(weight, rank=rank, seed=2), keep=False)
    kept = Rows(direct, pair_of(weight, rank=rank, seed=2))
    kept.fold(direct)
    ((sums, infinite),) = write([Whole(first, weight, w0)])
    assert (sums.before, sums.after, infinite) == (checksum(w0).words, checksum(weight).words, False)
    ((sums, infinite),) = write([Whole(second, weight, w0, first)])
    assert (sums.before, sums.after, infinite) == (checksum(w0).words, checksum(weight).words, False)
    assert same_bits(weight, direct)
    in_place = w0.clone()
    kept._folded[:] = 0
    kept.again(in_place)
    assert same_bits(in_place, direct)


def test_a_call_for_several_layers_ends_before_a_block_that_others_changed():
    layers = []
    for seed in range(3):
        weight = weight_of(torch.float32, (36, 48), seed=seed)
        w0, first = weight.clone(), Rows(weight, pair_of(weight, seed=seed), keep=False)
        write([Whole(first, weight, w0)])
        layers.append(Whole(Rows(weight, pair_of(weight, seed=9), keep=False), weight, w0, first))
    before = [layer.weight.clone() for layer in layers]
    layers[1].weight[30, 5] += 1
    changed = layers[1].weight.clone()
    assert len(write(layers)) == 1
    assert not same_bits(layers[0].weight, before[0])
    assert same_bits(layers[2].weight, before[2])
    for layer in layers:
        assert layer.over is not None
        layer.over.again(layer.weight, source=layer.source, after=layer.rows)
    assert same_bits(layers[0].weight, before[0])
    assert same_bits(layers[1].weight, changed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_overflow_from_a_whole_w0_is_told(dtype):
    weight = weight_of(dtype)
    weight[3, 7] = torch.finfo(dtype).max
    weight[0, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    w0, (down, up) = weight.clone(), pair_of(weight)
    ((_, infinite),) = write([Whole(Rows(weight, (down, up), keep=False), weight, w0)])
    assert not infinite
    down[0, 7], up[3, 0] = torch.finfo(dtype).max / 1e3, 1e3
    ((_, infinite),) = write([Whole(Rows(weight, (down, up), keep=False), weight, w0)])
    assert infinite


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_bits_come_back(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.sampled_from([(1, 8), (5, 12), (3, 600), (9, 64)]))
    seed = data.draw(st.integers(0, 2**31))
    random = np.random.default_rng(seed)
    weight = torch.from_numpy(random.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8))
    weight = weight.view(dtype).squeeze(-1)
    before = weight.clone()
    std = data.draw(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e10]))
    own, other = (Rows(weight, pair_of(weight, std=std, seed=s)) for s in (1, 2))
    own.fold(weight)
    other.replace(weight, own)
    other.unfold(weight)
    assert same_bits(weight, before)


def test_notes_grow_where_every_weight_needs_one():
    weight = weight_of(torch.bfloat16, (64, 256), std=1e-6)
    before = weight.clone()
    own = Rows(weight, pair_of(weight, std=1e4))
    own._notes = own._notes[:4]
    sums, _ = own.fold(weight)
    assert sums.before == checksum(before).words
    own.unfold(weight)
    assert same_bits(weight, before)


def test_weights_of_one_in_a_thousand_are_noted_over_long_gaps():
    weight = weight_of(torch.float32, (2, 4000), std=1.0)
    weight.view(-1)[::1500] = 1e-9
    before = weight.clone()
    own = Rows(weight, pair_of(weight, std=0.01))
    own.fold(weight)
    assert own.nbytes <= 0.125 * weight.nbytes
    own.unfold(weight)
    assert same_bits(weight, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_overflow_is_told_and_undone(dtype):
    weight = weight_of(dtype)
    weight[3, 7] = torch.finfo(dtype).max
    before = weight.clone()
    down, up = pair_of(weight)
    down[0, 7], up[3, 0] = torch.finfo(dtype).max / 1e3, 1e3
    own = Rows(weight, (down, up))
    assert own.fold(weight)[1]
    own.unfold(weight)
    assert same_bits(weight, before)


def test_infinite_and_missing_weights_of_w0_are_no_overflow():
    weight = weight_of(torch.float16)
    weight[0, :3] = torch.tensor([torch.inf, -torch.inf, torch.nan])
    before = weight.clone()
    own = Rows(weight, pair_of(weight))
    assert not own.fold(weight)[1]
    own.unfold(weight)
    assert same_bits(weight, before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_others_wrote_is_noticed_before_its_block_is_touched(dtype):
    weight = weight_of(dtype)
    own = Rows(weight, pair_of(weight))
    own.fold(weight)
    folded = weight.clone()
    weight[20, 5] += 1
    changed = weight.clone()
    with pytest.raises(ChangedError):
        own.unfold(weight)
    own.again(weight)
    assert same_bits(weight, changed)
    other = Rows(weight, pair_of(weight, seed=2))
    with pytest.raises(ChangedError):
        other.replace(weight, own)
    other.unfold(weight)
    own.again(weight)
    assert same_bits(weight, changed)
    weight.copy_(folded)
    own.unfold(weight)
    assert same_bits(weight, weight_of(dtype))


def test_the_same_bits_for_every_number_of_threads_and_size_of_block(monkeypatch):
    found = []
    for size in (16, 2**14):
        monkeypatch.setattr(rows, "_BLOCK", size)
        weight = weight_of(torch.float32, (200, 64))
        Rows(weight, pair_of(weight, rank=19)).fold(weight)
        found.append(weight)
    assert same_bits(*found)


@pytest.mark.parametrize("threads", [1, 3])
def test_tasks_end_before_the_first_error_is_raised(monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    begun, ended = [], []

    def task(i):
        begun.append(i)
        if i == 2:
            raise KeyError(i)
        ended.append(i)

    with pytest.raises(KeyError):
        together([lambda i=i: task(i) for i in range(200)])
    assert sorted(begun) == sorted([*ended, 2])
    assert len(begun) < 200
    together([lambda i=i: ended.append(i) for i in range(300, 310)])
    assert set(range(300, 310)) <= set(ended)
