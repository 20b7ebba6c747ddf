"""The host as a state machine: every move, every refusal, and W0 back by bytes."""

from __future__ import annotations

import math

import pytest
import torch
from lora_cases import DTYPES, adapter_for, assert_bits, net, picture, picture_of, weights

from counterpoise.errors import UsageError
from counterpoise.lora import Adapter, Host

pytestmark = pytest.mark.usefixtures("fold_way")


@pytest.fixture
def model():
    return net()


def test_public_names_come_from_the_package():
    import counterpoise

    assert counterpoise.Host is Host
    assert counterpoise.Adapter is Adapter
    with pytest.raises(AttributeError):
        counterpoise.Nothing  # noqa: B018


def test_states_and_fingerprints(model):
    host, x = Host(model), picture()
    base, plain = host.fingerprint(), model(x)
    assert host.state == "bare"
    host.mount(adapter_for(model), name="a", strength=0.8)
    assert (host.state, host.fingerprint(), host.strengths) == ("mounted", base, {"a": 0.8})
    beside = model(x)
    assert not torch.equal(beside, plain)
    host.fold()
    folded = host.fingerprint()
    assert host.state == "folded"
    assert folded != base
    assert not any(module._forward_hooks for module in model.modules())
    torch.testing.assert_close(model(x), beside, rtol=1e-4, atol=1e-5)
    host.fold()
    assert host.fingerprint() == folded
    host.unfold()
    assert (host.state, host.fingerprint()) == ("mounted", base)
    assert torch.equal(model(x), beside)
    host.fold()
    assert host.fingerprint() == folded
    host.restore()
    assert (host.state, host.fingerprint()) == ("bare", base)
    assert torch.equal(model(x), plain)
    host.restore()


def test_fingerprint_covers_buffers_names_dtypes_and_shapes(model):
    seen = {Host(model).fingerprint()}
    model.norm.running_mean.add_(1)
    seen.add(Host(model).fingerprint())
    model.register_buffer("hidden", torch.zeros(2), persistent=False)
    seen.add(Host(model).fingerprint())
    model.hidden = torch.zeros(1, 2)
    seen.add(Host(model).fingerprint())
    seen.add(Host(model.half()).fingerprint())
    assert len(seen) == 5
    assert Host(net()).fingerprint() == Host(net()).fingerprint()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_hundred_cycles_leave_not_one_bit(dtype):
    """C11: PEFT drifts by 2e-3 here in bfloat16."""
    model = net(dtype)
    before = weights(model)
    host = Host(model)
    host.mount(adapter_for(model, alpha=40), name="a")
    for i in range(100):
        host.set_strengths({"a": 0.01 * i})
        host.fold()
        host.unfold()
    host.restore()
    assert_bits(model, before)


def test_nan_and_signed_zero_in_w0_come_back(model):
    with torch.no_grad():
        model.fc.weight[0, 0] = math.nan
        model.fc.weight[1, 1] = -0.0
        model.fc.weight[2, 2] = math.inf
    before = weights(model)
    host = Host(model)
    host.mount(adapter_for(model))
    host.fold()
    host.restore()
    assert_bits(model, before)


def test_every_move_while_folded_refolds_from_w0(model):
    a, b = adapter_for(model, 1), adapter_for(model, 2, paths=["fc", "conv"])
    host = Host(model)
    before = weights(model)
    host.mount(a, name="a")
    host.fold()
    only_a = host.fingerprint()
    host.mount(b, name="b", strength=3.0)
    both = host.fingerprint()
    assert both != only_a
    assert host.state == "folded"
    host.set_strengths({"b": 2.0})
    assert host.fingerprint() not in {both, only_a}
    host.set_strengths({"b": 3.0})
    assert host.fingerprint() == both
    host.unmount("a")
    host.unmount("b")
    assert host.state == "bare"
    assert_bits(model, before)


def test_a_layer_left_by_its_last_adapter_is_w0_at_once(model):
    host = Host(model)
    before = weights(model)
    host.mount(adapter_for(model, 1, paths=["fc"]), name="a")
    host.mount(adapter_for(model, 2, paths=["conv"]), name="b")
    host.fold()
    host.unmount("b")
    assert torch.equal(model.conv.weight, before["conv.weight"])
    assert not torch.equal(model.fc.weight, before["fc.weight"])


def test_only_touched_layers_are_copied(model):
    host = Host(model)
    host.mount(adapter_for(model, paths=["fc"]))
    host.fold()
    assert set(host._now.foldings) == {"fc"}


class TestContext:
    def test_bare_before_and_after(self, model):
        host = Host(model)
        before = picture_of(model)
        with host.mounted(adapter_for(model), strength=0.8) as same:
            assert same is host
            assert host.state == "mounted"
        assert host.state == "bare"
        assert picture_of(model) == before

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, SystemExit])
    @pytest.mark.parametrize("fold", [False, True])
    def test_exceptions_in_the_body(self, model, error, fold):
        host, before = Host(model), picture_of(model)

        def body():
            with host.mounted(adapter_for(model)):
                if fold:
                    host.fold()
                raise error

        with pytest.raises(error):
            body()
        assert host.state == "bare"
        assert picture_of(model) == before

    def test_only_its_own_adapter_goes(self, model):
        host, x = Host(model), picture()
        host.mount(adapter_for(model, 1), name="a")
        with_a = model(x)
        with host.mounted(adapter_for(model, 2)), host.mounted(adapter_for(model, 3)):
            assert len(host.strengths) == 3
        assert host.strengths == {"a": 1.0}
        assert torch.equal(model(x), with_a)

    def test_a_folded_host_is_folded_again(self, model):
        host = Host(model)
        host.mount(adapter_for(model, 1), name="a")
        host.fold()
        before = host.fingerprint()
        with host.mounted(adapter_for(model, 2)):
            assert host.state == "folded"
            assert host.fingerprint() != before
            host.unfold()
        assert (host.state, host.fingerprint()) == ("folded", before)

    def test_restoring_inside_is_allowed(self, model):
        host = Host(model)
        with host.mounted(adapter_for(model)):
            host.restore()
        assert host.state == "bare"

    def test_a_taken_name_leaves_the_first_in_place(self, model):
        host = Host(model)
        host.mount(adapter_for(model), name="a")
        with pytest.raises(UsageError, match="already mounted"), host.mounted(adapter_for(model), name="a"):
            pass
        assert host.strengths == {"a": 1.0}

    def test_a_generator_closed_early(self, model):
        host, before = Host(model), picture_of(model)

        def drawing():
            with host.mounted(adapter_for(model)):
                host.fold()
                yield 1
                yield 2

        steps = drawing()
        next(steps)
        steps.close()
        assert picture_of(model) == before
