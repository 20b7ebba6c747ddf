"""W0 from an estimate and a correction, whatever the bits."""

from __future__ import annotations

import pytest
import torch
from lora_cases import DTYPES

from counterpoise.lora.correction import Correction, Differences
from counterpoise.lora.correction_codes import CodeWriter

ALL = [*DTYPES, torch.float64]


def _same(a, b):
    return torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8))


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 1.0])
def test_any_bits_come_back_from_any_estimate(dtype, share):
    generator = torch.Generator().manual_seed(1)
    raw = torch.randint(-128, 128, (37, 53 * dtype.itemsize), generator=generator, dtype=torch.int8)
    original = raw.view(dtype).reshape(37, 53)  # NaN payloads, infinities, subnormals and all
    other = raw.flip(0).contiguous().view(dtype).reshape(37, 53)
    estimate = torch.where(torch.rand(37, 53, generator=generator) < share, other, original)
    assert _same(Correction.between(original, estimate).apply_(estimate), original)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_bands_give_the_correction_of_the_whole(share):
    generator = torch.Generator().manual_seed(3)
    original = torch.randn(40, 53, generator=generator)
    estimate = torch.where(torch.rand(40, 53, generator=generator) < share, original * 1.0000005, original)
    found = Differences(original.numel())
    for begin in range(0, 40, 7):
        found.add(original[begin : begin + 7], estimate[begin : begin + 7], begin=begin * 53)
    banded, whole = found.correction(), Correction.between(original, estimate)
    assert banded.nbytes == whole.nbytes
    assert _same(banded.apply_(estimate), original)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("near", [False, True])
def test_any_bits_come_back_from_codes_written_in_bands(dtype, share, near):
    generator = torch.Generator().manual_seed(1)
    raw = torch.randint(-128, 128, (37, 53 * dtype.itemsize), generator=generator, dtype=torch.int8)
    original = raw.view(dtype).reshape(37, 53)
    integers = {4: torch.int32, 8: torch.int64}[dtype.itemsize]
    steps = torch.randint(-3, 4, (37, 53), generator=generator, dtype=integers)
    other = (original.view(integers) + steps).view(dtype) if near else raw.flip(0).contiguous().view(dtype)
    differs = torch.rand(37, 53, generator=generator) < share
    estimate = torch.where(differs, other.reshape(37, 53), original)
    writer = CodeWriter(original.numel(), original)
    for begin in range(0, 37, 8):
        writer.add(original[begin : begin + 8], estimate[begin : begin + 8], begin=begin * 53)
    assert _same(writer.correction().apply_(estimate), original)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 2**17 + 3])
def test_codes_of_any_size(size):
    original, estimate = torch.ones(size), torch.full((size,), 1.0000001)
    writer = CodeWriter(size, original)
    writer.add(original, estimate, begin=0)
    found = writer.correction()
    assert _same(found.apply_(estimate), original)
    assert found.nbytes == -(-size // 4)


@pytest.mark.parametrize("dtype", ALL)
def test_signed_zeros_and_neighbours(dtype):
    original = torch.tensor([0.0, -0.0, 1.0, -1.0, torch.finfo(dtype).tiny], dtype=dtype)
    estimate = torch.tensor([-0.0, 0.0, -1.0, 1.0, 0.0], dtype=dtype)
    assert _same(Correction.between(original, estimate).apply_(estimate), original)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("delta", "bits"), [(0.01, 0.4), (0.1, 1.5)])
def test_a_fold_costs_few_bits_a_weight(dtype, delta, bits):
    generator = torch.Generator().manual_seed(2)
    weight = (torch.randn(512, 512, generator=generator) * 0.02).to(dtype)
    update = torch.randn(512, 512, generator=generator) * 0.02 * delta
    folded = (weight.float() + update).to(dtype)
    estimate = (folded.float() - update).to(dtype)
    correction = Correction.between(weight, estimate)
    assert _same(correction.apply_(estimate), weight)
    assert correction.nbytes * 8 / weight.numel() < bits


def test_no_weights_and_one():
    for size in (0, 1, 255, 256, 257):
        original, estimate = torch.ones(size), torch.zeros(size)
        assert _same(Correction.between(original, estimate).apply_(estimate), original)


def test_codes_of_which_nothing_was_said_change_nothing():
    estimate = torch.randn(9)
    kept = estimate.clone()
    assert _same(CodeWriter(9, estimate).correction().apply_(estimate), kept)
