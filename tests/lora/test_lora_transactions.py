"""Refused calls, exceptions in the middle of a move, and others who touch the model meanwhile."""

from __future__ import annotations

import math

import pytest
import torch
from lora_cases import adapter_for, assert_bits, linear_adapter, net, picture, picture_of, weights
from torch import nn

from counterpoise.errors import CounterpoiseError, RefusedInputError, StateError, UsageError
from counterpoise.lora import Adapter, Host, LowRank

pytestmark = pytest.mark.usefixtures("fold_way")


@pytest.fixture
def model():
    return net()


REFUSED_CALLS = {
    "empty name": (lambda h, a: h.mount(a, name=""), "E_NAME"),
    "dotted name": (lambda h, a: h.mount(a, name="a.b"), "E_NAME"),
    "path as name": (lambda h, a: h.mount(a, name="../x"), "E_NAME"),
    "dunder name": (lambda h, a: h.mount(a, name="__class__"), "E_NAME"),
    "newline in name": (lambda h, a: h.mount(a, name="a\n"), "E_NAME"),
    "number as name": (lambda h, a: h.mount(a, name=3), "E_NAME"),
    "taken name": (lambda h, a: h.mount(a, name="first"), "E_DUP_NAME"),
    "NaN strength": (lambda h, a: h.mount(a, name="b", strength=math.nan), "E_STRENGTH"),
    "infinite strength": (lambda h, a: h.mount(a, name="b", strength=math.inf), "E_STRENGTH"),
    "true strength": (lambda h, a: h.mount(a, name="b", strength=True), "E_STRENGTH"),
    "strength of 400 digits": (lambda h, a: h.mount(a, name="b", strength=10**400), "E_STRENGTH"),
    "strength past float32": (lambda h, a: h.mount(a, name="b", strength=1e300), "E_OVERFLOW"),
    "strength past float32 later": (lambda h, a: h.set_strengths({"first": 1e300}), "E_OVERFLOW"),
    "text strength": (lambda h, a: h.mount(a, name="b", strength="1"), "E_STRENGTH"),
    "no adapter": (lambda h, a: h.mount("file.safetensors", name="b"), "E_ADAPTER"),
    "unknown unmount": (lambda h, a: h.unmount("frist"), "E_NAME"),
    "unknown strength": (lambda h, a: h.set_strengths({"first": 2.0, "secnd": 1.0}), "E_NAME"),
    "bad strength": (lambda h, a: h.set_strengths({"first": math.nan}), "E_STRENGTH"),
    "no mapping": (lambda h, a: h.set_strengths(0.5), "E_STRENGTH"),
    "fold in half": (lambda h, a: h.fold(dtype=torch.float16), "E_DTYPE"),
    "wrong prefix": (lambda h, a: h.mount(linear_adapter("blok.fc"), name="b"), "E_NO_MATCH"),
    "wrong width": (lambda h, a: h.mount(linear_adapter(width=7), name="b"), "E_SHAPE"),
    "linear on conv": (lambda h, a: h.mount(linear_adapter("conv"), name="b"), "E_SHAPE"),
    "embedding": (lambda h, a: h.mount(linear_adapter("norm"), name="b"), "E_LAYER"),
    "norm": (lambda h, a: h.mount(linear_adapter("norm"), name="b"), "E_LAYER"),
}


@pytest.mark.parametrize("state", ["mounted", "folded"])
@pytest.mark.parametrize("case", REFUSED_CALLS)
def test_a_refused_call_changes_nothing(model, case, state):
    host = Host(model)
    host.mount(adapter_for(model), name="first")
    if state == "folded":
        host.fold()
    call, code = REFUSED_CALLS[case]
    before = picture_of(model), host.strengths, host.state
    with pytest.raises(CounterpoiseError) as caught:
        call(host, adapter_for(model, 9))
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert (picture_of(model), host.strengths, host.state) == before


