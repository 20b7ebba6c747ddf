"""extract: a planted update comes back, from modules, mappings and files; the rest is named."""

from __future__ import annotations

import pytest
import torch
from lora_cases import adapter_for, net, save_tensors

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.lora import Adapter, Host, extract
from counterpoise.lora.algebra.core import generator_for
from counterpoise.lora.algebra.sketch import leading, leading_energy

PATHS = ["conv", "block.fc", "fc", "point"]


def planted(strength=1.0):
    """(base, tuned, adapter): a model, the same with an adapter of rank 2 and 3 folded in, that adapter."""
    base, tuned = net(torch.float64), net(torch.float64)
    adapter = adapter_for(base, 1, paths=PATHS)
    host = Host(tuned)
    host.mount(adapter, strength=strength)
    host.fold(dtype=torch.float64)
    return base, tuned, adapter


def assert_found(found, adapter, *, tolerance=1e-12):
    assert set(found.adapter.layers) == set(PATHS)
    for path in PATHS:
        expected = adapter.layers[path].dense(torch.float64)
        got = found.adapter.layers[path].dense(torch.float64)
        assert (got - expected).norm() <= tolerance * expected.norm(), path


def test_a_folded_adapter_is_extracted_whole():
    base, tuned, adapter = planted()
    found = extract(base, tuned, rank=8)
    assert_found(found, adapter)
    assert found.error < 1e-12
    assert found.leftovers == {}
    assert found.adapter.layers["fc"].rank >= adapter.layers["fc"].rank


def test_rank_by_energy_finds_the_planted_rank():
    base, tuned, adapter = planted()
    found = extract(base, tuned, energy=1 - 1e-9)
    assert {p: u.rank for p, u in found.adapter.layers.items()} == {p: adapter.layers[p].rank for p in PATHS}
    assert_found(found, adapter, tolerance=1e-4)


@pytest.mark.parametrize("rank", [1, 2])
def test_the_error_is_that_of_the_best_rank_and_exact(rank):
    base, tuned, _ = planted()
    found = extract(base, tuned, rank=rank)
    for path, kept in found.layers.items():
        change = (tuned.get_submodule(path).weight - base.get_submodule(path).weight).detach().flatten(1)
        values = torch.linalg.svdvals(change)
        assert kept.error == pytest.approx(float(values[rank:].norm() / values.norm()), abs=1e-10)
        got = found.adapter.layers[path].dense(torch.float64).flatten(1)
        assert kept.error == pytest.approx(float((got - change).norm() / change.norm()), abs=1e-10)


@pytest.mark.parametrize("kind", ["mapping", "file", "shards", "mixed"])
def test_modules_mappings_and_files_give_the_same(tmp_path, kind):
    base, tuned, adapter = planted()
    states = [{k: v for k, v in m.state_dict().items() if v.dim()} for m in (base, tuned)]
    if kind in ("file", "mixed"):
        states = [save_tensors(tmp_path / f"{i}.safetensors", s) for i, s in enumerate(states)]
    if kind == "mixed":
        states[0] = base
    if kind == "shards":
        for i, state in enumerate(states):
            (tmp_path / str(i)).mkdir()
            for j, keys in enumerate((sorted(state)[:5], sorted(state)[5:])):
                save_tensors(tmp_path / str(i) / f"{j}.safetensors", {k: state[k] for k in keys})
        states = [tmp_path / "0", str(tmp_path / "1")]
    found = extract(*states, rank=8)
    assert_found(found, adapter)
    assert not {k: v for k, v in found.leftovers.items() if "only in" not in v}


def test_what_no_adapter_can_hold_is_named():
    base, tuned, _ = planted()
    with torch.no_grad():
        tuned.fc.bias += 1
        tuned.table.weight += 1
        tuned.norm.weight += 1
        tuned.norm.running_mean += 1
    found = extract(base, tuned, rank=2)
    assert set(found.leftovers) == {"fc.bias", "norm.weight", "norm.running_mean"}
    torch.testing.assert_close(
        found.adapter.layers["table"].dense(torch.float64), torch.ones_like(tuned.table.weight)
    )
    # a bare mapping does not say what a 2-D tensor is for: by its name this is an embedding
    states = [
        {"e.token_embedding.weight": w, "time_embedding.linear_1.weight": w, "x_embedder.weight": w}
        for w in (torch.zeros(6, 4), torch.ones(6, 4))
    ]
    found = extract(*states, rank=1)
    assert set(found.adapter.layers) == {"time_embedding.linear_1", "x_embedder"}
    assert "embedding" in found.leftovers["e.token_embedding.weight"]
    chosen = extract(*states, rank=1, layers=["e.token_embedding"])
    assert set(chosen.adapter.layers) == {"e.token_embedding"}
    assert set(chosen.leftovers) == {"time_embedding.linear_1.weight", "x_embedder.weight"}


