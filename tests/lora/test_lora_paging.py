"""Adapters within a memory budget: paged out, they act as before, bit for bit."""

from __future__ import annotations

import os

import pytest
import torch
from lora_cases import adapter_for, assert_bits, net, picture, weights

from counterpoise.errors import UsageError
from counterpoise.lora import Host


def _size(adapter):
    return sum(t.nbytes for u in adapter.layers.values() for t in u.tensors().values())


def test_a_budget_is_kept_and_nothing_else_is_seen_of_it():
    model, twin, x = net(), net(), picture()
    before = weights(model)
    adapters, copies = ([adapter_for(net(), i) for i in range(5)] for _ in range(2))
    budget = 2 * _size(adapters[0])
    paged, plain = Host(model, memory_budget=budget), Host(twin)
    for i in range(5):
        for host, own in ((paged, adapters), (plain, copies)):
            host.mount(own[i], name=f"a{i}", strength=float(i % 2))
        assert paged.factor_bytes <= budget
        assert torch.equal(model(x), twin(x))
    assert plain.factor_bytes == 5 * _size(copies[0])
    for strengths in ({"a1": 0.0, "a2": 1.0}, {f"a{i}": 0.3 for i in range(5)}):
        for host in (paged, plain):
            host.set_strengths(strengths)
        assert torch.equal(model(x), twin(x))
        assert paged.factor_bytes <= budget
    for host in (paged, plain):
        host.fold()
    assert_bits(model, weights(twin))
    paged.restore()
    assert_bits(model, before)
    assert [a.fingerprint() for a in adapters] == [a.fingerprint() for a in copies]


def test_what_is_written_into_a_paged_factor_is_its_owners_alone():
    adapter, twin = adapter_for(net(), 1), adapter_for(net(), 1)
    host = Host(net(), memory_budget=0)
    host.mount(adapter)
    assert host.factor_bytes == 0
    assert adapter == twin
    next(iter(adapter.layers.values())).up[0] = 7.0
    assert adapter != twin


def test_no_file_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    host = Host(net(), memory_budget=0)
    host.mount(adapter_for(net()))
    assert not os.listdir(tmp_path)


def test_a_full_disk_leaves_adapters_in_memory_and_mounted(monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    model, adapter = net(), adapter_for(net())
    host = Host(model, memory_budget=0)
    monkeypatch.setattr("os.pwrite", full)
    with pytest.warns(RuntimeWarning, match="over the memory budget: .* cannot be paged out .*No space left"):
        host.mount(adapter)
    assert host.state == "mounted"
    assert adapter == adapter_for(net())
    host.restore()


@pytest.mark.parametrize("budget", [-1, 1.5, True, "1 GB"])
def test_a_budget_is_a_number_of_bytes(budget):
    with pytest.raises(UsageError, match="number of bytes"):
        Host(net(), memory_budget=budget)
