"""Ctrl-C at any line of a move: all of it is done, or none."""

from __future__ import annotations

import sys

import pytest
import torch
from lora_cases import adapter_for, assert_bits, net, picture, weights

from counterpoise.lora import Host, trainable

pytestmark = pytest.mark.usefixtures("fold_way")

MOVES = {
    "mount": (False, lambda h, c: h.mount(c, name="c")),
    "mount while folded": (True, lambda h, c: h.mount(c, name="c")),
    "fold": (False, lambda h, c: h.fold()),
    "unfold": (True, lambda h, c: h.unfold()),
    "strengths": (False, lambda h, c: h.set_strengths({"a": 0.5, "b": 2.0})),
    "strengths while folded": (True, lambda h, c: h.set_strengths({"a": 0.5, "b": 2.0})),
    "unmount while folded": (True, lambda h, c: h.unmount("b")),
    "restore": (False, lambda h, c: h.restore()),
    "restore while folded": (True, lambda h, c: h.restore()),
}


class InterruptAt:
    """Raise KeyboardInterrupt at the n-th line executed in the room's own files."""

    def __init__(self, line: int) -> None:
        self.line, self.seen = line, 0

    def __call__(self, frame, event, arg):
        if "/counterpoise/lora/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.seen += 1
            if self.seen == self.line:
                raise KeyboardInterrupt
        return self

    def run(self, call) -> bool:
        """Whether `call` was interrupted."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False


def seen(host, model):
    hooks = {name for name, module in model.named_modules() if module._forward_hooks}
    return host.state, host.strengths, host.fingerprint(), hooks, model(picture()).tolist()


def prepared(folded, copies=False):
    model = net()
    host = Host(model, keep_copies=copies)
    host.mount(adapter_for(model, 1, paths=["fc", "conv"]), name="a")
    host.mount(adapter_for(model, 2, paths=["fc"]), name="b", strength=0.5)
    if folded:
        host.fold()
    return host, model


@pytest.mark.parametrize(
    ("move", "copies"), [*((move, False) for move in MOVES), ("strengths while folded", True), ("fold", True)]
)
def test_an_interrupt_at_any_line_of_a_move(move, copies):
    folded, call = MOVES[move]
    third = adapter_for(net(), 3, paths=["point"])
    host, model = prepared(folded, copies)
    before = seen(host, model)
    call(host, third)
    after = seen(host, model)
    line = 0
    interrupted = True
    while interrupted:
        line += 41 if move.startswith("mount") else 9  # not every line, to stay fast; mounting checks a lot
        host, model = prepared(folded, copies)
        interrupted = InterruptAt(line).run(lambda host=host: call(host, third))
        assert seen(host, model) in (before, after)
        host.restore()
        assert_bits(model, weights(net()))
    assert line > 60


def test_an_interrupt_at_any_line_of_entering_trainable_factors():
    line, interrupted = 0, True
    while interrupted:
        line += 1
        model = net()
        factors = trainable(model, ["fc", "conv"], rank=2, generator=torch.Generator().manual_seed(0))
        interrupted = InterruptAt(line).run(factors.__enter__)
        if interrupted:
            assert not any(module._forward_hooks for module in model.modules())
            assert all(p.requires_grad for p in model.parameters())
    assert line > 20