def test_layers_are_chosen_by_patterns():
    base, tuned, _ = planted()
    found = extract(base, tuned, rank=1, layers=["block.*", "fc"])
    assert set(found.adapter.layers) == {"block.fc", "fc"}
    assert "conv.weight" in found.leftovers
    with pytest.raises(UsageError, match="nearest: block") as caught:
        extract(base, tuned, rank=1, layers=["block.fcc"])
    assert caught.value.code == "E_NO_MATCH"


def test_half_precision_checkpoints():
    base, tuned, adapter = planted()
    found = extract(base.half(), tuned.half(), rank=3)
    assert found.adapter.layers["fc"].up.dtype == torch.float32
    assert_found(found, adapter, tolerance=0.05)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({}, "E_OPTION"),
        ({"rank": 1, "energy": 0.5}, "E_OPTION"),
        ({"rank": 0}, "E_RANK"),
        ({"energy": 2.0}, "E_ENERGY"),
        ({"rank": 1, "seed": "x"}, "E_SEED"),
        ({"rank": 1, "layers": "fc"}, "E_NAME"),
    ],
)
def test_refusals(asked, code):
    base, tuned, _ = planted()
    with pytest.raises(UsageError) as caught:
        extract(base, tuned, **asked)
    assert caught.value.code == code


def test_two_models_that_do_not_match_are_refused(tmp_path):
    one = {"fc.weight": torch.zeros(3, 4), "fc.bias": torch.zeros(3)}
    for other, code, said in [
        (one, "E_EMPTY", "none of the 1 layers changed"),
        ({**one, "fc.bias": torch.ones(3)}, "E_EMPTY", r"fc\.bias"),
        ({**one, "fc.weight": torch.ones(3, 5)}, "E_SHAPE", r"\[3, 4\].*\[3, 5\]"),
        ({**one, "fc.weight": torch.full((3, 4), float("nan"))}, "E_NONFINITE", "NaN"),
        ({"fcc.weight": torch.ones(3, 4)}, "E_NO_MATCH", r"nearest: fcc\.weight"),
        ({"fc.weight": 3}, "E_MODEL", "expected name -> tensor"),
        (3, "E_MODEL", "torch module"),
    ]:
        with pytest.raises(UsageError, match=said) as caught:
            extract(one, other, rank=1)
        assert caught.value.code == code
    with pytest.raises(RefusedInputError, match="no such file"):
        extract(tmp_path / "none.safetensors", one, rank=1)
    for i in range(2):
        save_tensors(tmp_path / f"{i}.safetensors", one)
    with pytest.raises(RefusedInputError, match="two of its files"):
        extract(tmp_path, one, rank=1)


def test_the_sketch_of_a_large_matrix_is_near_the_optimum_and_repeatable():
    g = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(400, 300, generator=g, dtype=torch.float64))[0]
    p = torch.linalg.qr(torch.randn(500, 300, generator=g, dtype=torch.float64))[0]
    values = torch.arange(1, 301, dtype=torch.float64) ** -0.7
    matrix = (q * values) @ p.T
    found = leading(matrix, 20, generator_for(1, "x"))
    assert len(found.values) == 20  # it was sketched
    up, down = found.factors(20)
    assert float((matrix - up @ down).norm()) <= 1.0001 * float(values[20:].norm())
    again = leading(matrix, 20, generator_for(1, "x"))
    assert torch.equal(found.values, again.values)
    held, count = leading_energy(matrix, 0.8, generator_for(1, "x"))
    exact = int((values.square().cumsum(0) < 0.8 * values.square().sum()).sum()) + 1
    assert exact <= count <= exact + 1
    assert len(held.values) >= count


def test_extract_of_a_composition_on_a_host_round_trips(tmp_path):
    base, tuned, adapter = planted(strength=0.5)
    found = extract(base, tuned, rank=3).adapter
    loaded = Adapter.load(found.save(tmp_path / "x.safetensors"))
    assert loaded == found
    half = Adapter({p: type(u)(u.down, u.up, u.alpha / 2) for p, u in adapter.layers.items()})
    for path in PATHS:
        torch.testing.assert_close(
            loaded.layers[path].dense(torch.float64), half.layers[path].dense(torch.float64)
        )