def test_messages_name_the_nearest(model):
    host = Host(model)
    host.mount(adapter_for(model), name="first")
    with pytest.raises(UsageError, match=r"'frist' is mounted \(mounted: first\); nearest: first"):
        host.unmount("frist")
    with pytest.raises(RefusedInputError, match=r"1 of 1 layers .* blok\.fc; nearest: block\.fc"):
        host.mount(linear_adapter("blok.fc"), name="b")
    wrapped = nn.ModuleDict({"unet": net()})
    with pytest.raises(RefusedInputError, match=r"mount adapter\.prefixed\('unet'\)"):
        Host(wrapped).mount(linear_adapter())


def test_moves_that_the_state_forbids(model):
    host = Host(model)
    for call in (host.unfold, host.fold):
        with pytest.raises(StateError):
            call()
    host.mount(adapter_for(model))
    with pytest.raises(StateError, match="not folded"):
        host.unfold()


def test_one_bad_layer_of_many_stops_the_whole_mount(model):
    """B3: PEFT has merged the first modules when it finds NaN in the last."""
    good = adapter_for(model)
    host, before = Host(model), picture_of(model)
    good.layers["point"].up[0, 0] = math.nan  # behind the LowRank's back
    with pytest.raises(RefusedInputError, match="layer point: up has 1 of"):
        host.mount(good)
    assert picture_of(model) == before


def test_an_sdxl_adapter_on_sd15_is_told_apart():
    """B13: diffusers leaves 96 LoRA modules injected after this error."""
    path = "down.attn2.to_k"
    model = nn.ModuleDict({"down": nn.ModuleDict({"attn2": nn.ModuleDict({"to_k": nn.Linear(768, 4)})})})
    with pytest.raises(
        RefusedInputError, match="made for stable-diffusion-xl-v1, model is stable-diffusion-v1"
    ):
        Host(model).mount(linear_adapter(path, width=2048, out=4))


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_fold_that_overflows_is_refused_and_nothing_changes(dtype, copies):
    model = net(dtype)
    host = Host(model, keep_copies=copies)
    layers = {p: LowRank(u.down * 100, u.up, u.alpha) for p, u in adapter_for(model).layers.items()}
    host.mount(Adapter(layers), name="a", allow_extreme=True)
    host.fold()
    before = picture_of(model), host.strengths
    with pytest.raises(UsageError, match="lower the strength") as caught:
        host.set_strengths({"a": 1e5 if dtype == torch.float16 else 1e38})
    assert caught.value.code == "E_OVERFLOW"
    assert (picture_of(model), host.strengths) == before
    host.restore()


@pytest.mark.parametrize("when", [1, 3, 7, 8, 10])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_middle_of_any_write_undoes_the_move(model, monkeypatch, when, error):
    from counterpoise.lora import moves as module

    host = Host(model)
    host.mount(adapter_for(model), name="a")
    host.mount(adapter_for(model, 2), name="b")
    real, count = module.overwrite, 0

    def failing(weight, value):
        nonlocal count
        count += 1
        real(weight, value)
        if count == when:  # after the write: the worst moment
            raise error("in the middle")

    moves = [
        host.fold,
        lambda: host.set_strengths({"a": 0.5}),
        lambda: host.unmount("b"),
        host.unfold,
        host.restore,
    ]
    for move in moves:
        before = picture_of(model), host.strengths, host.state
        count = 0
        monkeypatch.setattr(module, "overwrite", failing)
        try:
            move()
        except error:
            # Handles are new objects with new ids after a roll-back; what is hooked must be the same.
            assert (_without_ids(picture_of(model)), host.strengths, host.state) == (
                _without_ids(before[0]), *before[1:],
            )  # fmt: skip
            monkeypatch.setattr(module, "overwrite", real)
            move()
        else:
            monkeypatch.setattr(module, "overwrite", real)
    assert host.state == "bare"
    assert_bits(model, weights(net()))


