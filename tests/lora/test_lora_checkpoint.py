"""Adapters folded into files: as a Host folds them, whatever interrupts it."""

from __future__ import annotations

import json

import pytest
import torch
from lora_cases import DTYPES, adapter_for, net
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from counterpoise.errors import CounterpoiseError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.lora import checkpoint as room
from counterpoise.lora.checkpoint import PROVENANCE, fold_checkpoint
from counterpoise.lora.kinds import Biased


def saved(tmp_path, model, shards=1):
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    folder = tmp_path / "model"
    folder.mkdir(parents=True)
    if shards == 1:
        save_file(state, folder / "w.safetensors", metadata={"format": "pt"})
        return folder / "w.safetensors"
    names = sorted(state)
    where = {name: f"w-{i % shards}.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({n: state[n] for n in names if where[n] == file}, folder / file)
    (folder / "w.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text("{}")
    return folder


def expected(model, adapters):
    host = Host(model)
    for i, (adapter, strength) in enumerate(adapters):
        host.mount(adapter, name=f"a{i}", strength=strength)
    host.fold()
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    host.restore()
    return state


def assert_close_as_rounded(found, wanted, names):
    for key, tensor in wanted.items():
        if key in names:  # rows are summed in other blocks: a last place may differ
            torch.testing.assert_close(found[key], tensor, rtol=torch.finfo(tensor.dtype).eps * 2, atol=1e-7)
        else:
            assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shards", [1, 3])
def test_as_a_host_folds(tmp_path, dtype, shards, monkeypatch):
    monkeypatch.setattr(room, "_BLOCK", 64)  # many blocks a weight
    model = net(dtype)
    adapters = [(adapter_for(model, 1), 0.7), (adapter_for(model, 2, paths=["fc"]), -1.5)]
    source = saved(tmp_path, model, shards)
    out = tmp_path / ("out" if shards > 1 else "out.safetensors")
    seen = []
    files = fold_checkpoint(source, out, adapters, progress=lambda done, total: seen.append((done, total)))
    found = {key: t for file in files for key, t in load_file(file).items()}
    names = {f"{path}.weight" for adapter, _ in adapters for path in adapter.layers}
    assert_close_as_rounded(found, expected(model, adapters), names)
    assert seen[-1][0] == seen[-1][1]
    with safe_open(files[0], "pt") as opened:
        note = json.loads(opened.metadata()[PROVENANCE])
    assert [parent["strength"] for parent in note["adapters"]] == [0.7, -1.5]
    if shards > 1:
        assert (out / "w.safetensors.index.json").exists()
        assert (out / "config.json").exists()


def test_a_killed_fold_goes_on_and_gives_the_same_bytes(tmp_path, monkeypatch):
    model = net()
    adapters = [(adapter_for(model), 1.0)]
    source = saved(tmp_path, model)
    whole = fold_checkpoint(source, tmp_path / "whole.safetensors", adapters)[0].read_bytes()
    real, out = room._fold_tensor, tmp_path / "again.safetensors"
    left = 3

    def dies(*args, **kwargs):
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        real(*args, **kwargs)

    monkeypatch.setattr(room, "_fold_tensor", dies)
    with pytest.raises(KeyboardInterrupt):
        fold_checkpoint(source, out, adapters)
    assert not out.exists()
    calls = []
    monkeypatch.setattr(room, "_fold_tensor", lambda *a, **k: calls.append(k["key"]) or real(*a, **k))
    fold_checkpoint(source, out, adapters)
    assert out.read_bytes() == whole
    assert 0 < len(calls) < len(adapters[0][0].layers)
    calls.clear()
    fold_checkpoint(source, out, adapters)
    assert not calls


def test_what_does_not_fit_is_refused_before_a_byte_is_written(tmp_path):
    model = net()
    source = saved(tmp_path, model)
    out = tmp_path / "out.safetensors"
    wrong = adapter_for(net(), paths=["fc"])
    for adapter, code in ((wrong.prefixed("unett"), "E_NO_MATCH"),):
        with pytest.raises(CounterpoiseError) as caught:
            fold_checkpoint(source, out, [(adapter, 1.0)])
        assert caught.value.code == code
    with pytest.raises(CounterpoiseError) as caught:
        fold_checkpoint(source, source, [(wrong, 1.0)])
    assert caught.value.code == "E_PATH"
    with pytest.raises(CounterpoiseError) as caught:
        fold_checkpoint(tmp_path / "none", out, [(wrong, 1.0)])
    assert caught.value.code == "E_MISSING"
    with pytest.raises(CounterpoiseError) as caught:
        fold_checkpoint(saved(tmp_path / "half", net(torch.float16)), out, [(wrong, 1e9)])
    assert caught.value.code == "E_OVERFLOW"
    assert not out.exists()


def test_a_components_file_takes_its_part_of_a_pipelines_adapter(tmp_path):
    model = net()
    source = saved(tmp_path, model)
    adapter = adapter_for(model, paths=["fc"]).prefixed("unet")
    found = load_file(fold_checkpoint(source, tmp_path / "o.safetensors", [(adapter, 1.0)], prefix="unet")[0])
    assert not torch.equal(found["fc.weight"], model.fc.weight)


def test_every_kind_lands_with_its_bias(tmp_path):
    from test_lora_kinds_mounted import BIASED, KINDS

    for i, (path, update) in enumerate([*KINDS.values(), *BIASED.values()]):
        model = net()
        adapters = [(Adapter({path: update}), 0.7)]
        source = saved(tmp_path / str(i), model)
        fold_checkpoint(source, tmp_path / f"{i}.safetensors", adapters)
        wanted = expected(model, adapters)
        assert_close_as_rounded(
            load_file(tmp_path / f"{i}.safetensors"), wanted, {f"{path}.weight", f"{path}.bias"}
        )
        assert not torch.equal(wanted[f"{path}.weight"], model.state_dict()[f"{path}.weight"])


def test_a_bias_that_the_checkpoint_lacks_is_refused(tmp_path):
    update = Biased(LowRank(torch.ones(2, 10), torch.ones(6, 2), 2.0), torch.ones(6))
    with pytest.raises(CounterpoiseError, match=r"block\.out has no bias") as caught:
        fold_checkpoint(
            saved(tmp_path, net()), tmp_path / "o.safetensors", [(Adapter({"block.out": update}), 1.0)]
        )
    assert caught.value.code == "E_LAYER"
