"""W0 by bytes after any sequence of moves, and every state equal to the one reached directly."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lora_cases import DTYPES, adapter_for, assert_bits, net, picture, weights

from counterpoise.lora import Host
from counterpoise.lora.compiled import rows

NAMES = st.sampled_from(["a", "b", "c"])
STRENGTHS = st.sampled_from([0.0, 1.0, -0.7, 0.3, 2.5, 1e-7])
PATHS = [None, ["fc", "conv"], ["grouped", "fc", "block.fc"]]
REFERENCE = net()
USUAL = rows.LEAST, rows._BLOCK
ADAPTERS = {name: adapter_for(REFERENCE, i, rank=i + 1, paths=PATHS[i]) for i, name in enumerate("abc")}


class Moves(RuleBasedStateMachine):
    """The model of a host is a dictionary of strengths and a flag."""

    @initialize(dtype=st.sampled_from(DTYPES), in_rows=st.booleans(), copies=st.booleans())
    def begin(self, dtype, in_rows, copies):
        rows.LEAST, rows._BLOCK = 1 if in_rows else 2**62, 16
        self.dtype = dtype
        self.model = net(dtype)
        self.before = weights(self.model)
        self.host = Host(self.model, keep_copies=copies)
        self.base = self.host.fingerprint()
        self.mounted: dict[str, float] = {}
        self.folded = False

    @rule(name=NAMES, strength=STRENGTHS)
    def mount(self, name, strength):
        if name not in self.mounted:
            self.host.mount(ADAPTERS[name], name=name, strength=strength)
            self.mounted[name] = strength

    @precondition(lambda self: self.mounted)
    @rule(data=st.data())
    def unmount(self, data):
        name = data.draw(st.sampled_from(sorted(self.mounted)))
        self.host.unmount(name)
        del self.mounted[name]
        self.folded = self.folded and bool(self.mounted)

    @precondition(lambda self: self.mounted)
    @rule(data=st.data())
    def set_strengths(self, data):
        chosen = data.draw(st.dictionaries(st.sampled_from(sorted(self.mounted)), STRENGTHS))
        self.host.set_strengths(chosen)
        self.mounted |= chosen

    @precondition(lambda self: self.mounted)
    @rule()
    def fold(self):
        self.host.fold()
        self.folded = True

    @precondition(lambda self: self.folded)
    @rule()
    def unfold(self):
        self.host.unfold()
        self.folded = False

    @rule()
    def restore(self):
        self.host.restore()
        self.mounted, self.folded = {}, False
        assert not any(m._forward_hooks for m in self.model.modules())

    @rule(name=NAMES, strength=STRENGTHS)
    def within(self, name, strength):
        before = self.host.fingerprint()
        with self.host.mounted(ADAPTERS[name], strength=strength):
            self.model(picture(self.dtype))
        assert self.host.fingerprint() == before

    @invariant()
    def as_if_reached_directly(self):
        assert self.host.strengths == dict(sorted(self.mounted.items()))
        assert self.host.state == ("folded" if self.folded else "mounted" if self.mounted else "bare")
        if not self.folded:
            assert_bits(self.model, self.before)
            assert self.host.fingerprint() == self.base
        fresh = net(self.dtype)
        direct = Host(fresh)
        for name, strength in sorted(self.mounted.items(), reverse=True):
            direct.mount(ADAPTERS[name], name=name, strength=strength)
        if self.folded:
            direct.fold()
            assert direct.fingerprint() == self.host.fingerprint()
        x = picture(self.dtype)
        assert torch.equal(fresh(x), self.model(x))

    def teardown(self):
        if hasattr(self, "host"):
            self.host.restore()
            assert_bits(self.model, self.before)
        rows.LEAST, rows._BLOCK = USUAL


TestMoves = Moves.TestCase
TestMoves.settings = settings(
    max_examples=40,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
