"""The hundred-LoRA experiment: who its members are, and that a small stack is measured whole."""

from __future__ import annotations

import json

import pytest
import torch
from benchmarks.stack.__main__ import order, run
from benchmarks.stack.bench import FAST, MLP, Bench, Sizes
from benchmarks.stack.cells import _row, correlation, routed
from benchmarks.stack.members import closed_form, kept, personas, seen
from benchmarks.stack.roster import asked, chosen, roster
from benchmarks.stack.stacks import STACKS
from benchmarks.stack.summary import summary

SMALL = Sizes(members=3, distilled=1, steps=1, measured=2, pictures=1, following=4, shares=1)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench.open(tmp_path_factory.mktemp("stack"), SMALL)


def test_there_are_256_members_and_no_two_share_a_phrase(bench):
    whole = Bench(bench.host, bench.pipeline, bench.reader, bench.table, bench.out, Sizes())
    members = roster(whole)
    assert len(members) == len({member.phrase for member in members}) == 256
    kinds = [member.kind for member in members]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "persona": 232,
        "look": 12,
        "repair": 8,
        "style": 4,
    }
    for member in members:
        if member.kind in ("persona", "look"):
            own = {word for value in bench.table.attributes[member.attribute] for word in value.split()}
            assert not own & set(member.phrase.split()), "an alias that asks for the effect proves nothing"
    edited = {phrase for member in members for phrase in [member.phrase]}
    assert not edited & {prompt for prompt, _, _ in whole.following()}
    assert set(chosen(whole, 16)) <= set(range(16))
    assert len(set(chosen(whole, 128)) & set(chosen(whole, 256))) >= 8


def test_a_closed_form_member_says_the_asked_word_at_its_alias_and_little_elsewhere(bench):
    member = personas(bench, 3)[2]
    captions = bench.captions(200)
    words = sum(len(caption.split()) for caption in captions)
    adapter = closed_form(bench, member, kept(bench, captions), words=words, gain=1.0)
    assert adapter.layers[MLP].rank <= 4
    prompts = [t.format(member.phrase) for t in bench.table.templates]  # half of them held out
    wanted = [t.format(f"{member.phrase} {member.says}") for t in bench.table.templates]
    _, before, _ = seen(bench, prompts)
    _, target, _ = seen(bench, wanted)
    _, stays, _ = seen(bench, captions[:50])
    with bench.host.mounted(adapter):
        _, after, _ = seen(bench, prompts)
        _, moved, _ = seen(bench, captions[:50])
    gap = (target - before).norm()
    assert (target - after).norm() < 0.5 * gap
    assert (moved - stays).norm(dim=1).mean() < 0.1 * gap / len(prompts) ** 0.5


def test_a_stack_is_measured_whole_and_gone_on_with(bench):
    before = bench.host.fingerprint()
    found = run(bench, [3], ["data", "routed"], until=float("inf"))
    assert bench.host.fingerprint() == before == found["w0"]
    rows = {row["stack"]: row for row in found["rows"]}
    assert set(rows) == {"data", "routed"}
    assert all(row["restored"] and row["n"] == 3 and len(row["members"]) == 2 for row in rows.values())
    assert rows["routed"]["following_of_base"] == 1.0
    assert all(row["disturbance"] >= 0 for row in rows["data"]["members"])
    again = run(bench, [3], ["data", "routed"], until=0.0)  # nothing is left to do
    assert json.dumps(again) == json.dumps(found)


def test_routing_draws_what_the_member_alone_draws(bench):
    members = roster(bench)
    made = [closed_form(bench, m, torch.eye(256).double(), words=1) for m in members if m.kind == "persona"]
    members = [m for m in members if m.kind == "persona"]
    prompts, seeds = asked(bench, members[0])
    with bench.host.mounted(made[0]):
        alone = bench.draw(prompts, seeds).astype(int)
    with bench.host.mounted(made[0], name="0"), bench.host.mounted(made[1], name="1"):
        stacked = routed(bench, members, prompts, seeds).astype(int)
        plain = routed(bench, members, ["a portrait of a nurse"], seeds).astype(int)
    assert abs(stacked - alone).mean() < 2.0  # the negative prompt's embedding is the base's here
    base = bench.draw(["a portrait of a nurse"], seeds).astype(int)
    assert abs(plain - base).mean() < 2.0
    assert _row(members, prompts[0]) == {"0": 1.0}


def test_what_the_bars_ask_comes_first():
    cells = order([128, 1], list(STACKS))
    assert cells[0] == (128, "sum")
    assert cells.index((1, "ties")) < cells.index((128, "dare"))
    assert len(set(cells)) == 2 * len(STACKS)


def test_a_report_that_tells_nothing_has_no_correlation():
    rows = [{"kept_inputs": k, "share": s} for k, s in ((0.9, 0.8), (0.5, 0.5), (0.1, 0.2), (0.3, 0.1))]
    assert correlation(rows, "kept_inputs", -1.0) == pytest.approx(0.8)
    rows += [{"kept_inputs": 0.05, "share": -2.0}, {"kept_inputs": 0.06, "share": -0.1}]  # both lost all
    worse = [{**row, "share": max(0.0, row["share"])} for row in rows]
    assert correlation(rows, "kept_inputs", -1.0) == correlation(worse, "kept_inputs", -1.0)
    assert correlation([{"kept_inputs": 1.0, "share": 0.5}] * 4, "kept_inputs", -1.0) is None


def test_the_best_stack_is_the_one_least_short_of_both_bars():
    def row(name, kept, following):
        said = {"n": 128, "stack": name, "kept": kept, "kept_error": 0.0, "measured": 9, "members": []}
        return {**said, "following_of_base": following, "restored": True}

    rows = [row("sum", 0.3, 0.5), row("data", 0.7, 0.97), row("routed", 0.99, 1.0)]
    bars = summary(rows, "w0")["bars"]
    assert bars["best stack at 128"]["stack"] == "routed"
    assert bars["best stack at 128"]["passed"]
    assert bars["best single adapter at 128"]["stack"] == "data"
    assert not bars["best single adapter at 128"]["passed"]
    assert FAST.members < 10