@pytest.mark.parametrize("when", [1, 3, 5])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("group", [1, 2**21])
def test_an_exception_while_a_weight_is_written_in_place_undoes_the_move(
    model, monkeypatch, when, error, group, fold_way
):
    """With W0 kept whole, a folded weight is written where it lies: half of it may be the new one."""
    from counterpoise.lora import moves as module

    monkeypatch.setattr(module, "_GROUP", group)
    host = Host(model, keep_copies=True)
    host.mount(adapter_for(model), name="a")
    host.mount(adapter_for(model, 2), name="b", strength=0.0)
    host.fold()
    name = "fold_rows" if fold_way == "in rows" else "fold_weight"
    before, real, count = picture_of(model), getattr(module, name), 0

    def failing(*args, **kwargs):
        nonlocal count
        count += 1
        made = real(*args, **kwargs)
        if count == when and name == "fold_weight":
            made[0].flatten()[: made[0].numel() // 2] += 1
        if count == when:
            raise error("in the middle")
        return made

    def failing_later(layers):
        nonlocal count
        for made in real(layers):
            count += 1
            if count == when:
                raise error("in the middle")
            yield made

    monkeypatch.setattr(module, name, failing if name == "fold_weight" else failing_later)
    with pytest.raises(error):
        host.set_strengths({"a": 0.0, "b": 1.0})
    monkeypatch.undo()
    assert (picture_of(model), host.strengths) == (before, {"a": 1.0, "b": 0.0})
    host.set_strengths({"a": 0.0, "b": 1.0})
    host.restore()
    assert_bits(model, weights(net()))


def _without_ids(found):
    digest, parts, flags, rng = found
    bare = tuple(
        (name, kind, tuple(hook for _, hook in hooks), *rest[1:]) for name, kind, hooks, *rest in parts
    )
    return digest, bare, flags, rng


@pytest.mark.parametrize("folded", [False, True])
def test_an_exception_while_hooking_undoes_the_move(model, monkeypatch, folded):
    host = Host(model)
    host.mount(adapter_for(model), name="a")
    if folded:
        host.fold()
    before = _without_ids(picture_of(model)), host.state
    count = 0

    def failing(self, *args, **kwargs):
        nonlocal count
        count += 1
        if count == 4:
            raise MemoryError
        return nn.Module.register_forward_hook(self, *args, **kwargs)

    for layer in (nn.Linear, nn.Conv2d):
        monkeypatch.setattr(layer, "register_forward_hook", failing, raising=False)
    with pytest.raises(MemoryError):
        host.unfold() if folded else host.mount(adapter_for(model, 2), name="b")
    monkeypatch.undo()
    assert (_without_ids(picture_of(model)), host.state) == before
    host.restore()
    assert_bits(model, weights(net()))


@pytest.mark.parametrize("folded", [False, True])
def test_weights_changed_by_others_are_noticed(model, folded):
    host = Host(model, keep_copies=True)
    host.mount(adapter_for(model, paths=["fc", "conv"]))
    if folded:
        host.fold()
    with torch.no_grad():
        model.fc.weight[0, 0] += 1
    changed = weights(model)
    for call in (host.restore, host.unfold) if folded else (host.restore, host.fold):
        with pytest.raises(StateError, match="weight of fc was changed by others"):
            call()
        assert_bits(model, changed)
    host.restore(force=True)
    assert host.state == "bare"
    if folded:
        assert_bits(model, weights(net()))
    assert not any(module._forward_hooks for module in model.modules())


def test_weights_changed_by_others_are_noticed_where_the_way_of_folding_changes(model):
    """What torch's operations folded in float64, the compiled loops fold anew in float32."""
    host = Host(model, keep_copies=True)
    host.mount(adapter_for(model, paths=["fc", "conv"]))
    host.fold(dtype=torch.float64)
    with torch.no_grad():
        model.fc.weight[0, 0] += 1
    changed = weights(model)
    with pytest.raises(StateError, match="weight of fc was changed by others"):
        host.fold()
    assert_bits(model, changed)
    host.restore(force=True)
    assert_bits(model, weights(net()))


@pytest.mark.parametrize(
    "change", [lambda m: m.half(), lambda m: setattr(m.fc.weight, "data", m.fc.weight.data[:2])]
)
def test_a_weight_of_another_type_or_size_is_noticed_though_w0_is_kept_whole(model, change):
    """The compiled loops are told addresses and sizes: those of W0 have to be the weight's."""
    host = Host(model, keep_copies=True)
    host.mount(adapter_for(model, paths=["fc", "conv"]), name="a")
    host.fold()
    change(model)
    changed = weights(model)
    with pytest.raises((StateError, UsageError, RefusedInputError)):
        host.set_strengths({"a": 0.5})
    assert_bits(model, changed)


def test_a_cast_while_folded_is_noticed(model):
    host = Host(model)
    host.mount(adapter_for(model))
    host.fold()
    model.half()
    with pytest.raises(StateError, match="changed by others since it was folded"):
        host.restore()


def test_two_hosts_on_one_model_do_not_bake_in(model):
    first, second = Host(model), Host(model)
    first.mount(adapter_for(model, 1))
    second.mount(adapter_for(model, 2))
    first.fold()
    with pytest.raises(StateError):
        second.fold()
    first.restore()
    second.fold()
    second.restore()
    assert_bits(model, weights(net()))


def test_flags_training_mode_and_rng_are_left_alone(model):
    model.train()
    model.conv.weight.requires_grad_(False)
    model.block.eval()
    host, before = Host(model), picture_of(model)
    host.mount(adapter_for(model))
    host.fold()
    host.set_strengths({"default": 0.3})
    after = picture_of(model)
    assert after[1:] == before[1:]
    host.restore()
    assert picture_of(model) == before
    assert model.fc.weight.grad is None


def test_other_peoples_hooks_stay_and_see_the_whole_output(model):
    seen = []
    model.fc.register_forward_hook(lambda m, args, out: seen.append(out.clone()))
    host, x = Host(model), picture()
    host.mount(adapter_for(model))
    beside = model(x)
    assert torch.equal(seen[-1], beside)
    host.fold()
    model(x)
    torch.testing.assert_close(seen[-1], beside, rtol=1e-4, atol=1e-5)
    host.restore()
    assert len(model.fc._forward_hooks) == 1


def test_tied_weights_are_refused_by_name(model):
    model.block["tied"] = nn.Linear(6, 5)
    model.block["tied"].weight = model.fc.weight
    before = picture_of(model)
    with pytest.raises(RefusedInputError, match=r"shares its weight with block\.tied\.weight") as caught:
        Host(model).mount(linear_adapter())
    assert caught.value.code == "E_TIED"
    assert picture_of(model) == before
    shared = nn.ModuleDict({"a": nn.Linear(6, 5)})
    shared["b"] = shared["a"]
    with pytest.raises(RefusedInputError, match="shares its weight"):
        Host(shared).mount(linear_adapter("b"))
    flat = torch.zeros(60)
    views = nn.ModuleDict({"a": nn.Linear(6, 5), "b": nn.Linear(6, 5), "c": nn.Linear(6, 5)})
    views["a"].weight = nn.Parameter(flat[:30].view(5, 6))
    views["b"].weight = nn.Parameter(flat[15:45].view(5, 6))
    with pytest.raises(RefusedInputError, match="shares its weight"):
        Host(views).mount(linear_adapter("b"))
    views["b"].weight = nn.Parameter(flat[30:].view(5, 6))  # one storage, but apart
    Host(views).mount(linear_adapter("b"))


class Odd(nn.Linear):
    pass


@pytest.mark.parametrize(
    "layer",
    [
        Odd(6, 5),
        nn.MultiheadAttention(6, 2).out_proj,
        nn.Linear(6, 5, device="meta"),
        nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)),
        nn.ConvTranspose1d(6, 5, 1),
        nn.Bilinear(6, 6, 5),
    ],
)
def test_layers_that_would_be_wrong_are_refused(layer):
    with pytest.raises(RefusedInputError) as caught:
        Host(nn.ModuleDict({"fc": layer})).mount(linear_adapter())
    assert caught.value.code == "E_LAYER"


