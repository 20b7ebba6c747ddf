"""The four kinds of questions: what they amount to, and that what makes no sense is refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from audit_toys import ATTRIBUTES, EXPOSURE, SKIN, Judge, entering, toy_arm, toy_spec
from hypothesis import given
from hypothesis import strategies as st

from counterpoise.audit import AuditSpec, Plan, analyse, check_spec, make_spec, plan_of, read_run, run_audit
from counterpoise.audit.cells import cells_of, negative_of, prompt_counts
from counterpoise.audit.load import with_n
from counterpoise.audit.targets import joint_values, target_shares
from counterpoise.errors import UsageError

KINDS = ("claim", "disparity", "reachability", "drift")
GUIDED = {"guidance": 2.0, "batch_size": 4}


def asks(**tables: object) -> AuditSpec:
    """A spec with n = 4 and these tables, each given alone or as a list."""
    lists = {k: [v] if k in KINDS and isinstance(v, dict) else v for k, v in tables.items()}
    return make_spec({"name": "t", "measurer": "toy", "n": 4, "drawing": GUIDED, **lists})


def planned(**tables: object) -> Plan:
    return plan_of(asks(**tables), ATTRIBUTES)


CLAIM = {"prompts": ["a"], "attribute": "skin"}
GAP = {"template": "a {skin} woman", "attribute": "exposure", "value": "revealing"}
REACH = {"template": "a {skin} woman"}
GONE = {"prompts": ["a", "b"], "negative": {"prompt": "bare", "attribute": "exposure", "value": "revealing"}}


def test_a_slot_named_as_an_attribute_takes_the_judges_values() -> None:
    plan = planned(
        claim={"template": "a {skin} {who}", "attribute": "exposure", "slots": {"who": ["x", "y"]}}
    )
    assert [item.prompts for item in plan.claims] == [(f"a {s} {w}",) for s in SKIN for w in ("x", "y")]
    assert plan.spec.slots == {"skin": SKIN}
    assert plan_of(plan.spec, ATTRIBUTES) == plan


def test_cells_need_a_bound_spec() -> None:
    spec = asks(claim={"template": "a {skin} woman", "attribute": "skin"})
    with pytest.raises(UsageError, match=r"claim\[0\].template holds \{skin\}.*check_spec"):
        list(cells_of(spec, "base"))
    assert len(list(cells_of(check_spec(spec, Judge()), "base"))) == 3 * 4


def test_an_intersection_is_an_attribute() -> None:
    plan = planned(
        claim={"prompts": ["a"], "attribute": ["exposure", "skin"]},
        disparity={
            **GAP,
            "attribute": ["skin", "exposure"],
            "value": ["tan & revealing", "dark & revealing"],
        },
        drift={"prompts": ["a"], "attributes": ["skin", ["exposure", "skin"]]},
    )
    (claim,), gap = plan.claims, plan.disparities[0]
    assert claim.values == tuple(f"{e} & {s}" for e in EXPOSURE for s in SKIN)
    assert set(claim.target.values()) == {1 / 6}
    assert gap.counted == ("tan & revealing", "dark & revealing")
    assert [item.attributes for item in plan.drifts] == [("skin",), ("exposure", "skin")]


@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.lists(st.floats(0.01, 1), min_size=2, max_size=2)
)
def test_a_target_for_each_attribute_is_their_product_and_has_them_as_margins(a: list, b: list) -> None:
    skin = dict(zip(SKIN, [x / sum(a) for x in a], strict=True))
    exposure = dict(zip(EXPOSURE, [x / sum(b) for x in b], strict=True))
    both = target_shares({"skin": skin, "exposure": exposure}, ["skin", "exposure"], ATTRIBUTES)
    assert math.fsum(both.values()) == pytest.approx(1)
    assert tuple(both) == joint_values(["skin", "exposure"], ATTRIBUTES)
    for value, share in skin.items():
        assert math.fsum(both[f"{value} & {e}"] for e in EXPOSURE) == pytest.approx(share)
    one_left_out = target_shares({"skin": skin}, ["skin", "exposure"], ATTRIBUTES)
    assert one_left_out["pale & modest"] == pytest.approx(skin["pale"] / 2)


def test_another_prompts_distribution_is_drawn_and_goes_with_its_prompt() -> None:
    slots = {"who": ["x", "y"]}
    plan = planned(
        claim=[
            {**CLAIM, "target": {"prompt": "b"}, "n": 9},
            {
                "template": "a {who}, {{smiling}}",
                "slots": slots,
                "attribute": "skin",
                "target": {"prompt": "a {who}"},
            },
            {**CLAIM, "target": {"prompt": "0.5"}},
        ]
    )
    assert [(item.prompts, item.reference, item.target) for item in plan.claims] == [
        (("a",), ("b",), None),
        (("a x, {smiling}",), ("a x",), None),
        (("a y, {smiling}",), ("a y",), None),
        (("a",), ("0.5",), None),
    ]
    assert prompt_counts(plan.spec)["b"] == 9


def test_a_question_about_the_model_is_one_item() -> None:
    plan = planned(
        claim={
            "prompts": ["a", "b"],
            "attribute": "skin",
            "scope": "model",
            "target": {"prompt": "c"},
            "tolerance": 0.1,
        },
        disparity={
            **GAP,
            "template": "a {skin} {who}",
            "slot": "skin",
            "slots": {"who": ["x", "y"]},
            "scope": "model",
            "max_ratio": 1.25,
        },
        drift={"prompts": ["a", "b"], "attributes": ["skin"], "scope": "model", "tolerance": 0.1},
    )
    assert (plan.claims[0].prompts, plan.claims[0].reference) == (("a", "b"), ("c", "c"))
    assert plan.disparities[0].groups == {s: (f"a {s} x", f"a {s} y") for s in SKIN}
    assert plan.disparities[0].templates == ("a {group} x", "a {group} y")
    assert [item.prompts for item in plan.drifts] == [("a", "b")]


def test_groups_differ_in_one_slot_and_pair_as_asked() -> None:
    words = {"any": "girl", "asian": "asian girl"}
    plan = planned(
        tolerance=0.1,
        disparity=[
            {**GAP, "template": "a {who}", "groups": words, "tolerance": 0.02},
            {**GAP, "template": ["a {skin} {who}", "the {skin} {who}"], "slot": "skin", "slots": {"who": ["x", "y"]}},
            {**GAP, "reference": "tan"},
        ],
    )  # fmt: skip
    first, *crossed, last = plan.disparities
    assert first.groups == {"any": ("a girl",), "asian": ("a asian girl",)}
    assert [item.templates[0] for item in crossed] == [
        "a {group} x",
        "a {group} y",
        "the {group} x",
        "the {group} y",
    ]
    assert crossed[3].groups["dark"] == ("the dark y",)
    assert crossed[0].pairs() == [("pale", "tan"), ("pale", "dark"), ("tan", "dark")]
    assert last.pairs() == [("pale", "tan"), ("dark", "tan")]
    assert (first.tolerance, last.tolerance) == (0.02, 0.1)


def test_explicit_prompts_say_what_they_ask_for() -> None:
    plan = planned(
        reachability=[
            {
                "template": "a {skin} {exposure} {who}",
                "slots": {"who": ["x"], "exposure": {"revealing": "bare"}},
            },
            {**REACH, "slots": {"skin": ["tan"]}, "min_rate": 0.5},
            {"cases": [{"prompt": "c", "attribute": "skin", "value": ["tan", "dark"]}]},
            {"prompts": ["d", "e"], "attribute": "skin", "value": "pale"},
            {"template": "a {skin} {exposure} z", "attribute": "skin", "slots": {"exposure": ["modest"]}},
        ]
    )
    found = [(item.prompt, item.attributes, item.counted) for item in plan.reachability]
    assert found[:3] == [(f"a {s} bare x", ("skin", "exposure"), (f"{s} & revealing",)) for s in SKIN]
    assert found[3:7] == [
        ("a tan woman", ("skin",), ("tan",)),
        ("c", ("skin",), ("tan", "dark")),
        ("d", ("skin",), ("pale",)),
        ("e", ("skin",), ("pale",)),
    ]
    assert [counted for _, _, counted in found[7:]] == [(s,) for s in SKIN]
    assert plan.reachability[3].min_rate == 0.5


def test_a_negative_prompt_has_arms_that_draw_its_prompts_only() -> None:
    other = {"prompts": ["c"], "negative": {**GONE["negative"], "prompt": "pale skin"}, "n": 2}
    plan = planned(claim={**CLAIM, "prompts": ["z"]}, reachability=[GONE, other, {**GONE, "prompts": ["d"]}])
    assert plan.negatives == ("bare", "pale skin")
    assert plan.arms(["base", "style"]) == (
        "base", "base.negative.1", "base.negative.2", "style", "style.negative.1", "style.negative.2",
    )  # fmt: skip
    assert prompt_counts(plan.spec, "style.negative.1") == {"a": 4, "b": 4, "d": 4}
    assert prompt_counts(plan.spec, "base.negative.2") == {"c": 2}
    assert prompt_counts(plan.spec) == {"z": 4, "a": 4, "b": 4, "c": 2, "d": 4}
    shared = {(c.prompt, c.seed) for c in cells_of(plan.spec, "base")}
    assert {(c.prompt, c.seed) for c in cells_of(plan.spec, "base.negative.1")} < shared
    item = plan.reachability[2]
    assert (item.arm("style"), item.negative, negative_of(item.arm("style"))) == (
        "style.negative.2",
        (2, "pale skin"),
        ("style", 2),
    )
    with pytest.raises(UsageError, match=r"asks about 2 negative prompts"):
        prompt_counts(plan.spec, "base.negative.3")


def test_looks_come_one_after_another_when_stopping_is_sequential() -> None:
    asked = {"prompts": ["a", "b"], "attribute": "skin"}
    fixed = asks(claim=[asked, {**asked, "prompts": ["c"], "n": 3}])
    looks = asks(claim=[asked, {**asked, "prompts": ["c"], "n": 3}], stopping="sequential", look=2)
    order = [(cell.prompt, cell.seed) for cell in cells_of(looks, "base")]
    assert order == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1), ("a", 2), ("a", 3), ("b", 2), ("b", 3), ("c", 2),
    ]  # fmt: skip
    assert set(cells_of(fixed, "base")) == set(cells_of(looks, "base"))


@pytest.mark.parametrize(("batch", "n", "look"), [(32, 100, 32), (3, 100, 9), (50, 20, 20), (8, 100, 8)])
def test_a_look_is_whole_batches_of_one_prompt(batch: int, n: int, look: int) -> None:
    assert asks(claim=CLAIM, n=n, drawing={"batch_size": batch}).pictures_a_look == look


FULL = {
    "claim": [{"prompts": ["a", "b"], "attribute": ["skin", "exposure"], "target": {"skin": {"tan": 1.0}}, "scope": "model", "tolerance": 0.1}],
    "disparity": [{**GAP, "reference": "tan", "max_ratio": 1.5, "n": 9}],
    "reachability": [REACH, GONE, {"cases": [{"prompt": "c", "attribute": "skin", "value": "tan"}]}],
    "drift": [{"template": ["x {who}", "y"], "slots": {"who": {"k": "v"}}, "attributes": [["skin", "exposure"]]}],
    "measurer": ["world", "nudity"],
    "confusion": [{"file": "a.json", "sha256": "0" * 64}],
    "stopping": "sequential",
    "look": 3,
    "tolerance": 0.1,
    "multiplicity": "bonferroni",
}  # fmt: skip


def test_a_spec_and_its_bound_form_survive_their_own_dumps() -> None:
    spec = asks(**FULL)
    for one in (spec, plan_of(spec, ATTRIBUTES).spec):
        content = json.loads(json.dumps(one.model_dump(mode="json", by_alias=True)))
        assert make_spec(content) == one


def test_another_n_is_for_every_question() -> None:
    assert set(prompt_counts(with_n(plan_of(asks(**FULL), ATTRIBUTES).spec, 7)).values()) == {7}
    with pytest.raises(UsageError, match=r"n is -1: expected a whole number of pictures from 1 to 100000"):
        with_n(asks(**FULL), -1)


def test_intersections_and_negative_arms_are_kept_apart_in_a_run(tmp_path: Path) -> None:
    spec = check_spec(asks(claim={**CLAIM, "attribute": ["skin", "exposure"]}, reachability=GONE), Judge())
    arms = [toy_arm(), toy_arm("base.negative.1", negative_prompt="bare")]
    run_audit(spec, [(arm, entering()) for arm in arms], measurer=Judge(), folder=tmp_path / "run")
    with read_run(tmp_path / "run") as evidence:
        assert [(name, n) for name, n, *_ in evidence.progress()] == [("base", 8), ("base.negative.1", 8)]
        (claim,) = analyse(evidence).claims
        assert (claim.attribute, claim.n, claim.arm) == ("skin & exposure", 4, "base")
        assert claim.abstained == 1  # seed 0: skin is not read there
        assert math.fsum(claim.shares.values()) == pytest.approx(3 / 4)


# what is asked, and the words that the one line must hold
BAD = {
    "two sources": ({"claim": {**CLAIM, "template": "b"}}, ["claim[0].template", "beside prompts"]),
    "no source": ({"claim": {"attribute": "skin"}}, ["claim[0].prompts is missing", "template"]),
    "file without file": ({"claim": {"prompts_file": "p.txt", "attribute": "skin"}}, ["prompts_file", "load_spec"]),
    "unknown slot": ({"claim": {"template": "a {skni}", "attribute": "skin"}}, ["{skni}", 'did you mean "skin"?']),
    "unused slot": ({"claim": {**CLAIM, "slots": {"who": ["x"]}}}, ["claim[0].slots.who", "it holds: none"]),
    "unused shared slot": ({"claim": CLAIM, "slots": {"who": ["x"]}}, ["slots.who", "no template holds"]),
    "empty slot": ({"claim": {"template": "{who}", "attribute": "skin", "slots": {"who": []}}}, ["claim[0].slots.who is []"]),
    "blank word": ({"claim": {"template": "{who}", "attribute": "skin", "slots": {"who": ["x", " "]}}}, ["slots.who[1] is blank"]),
    "number word": ({"claim": {"template": "{who}", "attribute": "skin", "slots": {"who": {"x": 3}}}}, ["slots.who.x is 3"]),
    "repeated word": ({"claim": {"template": "{who}", "attribute": "skin", "slots": {"who": ["x", "x"]}}}, ["slots.who holds 'x' more than once"]),
    "slots no table": ({"claim": {**CLAIM, "slots": 3}}, ["claim[0].slots is 3", "a table of slots"]),
    "brace": ({"claim": {"template": "a { b", "attribute": "skin"}}, ["claim[0].template", "{{ and }}"]),
    "intersection of one twice": ({"claim": {**CLAIM, "attribute": ["skin", "skin"]}}, ["claim[0].attribute", "'skin' more than once"]),
    "intersection of none": ({"claim": {**CLAIM, "attribute": []}}, ["claim[0].attribute is []"]),
    "unknown in intersection": ({"claim": {**CLAIM, "attribute": ["skin", "exposre"]}}, ["claim[0].attribute[1]", '"exposure"?']),
    "own reference": ({"claim": {**CLAIM, "target": {"prompt": "a"}}}, ["claim[0].target.prompt", "its own target"]),
    "own reference, filled": ({"claim": {"template": "a {skin}", "attribute": "skin", "target": {"prompt": "a {skin}"}}}, ["claim[0].target.prompt", "target of itself"]),
    "reference slot": ({"claim": {"template": "a", "attribute": "skin", "target": {"prompt": "b {who}"}}}, ["target.prompt holds {who}"]),
    "blank reference": ({"claim": {**CLAIM, "target": {"prompt": " "}}}, ["claim[0].target.prompt is blank"]),
    "reference and shares": ({"claim": {**CLAIM, "target": {"prompt": "b", "tan": 1.0}}}, ["alone"]),
    "margin sum": ({"claim": {**CLAIM, "attribute": ["skin", "exposure"], "target": {"skin": {"tan": 0.5}}}}, ["claim[0].target sums to 0.5 for skin"]),
    "margin of another": ({"claim": {**CLAIM, "attribute": ["skin", "exposure"], "target": {"hair": "uniform"}}}, ["claim[0].target.hair"]),
    "margin value": ({"claim": {**CLAIM, "attribute": ["skin", "exposure"], "target": {"skin": {"tna": 1.0}}}}, ["claim[0].target.skin names 'tna'", 'did you mean "tan"?']),
    "joint value": ({"claim": {**CLAIM, "attribute": ["skin", "exposure"], "target": {"tan & modst": 1.0}}}, ["'tan & modst'", 'did you mean "tan & modest"?']),
    "nan tolerance": ({"claim": {**CLAIM, "tolerance": math.nan}}, ["claim[0].tolerance is nan", "above 0 and below 0.5"]),
    "zero tolerance": ({"claim": CLAIM, "tolerance": 0.0}, ["tolerance is 0.0", "above 0 and below 0.5"]),
    "percent tolerance": ({"claim": CLAIM, "tolerance": 5}, ["tolerance is 5"]),
    "bool tolerance": ({"claim": CLAIM, "tolerance": True}, ["tolerance is True"]),
    "scope": ({"claim": {**CLAIM, "scope": "modle"}}, ["claim[0].scope is 'modle'", '"model"']),
    "model of one": ({"claim": {**CLAIM, "scope": "model"}}, ["claim[0].scope", "two or more prompts"]),
    "model without tolerance": ({"claim": {**CLAIM, "prompts": ["a", "b"], "scope": "model"}}, ["claim[0].tolerance is missing", "scope"]),
    "model of one template": ({"claim": {"template": "a", "attribute": "skin", "scope": "model", "tolerance": 0.1}}, ["claim[0].scope", "two or more prompts"]),
    "stopping": ({"claim": CLAIM, "stopping": "anytime"}, ["stopping is 'anytime'", '"sequential"']),
    "look": ({"claim": CLAIM, "look": 0}, ["look is 0", "from 1 to 100000"]),
    "multiplicity": ({"claim": CLAIM, "multiplicity": "BH"}, ["multiplicity is 'BH'", '"e-BH"']),
    "measurers": ({"claim": CLAIM, "measurer": ["world", "world"]}, ["measurer", "'world' more than once"]),
    "no measurer": ({"claim": CLAIM, "measurer": []}, ["measurer is []"]),
    "card": ({"claim": CLAIM, "confusion": ["card.json"]}, ["confusion[0] is 'card.json'"]),
    "wrong table": ({"claim": {**CLAIM, "guidance": 3}}, ["claim[0].guidance", "it belongs in [drawing]"]),
    "threshold": ({"claim": CLAIM, "tolerence": 0.1}, ["tolerence", 'did you mean "tolerance"?']),
    "kind": ({"claim": CLAIM, "drfit": []}, ["drfit", 'did you mean "drift"?']),
    "one group": ({"disparity": {**GAP, "slots": {"skin": ["tan"]}}}, ["disparity[0].groups is ['tan']", "two or more"]),
    "group twice": ({"disparity": {**GAP, "groups": ["a", "b"], "slots": {"skin": ["c", "d"]}}}, ["disparity[0].groups", "slots.skin"]),
    "no groups": ({"disparity": {**GAP, "template": "a {group}"}}, ["disparity[0].groups is missing"]),
    "which slot": ({"disparity": {**GAP, "template": "a {skin} {exposure}"}}, ["disparity[0].template", "with slot"]),
    "wrong slot": ({"disparity": {**GAP, "slot": "sikn"}}, ["disparity[0].slot is 'sikn'", "it holds: skin"]),
    "reference group": ({"disparity": {**GAP, "reference": "blue"}}, ["disparity[0].reference is 'blue'", "pale, tan, dark"]),
    "max_ratio 1": ({"disparity": {**GAP, "max_ratio": 1.0}}, ["disparity[0].max_ratio is 1.0", "above 1"]),
    "max_ratio nan": ({"disparity": {**GAP, "max_ratio": math.nan}}, ["disparity[0].max_ratio is nan"]),
    "every value": ({"disparity": {**GAP, "value": ["modest", "revealing"]}}, ["disparity[0].value names every value"]),
    "min_rate": ({"reachability": {**REACH, "min_rate": math.inf}}, ["reachability[0].min_rate is inf", "at most 1"]),
    "no value": ({"reachability": {"prompts": ["a"]}}, ["reachability[0].value is missing"]),
    "no attribute": ({"reachability": {"prompts": ["a"], "value": "tan"}}, ["reachability[0].attribute is missing"]),
    "says nothing": ({"reachability": {"template": "a {who}", "slots": {"who": ["x"]}}}, ["reachability[0].template", "its slots: who"]),
    "says another": ({"reachability": {**REACH, "attribute": "exposure"}}, ["reachability[0].template", "a slot named exposure"]),
    "label": ({"reachability": {**REACH, "slots": {"skin": {"tam": "tanned"}}}}, ["reachability[0].slots.skin names 'tam'", '"tan"?']),
    "case key": ({"reachability": {"cases": [{"promt": "a", "attribute": "skin", "value": "tan"}]}}, ["reachability[0].cases[0].promt", '"prompt"?']),
    "case value": ({"reachability": {"cases": [{"prompt": "a", "attribute": "skin", "value": "tam"}]}}, ["reachability[0].cases[0].value names 'tam'"]),
    "no cases": ({"reachability": {"cases": []}}, ["reachability[0].prompts is missing", "or cases"]),
    "cases and prompts": ({"reachability": {**GONE, "cases": [{"prompt": "a", "attribute": "skin", "value": "tan"}]}}, ["reachability[0].prompts", "beside cases"]),
    "negative and value": ({"reachability": {**GONE, "attribute": "skin", "value": "tan"}}, ["reachability[0].attribute", "beside negative"]),
    "negative key": ({"reachability": {"prompts": ["a"], "negative": {"prompt": "b", "attribute": "skin"}}}, ["reachability[0].negative.value is missing"]),
    "unguided": ({"reachability": GONE, "drawing": {"guidance": 1.0}}, ["drawing.guidance is 1", "through guidance alone"]),
    "drift attribute": ({"drift": {"prompts": ["a"], "attributes": ["skin", ["skin", "exposre"]]}}, ["drift[0].attributes[1]", '"exposure"?']),
    "drift twice": ({"drift": {"prompts": ["a"], "attributes": ["skin", "skin"]}}, ["drift[0].attributes", "twice"]),
    "asked twice, filled": ({"claim": [{**CLAIM, "prompts": ["a tan"]}, {"template": "a {skin}", "attribute": "skin"}]}, ["claim tables ask 'skin' of 'a tan' 2 times"]),
    "too much": ({"claim": {"template": "{a}{b}", "attribute": "skin", "slots": {s: [f"{s}{i}" for i in range(90)] for s in "ab"}}, "n": 2000}, ["16200000 pictures of 8100 prompts"]),
    "escapes": ({"claim": {**CLAIM, "\x1b[1m\u202e": 1}}, ["\\x1b[1m\\u202e is not a key"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_is_refused_in_one_line(case: str) -> None:
    tables, words = BAD[case]
    with pytest.raises(UsageError) as caught:
        planned(**tables)
    line = str(caught.value)
    assert all(word in line for word in words), line
    assert line.isprintable()
    assert len(line) < 500
    assert caught.value.exit_code == 2


def test_several_claims_on_a_prompt_may_have_several_targets() -> None:
    plan = planned(claim=[CLAIM, {**CLAIM, "target": {"pale": 1.0}}, {**CLAIM, "target": {"prompt": "b"}}])
    assert len(plan.claims) == 3
    assert prompt_counts(plan.spec) == {"a": 4, "b": 4}


def test_the_toy_spec_amounts_to_what_it_says() -> None:
    plan = plan_of(toy_spec(), ATTRIBUTES)
    assert [(item.prompts, item.n, item.held_out) for item in plan.claims] == [
        (("a woman",), 10, True),
        (("an avatar [/red] \x1b[1m",), 10, True),
    ]
    assert plan.disparities[0].groups == {"pale": ("a pale woman",), "tan": ("a tan woman",)}
    assert plan.pictures("base") == 10 + 10 + 6 + 6
