"""B23: a delta past all measure of its weight is told, and taken only when it is meant."""

from __future__ import annotations

import pytest
import torch
from lora_cases import adapter_for, assert_bits, net, picture_of, weights
from safetensors.torch import load_file, save_file

from counterpoise.errors import RefusedInputError
from counterpoise.lora import Adapter, Host, LowRank
from counterpoise.lora.checkpoint import fold_checkpoint
from counterpoise.lora.inspection import inspect_adapter
from counterpoise.lora.kinds import Full


def extreme(model, times=1e4, path="fc"):
    """An adapter whose delta on `path` is `times` as long as the weight; the other layers' are small."""
    layers = dict(adapter_for(model).layers)
    update = layers[path]
    factor = times * float(model.get_submodule(path).weight.detach().norm() / update.dense().norm())
    layers[path] = LowRank(update.down, update.up * factor, update.alpha)
    return Adapter(layers)


@pytest.mark.parametrize("state", ["bare", "mounted", "folded"])
def test_an_extreme_delta_is_refused_and_nothing_changes(state):
    model = net()
    host = Host(model)
    if state != "bare":
        host.mount(adapter_for(model, 2), name="first")
    if state == "folded":
        host.fold()
    before = picture_of(model), host.strengths
    with pytest.raises(RefusedInputError, match=r"layer fc is 1e\+04 times as long as its weight") as caught:
        host.mount(extreme(model if state != "folded" else net()))
    assert caught.value.code == "E_EXTREME"
    assert (picture_of(model), host.strengths) == before


def test_it_is_taken_when_it_is_meant_and_w0_comes_back():
    model = net()
    host, before = Host(model), weights(model)
    host.mount(extreme(model), allow_extreme=True)
    host.fold()
    host.restore()
    assert_bits(model, before)
    with host.mounted(extreme(model), allow_extreme=True):
        assert host.state == "mounted"


def test_the_measure_is_a_hundred_times_the_weight():
    model = net()
    for times, refused in ((99.0, False), (101.0, True)):
        host = Host(model)
        if refused:
            with pytest.raises(RefusedInputError):
                host.mount(extreme(model, times))
        else:
            host.mount(extreme(model, times))


def test_a_weight_of_zeros_has_no_measure():
    model = net()
    with torch.no_grad():
        model.fc.weight.zero_()
    Host(model).mount(Adapter({"fc": Full(torch.ones(5, 6))}))


def test_inspect_flags_it(tmp_path):
    model = net()
    file = extreme(model).save(tmp_path / "a.safetensors")
    assert any("fc is extreme" in warning for warning in inspect_adapter(file, model).warnings)
    assert not inspect_adapter(file).warnings


def test_a_checkpoint_is_not_folded_with_it(tmp_path):
    model = net()
    save_file(
        {key: tensor.contiguous() for key, tensor in model.state_dict().items()}, tmp_path / "w.safetensors"
    )
    chosen = [(extreme(model), 1.0)]
    with pytest.raises(RefusedInputError, match="--allow-extreme") as caught:
        fold_checkpoint(tmp_path / "w.safetensors", tmp_path / "out.safetensors", chosen)
    assert caught.value.code == "E_EXTREME"
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
    fold_checkpoint(tmp_path / "w.safetensors", tmp_path / "out.safetensors", chosen, allow_extreme=True)
    found = load_file(tmp_path / "out.safetensors")["fc.weight"]
    torch.testing.assert_close(found, model.fc.weight + chosen[0][0].layers["fc"].dense())