def test_what_is_no_model_is_refused():
    for thing in (None, "model", {}, object()):
        with pytest.raises(UsageError, match="expected a torch module or a diffusers pipeline"):
            Host(thing)


def test_a_moved_model_takes_its_adapters_along(model):
    host = Host(model)
    host.mount(adapter_for(model))
    model(picture())
    model.double()
    assert model(picture(torch.float64)).dtype == torch.float64


def test_an_adapter_of_half_precision_factors(model):
    u = linear_adapter().layers["fc"]
    half = Adapter({"fc": LowRank(u.down.half(), u.up.bfloat16(), u.alpha)})
    with Host(model).mounted(half):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
        expected = nn.functional.linear(x, model.fc.weight + half.layers["fc"].dense(), model.fc.bias)
        torch.testing.assert_close(model.fc(x), expected)


def test_factors_too_large_for_float16_act_beside_it_where_their_product_fits():
    model = net(torch.float16)
    big = Adapter({"fc": LowRank(torch.full((1, 6), 1e-6), torch.full((5, 1), 1e6), 1.0)})
    x = torch.ones(2, 6, dtype=torch.float16)
    plain = model.fc(x)
    with Host(model).mounted(big):
        assert model.fc(x).dtype == torch.float16
        torch.testing.assert_close(model.fc(x), plain + 6, rtol=1e-2, atol=1e-2)


def test_a_model_made_in_inference_mode():
    with torch.inference_mode():
        model = net()
    before = weights(model)
    host = Host(model)
    host.mount(adapter_for(model))
    host.fold()
    host.set_strengths({"default": 2.0})
    assert not torch.equal(model.fc.weight, before["fc.weight"])
    host.restore()
    assert_bits(model, before)


def test_an_adapter_changed_behind_the_hosts_back_cannot_reach_w0(model):
    adapter = adapter_for(model)
    before = weights(model)
    host = Host(model)
    host.mount(adapter)
    host.fold()
    adapter.layers["fc"].up.add_(1)
    host.restore()
    assert_bits(model, before)


@pytest.mark.parametrize("copies", [False, True])
def test_a_spoilt_original_is_not_given_out_as_w0(model, copies, fold_way):
    host = Host(model, keep_copies=copies)
    host.mount(adapter_for(model))
    host.fold()
    path = "fc" if fold_way == "through memory" else "conv"
    folding = host._now.foldings[path]
    spoilt = folding.stack[0].update.up if folding.rows is None else folding.rows._up
    (folding.kept if copies else spoilt)[0, 0] += 1
    folded = weights(model)
    with pytest.raises(StateError, match=f"kept original of {path}"):
        host.restore()
    assert host.state == "folded"
    if copies or fold_way == "through memory":  # in rows, the spoilt product itself went through the weight
        assert_bits(model, folded)


def test_without_copies_an_overwritten_layer_cannot_come_back(model):
    host = Host(model)
    host.mount(adapter_for(model, paths=["fc", "conv"]))
    host.fold()
    with torch.no_grad():
        model.conv.weight[0, 0] += 1
    folded = weights(model)
    with pytest.raises(StateError, match="kept original of conv"):
        host.restore(force=True)
    assert_bits(model, folded)


def test_a_layer_put_in_place_while_bare_is_found(model):
    host = Host(model)
    model.fc = nn.Linear(6, 5)
    host.mount(linear_adapter())
    assert model.fc._forward_hooks
    host.restore()
    assert not model.fc._forward_hooks


def test_a_deep_copy_of_a_mounted_model_draws_alike(model):
    import copy

    with Host(model).mounted(adapter_for(model)):
        twin = copy.deepcopy(model)
        assert torch.equal(twin(picture()), model(picture()))
