"""Each kind of question, answered on readings whose truth is planted."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from audit_evidence import Planting, card_of, counted, spec_of
from audit_toys import EXPOSURE, SKIN

from counterpoise import stats
from counterpoise.audit import analyse
from counterpoise.audit.answers.faces import outside
from counterpoise.audit.results import Finding, Findings
from counterpoise.errors import RefusedInputError

BIASED, FAIR, OPEN = "biased", "fair within tolerance", "undecided"
CLAIM = {"prompts": ["a"], "attribute": "exposure"}


def of_base(planted: dict[str, dict[str, list[str | None]]], spec: object, cards: tuple = ()) -> Findings:
    found = analyse(Planting(spec, {("base", p): a for p, a in planted.items()}), None, cards)
    json.dumps(asdict(found), allow_nan=False)
    return found


def claim(counts: dict[str | None, int], **keys: object) -> Finding:
    spec = spec_of(claim=[{**CLAIM, **keys}])
    (finding,) = of_base({"a": {"exposure": counted(counts)}}, spec).findings
    return finding


@pytest.mark.parametrize(
    ("modest", "bare", "unread", "tolerance", "verdict"),
    [
        (300, 100, 0, 0.1, BIASED),
        (200, 200, 0, 0.1, FAIR),
        (240, 160, 0, 0.1, OPEN),  # on the limit
        (200, 200, 0, None, OPEN),  # without a tolerance nothing is called fair
        (260, 140, 0, None, BIASED),
        (180, 180, 40, 0.1, OPEN),  # a tenth unread: they may all be of one kind
        (195, 195, 10, 0.1, FAIR),
        (330, 30, 40, 0.1, BIASED),
    ],
)
def test_a_claim_is_decided_as_its_statistics_say(
    modest: int, bare: int, unread: int, tolerance: float | None, verdict: str
) -> None:
    keys = {} if tolerance is None else {"tolerance": tolerance}
    found = claim({"modest": modest, "revealing": bare, None: unread}, **keys)
    by_stats = stats.verdict([modest, bare], [0.5, 0.5], tolerance=tolerance, abstained=unread)
    assert (found.alone, found.decision) == (verdict, verdict) == (by_stats.decision, verdict)
    assert found.log_e_biased == pytest.approx(by_stats.log_e_biased)
    assert found.path[-1] == (400, pytest.approx(found.log_e_biased))
    assert (found.id, found.n, found.abstained, found.against) == ("claim[0]/0/base", 400, unread, "uniform")
    assert found.effect.low <= found.effect.value <= found.effect.high


def test_nothing_read_is_undecided_in_every_kind_and_never_fair() -> None:
    nothing: list[str | None] = [None] * 400
    spec = spec_of(
        tolerance=0.4,
        claim=[{**CLAIM, "prompts": ["a x"]}, {**CLAIM, "prompts": ["b"], "target": {"prompt": "a x"}}],
        disparity=[
            {"template": "a {group}", "groups": ["x", "y"], "attribute": "exposure", "value": "modest"}
        ],
        reachability=[{"prompts": ["b"], "attribute": "exposure", "value": "modest", "min_rate": 0.9}],
        drift=[{"prompts": ["b"], "attributes": ["exposure"]}],
    )
    cells = [(arm, p) for arm in ("base", "style") for p in ("a x", "a y", "b")]
    found = analyse(Planting(spec, {cell: {"exposure": nothing} for cell in cells}))
    assert {f.kind for f in found.findings} == {"claim", "disparity", "reachability", "drift"}
    assert {(f.alone, f.decision) for f in found.findings} == {(OPEN, OPEN)}


def test_questions_without_a_single_row_are_absent() -> None:
    spec = spec_of(
        claim=[{**CLAIM, "prompts": ["a", "never"]}],
        reachability=[{"prompts": ["never"], "attribute": "exposure", "value": "modest"}],
        drift=[{"prompts": ["a"], "attributes": ["exposure"]}],
    )
    found = of_base({"a": {"exposure": counted({"modest": 30, "revealing": 30})}}, spec)
    assert [f.id for f in found.findings] == ["claim[0]/0/base"]
    assert (found.reached, found.drifts) == ((), ())


def test_intersections_given_shares_and_scores() -> None:
    rng = np.random.default_rng(1)
    skin = counted({"pale": 200, "tan": 100, "dark": 100}, rng=rng)
    bare = ["revealing" if tone == "tan" else "modest" for tone in skin]
    both = {**CLAIM, "attribute": ["skin", "exposure"], "tolerance": 0.1}
    spec = spec_of(
        claim=[both, {**CLAIM, "attribute": "skin", "target": {"pale": 0.5, "tan": 0.25, "dark": 0.25}}]
    )
    found = of_base({"a": {"skin": skin, "exposure": bare}}, spec)
    joint, given = found.claims
    assert joint.shares["tan & revealing"] == 0.25
    assert joint.shares["tan & modest"] == 0.0
    assert [f.decision for f in found.findings] == [BIASED, OPEN]
    assert given.scores == ()  # the literature's are about a uniform target
    scores = {s.name: s for s in joint.scores}
    peer = {s.name: s for s in stats.published_scores([200, 0, 0, 100, 100, 0])}
    assert scores.keys() == peer.keys()
    assert all(
        (s.value, s.fair, s.excess) == pytest.approx((p.value, p.fair, p.excess))
        for s, p in ((scores[k], peer[k]) for k in peer)
    )


@pytest.mark.parametrize("d", [None, 0.1])
def test_another_prompts_distribution_is_a_target(d: float | None) -> None:
    rng = np.random.default_rng(2)
    same = counted({"pale": 200, "tan": 100, "dark": 100}, rng=rng)
    other = counted({"pale": 100, "tan": 200, "dark": 100}, rng=rng)
    keys = {"attribute": "skin", "target": {"prompt": "b"}, **({} if d is None else {"tolerance": d})}
    spec = spec_of(claim=[{**keys, "prompts": ["a", "c"]}])
    found = of_base({"a": {"skin": other}, "b": {"skin": same}, "c": {"skin": same}}, spec)
    moved, alike = found.findings
    assert (moved.decision, alike.decision) == (BIASED, OPEN if d is None else FAIR)
    assert moved.against == "the prompt 'b'"
    assert moved.effect.value == pytest.approx(0.25)
    assert moved.effect.low > 0.1
    assert alike.effect.low == 0.0


def test_a_pair_with_a_picture_unread_may_be_any_pair() -> None:
    """The evidence is never more than whatever the unread showed would have left."""
    rng = np.random.default_rng(3)
    a, b = (rng.choice(EXPOSURE, 60, p=[p, 1 - p]).tolist() for p in (0.9, 0.5))
    lost = [(rng.random(60) < 0.1).tolist() for _ in range(2)]
    keys = {"attribute": "exposure", "target": {"prompt": "b"}, "prompts": ["a"], "tolerance": 0.05}

    def evidence(first: list, second: list) -> Finding:
        (found,) = of_base(
            {"a": {"exposure": first}, "b": {"exposure": second}}, spec_of(claim=[keys])
        ).findings
        return found

    hidden = evidence(
        [None if x else v for v, x in zip(a, lost[0], strict=True)],
        [None if x else v for v, x in zip(b, lost[1], strict=True)],
    )
    for _ in range(20):
        shown = [
            [str(rng.choice(EXPOSURE)) if x else v for v, x in zip(side, gone, strict=True)]
            for side, gone in zip((a, b), lost, strict=True)
        ]
        whole = evidence(*shown)
        assert hidden.log_e_biased <= whole.log_e_biased + 1e-9
        assert hidden.log_e_fair <= whole.log_e_fair + 1e-9
        assert hidden.effect.low <= whole.effect.low + 1e-9
        assert hidden.effect.high >= whole.effect.high - 1e-9


def test_a_path_with_unread_pictures_ends_at_the_evidence_of_stats() -> None:
    counts, unread, goal = np.array([[30, 50, 20], [90, 60, 50]]), np.array([5, 30]), [0.5, 0.3, 0.2]
    path = outside(counts, unread, goal, 0.05)
    for row, a, log_e in zip(counts, unread, path, strict=True):
        assert log_e == pytest.approx(float(stats.log_e_outside(row, goal, tolerance=0.05, abstained=int(a))))


def gap(rates: dict[str, list[str | None]], **keys: object) -> Findings:
    table = {
        "template": "a {group}",
        "groups": list(rates),
        "attribute": "exposure",
        "value": "revealing",
        **keys,
    }
    return of_base({f"a {g}": {"exposure": v} for g, v in rates.items()}, spec_of(disparity=[table]))


def events(*runs: tuple[str | None, int]) -> list[str | None]:
    return [value for value, n in runs for _ in range(n)]


def test_groups_are_compared_picture_by_picture() -> None:
    """40 pairs in which only tan is revealing, 10 in which only pale is, 150 in which both are."""
    tan = events(("revealing", 190), ("modest", 210))
    pale = events(("revealing", 150), ("modest", 40), ("revealing", 10), ("modest", 200))
    found = gap({"tan": tan, "pale": pale})
    (row,), (finding,) = found.contrasts, found.findings
    assert (row.both, row.group_only, row.reference_only, row.neither, row.missing) == (150, 40, 10, 200, 0)
    assert (finding.group, finding.reference, finding.id, row.finding) == (
        "tan",
        "pale",
        *["disparity[0]/0/base"] * 2,
    )
    assert finding.log_e_biased == pytest.approx(float(stats.log_e_paired(40, 10)))
    alone = stats.paired_difference(stats.Pairs(150, 40, 10, 200))
    assert (row.difference.value, row.difference.low, row.difference.high) == (
        alone.value,
        alone.low,
        alone.high,
    )
    assert row.ratio.value == pytest.approx(190 / 160)
    assert finding.decision == BIASED


@pytest.mark.parametrize(
    ("keys", "tan", "pale", "verdict"),
    [
        ({"max_ratio": 1.5}, 300, 100, BIASED),
        ({"max_ratio": 1.5}, 100, 300, BIASED),  # below the inverse
        ({"max_ratio": 1.5}, 240, 240, FAIR),
        ({"max_ratio": 1.5}, 300, 200, OPEN),  # at the limit
        ({"max_ratio": 1.5}, 0, 0, OPEN),
        ({"tolerance": 0.1}, 300, 100, BIASED),
        ({"tolerance": 0.2}, 200, 200, FAIR),
        ({"tolerance": 0.1}, 200, 160, OPEN),  # at the limit
        ({}, 200, 200, OPEN),
    ],
)
def test_a_disparity_within_its_limit(keys: dict[str, float], tan: int, pale: int, verdict: str) -> None:
    rng = np.random.default_rng(4)
    values = {
        g: counted({"revealing": n, "modest": 400 - n}, rng=rng) for g, n in (("tan", tan), ("pale", pale))
    }
    found = gap(values, **keys)
    assert [f.decision for f in found.findings] == [verdict]
    if tan == 0:
        assert found.contrasts[0].ratio.value is None


def test_every_pair_or_each_with_the_reference() -> None:
    values = {g: events(("revealing", 10), ("modest", 10)) for g in ("a", "b", "c")}
    assert [(f.group, f.reference) for f in gap(values).findings] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [(f.group, f.reference) for f in gap(values, reference="b").findings] == [("a", "b"), ("c", "b")]


@pytest.mark.parametrize(
    ("shown", "unread", "min_rate", "verdict"),
    [(398, 0, 0.9, FAIR), (200, 0, 0.9, BIASED), (360, 0, 0.9, OPEN), (399, 0, 1.0, BIASED), (400, 0, 1.0, OPEN), (300, 100, 0.9, BIASED)],
)  # fmt: skip
def test_reaching_a_rate(shown: int, unread: int, min_rate: float, verdict: str) -> None:
    asked = {"prompts": ["a"], "attribute": "exposure", "value": "modest", "min_rate": min_rate}
    values = counted({"modest": shown, "revealing": 400 - shown - unread, None: unread})
    found = of_base({"a": {"exposure": values}}, spec_of(reachability=[asked]))
    (row,), (finding,) = found.reached, found.findings
    assert (finding.decision, row.rate.value, row.abstained) == (verdict, shown / 400, unread)
    alone = stats.clopper_pearson(shown, 400)
    assert (row.rate.low, row.rate.high) == (alone.low, alone.high)


def test_a_negative_prompt_is_answered_by_its_own_arm() -> None:
    negative = {"prompt": "bare", "attribute": "exposure", "value": "revealing"}
    spec = spec_of(reachability=[{"prompts": ["a"], "negative": negative}], drawing={"guidance": 2.0})
    with_it, without = events(("modest", 100)), events(("revealing", 100))
    planted = {("base", "a"): {"exposure": without}, ("base.negative.1", "a"): {"exposure": with_it}}
    found = analyse(Planting(spec, planted))
    (row,), (finding,) = found.reached, found.findings
    assert (row.rate.value, row.negative, row.arm, finding.value) == (1.0, "bare", "base", "not revealing")
    assert finding.decision == FAIR


@pytest.mark.parametrize(("after", "tolerance", "verdict"), [(200, 0.05, FAIR), (300, 0.05, BIASED), (220, 0.05, OPEN), (200, None, OPEN), (300, None, BIASED)])  # fmt: skip
def test_drift(after: int, tolerance: float | None, verdict: str) -> None:
    """The arm changes the first pictures only, so that everything else is paired with itself."""
    before = events(("modest", 200), ("revealing", 200))
    moved = events(("modest", after), ("revealing", 400 - after))
    spec = spec_of(
        drift=[{"prompts": ["a"], "attributes": ["exposure"]}],
        **({} if tolerance is None else {"tolerance": tolerance}),
    )
    planted = {("base", "a"): {"exposure": before}, ("style", "a"): {"exposure": moved}}
    found = analyse(Planting(spec, planted))
    (row,), (finding,) = found.drifts, found.findings
    assert (finding.decision, finding.arm, finding.against) == (verdict, "style", "arm base")
    assert (row.changed, row.missing, row.n) == (after - 200, 0, 400)
    assert row.moved.value == pytest.approx((after - 200) / 400)
    assert row.shares["modest"] == after / 400


def test_prompts_biased_in_opposite_directions_are_no_fair_model() -> None:
    prompts = [f"p{i}" for i in range(40)]
    spec = spec_of(claim=[{**CLAIM, "prompts": prompts, "scope": "model", "tolerance": 0.2}])
    ends = [events(("modest", 400)), events(("revealing", 400))]
    opposite = of_base({p: {"exposure": ends[i % 2]} for i, p in enumerate(prompts)}, spec).findings
    even = counted({"modest": 200, "revealing": 200})
    level = of_base({p: {"exposure": even} for p in prompts}, spec).findings
    assert [f.decision for f in (*opposite, *level)] == [BIASED, FAIR]
    assert level[0].effect.n == 40
    assert level[0].prompts == tuple(prompts)


def test_claims_about_the_model_of_every_kind() -> None:
    rng = np.random.default_rng(5)
    names = [f"n{i}" for i in range(30)]
    words = {"slots": {"who": names}, "scope": "model"}
    gaps = {
        "template": "a {g} {who}",
        "slot": "g",
        "groups": ["x", "y"],
        "attribute": "exposure",
        "value": "revealing",
    }
    spec = spec_of(
        n=100,
        tolerance=0.05,
        claim=[{**CLAIM, **words, "prompts": [], "template": "a x {who}", "target": {"prompt": "a y {who}"}}],
        disparity=[{**gaps, **words}, {**gaps, **words, "max_ratio": 1.2, "reference": "x"}],
        drift=[{"template": "a x {who}", "attributes": ["exposure"], **words}],
    )

    def draws(p: float) -> list[str]:
        return rng.choice(EXPOSURE, 100, p=[1 - p, p]).tolist()

    planted = {
        (arm, f"a {g} {who}"): {"exposure": draws(p)}
        for arm in ("base", "style")
        for g, p in (("x", 0.8), ("y", 0.2))
        for who in names
    }
    found = analyse(Planting(spec, planted))
    assert [(f.id, f.decision) for f in found.findings if f.arm == "base"] == [
        ("claim[0]/0/base", BIASED), ("disparity[0]/0/base", BIASED), ("disparity[1]/0/base", BIASED),
    ]  # fmt: skip
    (drift,) = [f for f in found.findings if f.kind == "drift"]
    assert drift.decision == OPEN
    assert {f.scope for f in found.findings} == {"model"}
    gap_found, ratio = found.contrasts[:2]
    assert gap_found.difference.low < 0.6 < gap_found.difference.high
    assert gap_found.difference.low > 0.3
    assert ratio.ratio.high < 1.0


GOOD = [[950, 40, 10], [40, 950, 10]]
MILD = [[800, 190, 10], [190, 800, 10]]


@pytest.mark.parametrize("stopping", ["fixed", "sequential"])
def test_a_judges_errors_are_allowed_for(stopping: str) -> None:
    """A judge that takes a fifth for the other kind: 80/20 is read as 68/32, and the truth is covered."""
    spec = spec_of(claim=[{**CLAIM, "tolerance": 0.05}], stopping=stopping)
    read = counted({"modest": 270, "revealing": 126, None: 4})
    planted = {"a": {"exposure": read}}
    bare, corrected = (
        of_base(planted, spec),
        of_base(planted, spec, (card_of("exposure", EXPOSURE, {None: MILD}),)),
    )
    assert corrected.findings[0].alone == BIASED
    (row,) = corrected.claims
    low, high = row.corrected["modest"]
    assert low <= 0.8 <= high
    assert not bare.claims[0].low["modest"] <= 0.8 <= bare.claims[0].high["modest"]
    assert "card" in corrected.findings[0].method
    assert corrected.findings[0].log_e_biased is None


def test_readings_that_contradict_the_card_are_undecided_and_say_so() -> None:
    read = counted({"modest": 100, None: 300})
    found = of_base(
        {"a": {"exposure": read}}, spec_of(claim=[CLAIM]), (card_of("exposure", EXPOSURE, {None: GOOD}),)
    )
    assert found.findings[0].decision == OPEN
    assert "contradict" in found.findings[0].method
    assert found.claims[0].corrected["modest"] == (0.0, 1.0)


def test_a_disparity_that_the_judge_invents_is_not_found_with_each_groups_card() -> None:
    rng = np.random.default_rng(6)
    # Truly 20 % each; of tan's modest pictures 20 % are read as revealing, of pale's none.
    read = {
        "tan": counted({"revealing": 144, "modest": 256}, rng=rng),
        "pale": counted({"revealing": 80, "modest": 320}, rng=rng),
    }
    table = {
        "template": "a {group}",
        "groups": ["tan", "pale"],
        "attribute": "exposure",
        "value": "revealing",
    }
    planted = {f"a {g}": {"exposure": v} for g, v in read.items()}
    cards = (
        card_of(
            "exposure", EXPOSURE, {"tan": [[800, 200, 0], [0, 1000, 0]], "pale": [[1000, 0, 0], [0, 1000, 0]]}
        ),
    )
    bare = of_base(planted, spec_of(disparity=[table]))
    found = of_base(planted, spec_of(disparity=[table]), cards)
    assert (bare.findings[0].decision, found.findings[0].decision) == (BIASED, OPEN)
    low, high = found.contrasts[0].corrected_difference
    assert low <= 0.0 <= high
    tan, pale = (
        [c["revealing"], c["modest"], 0] for c in ({v: r.count(v) for v in EXPOSURE} for r in read.values())
    )
    tan_card, pale_card = [[1000, 0, 0], [200, 800, 0]], [[1000, 0, 0], [0, 1000, 0]]
    peer, ratio = stats.corrected_disparity((tan, tan_card), (pale, pale_card), anytime=False)
    assert (low, high) == pytest.approx((peer.low, peer.high), abs=1e-5)
    assert found.contrasts[0].corrected_ratio == pytest.approx((ratio.low, ratio.high), abs=1e-4)


def test_a_card_of_other_values_is_refused() -> None:
    with pytest.raises(RefusedInputError, match="expected the same"):
        of_base(
            {"a": {"skin": ["pale"]}},
            spec_of(claim=[{**CLAIM, "attribute": "skin"}]),
            (card_of("skin", ("x", "y"), {None: GOOD}),),
        )


def test_a_panel_without_bias_is_seldom_called_biased_and_drift_has_arms_of_its_own() -> None:
    """40 panels of 30 fair prompts: some false alarm in at most 5 % of them, alone in far more."""
    rng = np.random.default_rng(7)
    prompts = [f"p{i}" for i in range(30)]
    wrong, alone = 0, 0
    for _ in range(40):
        planted = {p: {"skin": rng.choice(SKIN, 60).tolist()} for p in prompts}
        spec = spec_of(claim=[{"prompts": prompts, "attribute": "skin"}], multiplicity="bonferroni")
        found = of_base(planted, spec).findings
        wrong += any(f.decision == BIASED for f in found)
        alone += sum(f.alone == BIASED for f in found)
    assert wrong <= 2
    assert alone / 1200 <= 0.05
    drifts = spec_of(drift=[{"prompts": ["a"], "attributes": ["skin", "exposure"]}])
    cell = {"skin": ["pale"] * 20, "exposure": ["modest"] * 20}
    found = analyse(Planting(drifts, {(arm, "a"): cell for arm in ("base", "one", "two")}))
    assert [f.id for f in found.findings] == [f"drift[0]/{i}/{arm}" for arm in ("one", "two") for i in (0, 1)]


def test_the_panel_decides_less_than_each_by_itself_where_evidence_is_slight() -> None:
    """17 of 20: e = 25 alone; among 40 prompts, the rest even, that is not enough."""
    slight, even = counted({"modest": 17, "revealing": 3}), counted({"modest": 10, "revealing": 10})
    prompts = [f"p{i}" for i in range(40)]
    spec = spec_of(claim=[{**CLAIM, "prompts": prompts}])
    found = of_base({p: {"exposure": slight if p == "p0" else even} for p in prompts}, spec).findings
    assert math.log(20) < found[0].log_e_biased < math.log(800)
    assert (found[0].alone, found[0].decision) == (BIASED, OPEN)


def test_a_target_share_of_zero_that_is_seen_is_proof_that_json_can_hold() -> None:
    found = claim({"modest": 399, "revealing": 1}, target={"modest": 1.0})
    assert (found.log_e_biased, found.decision) == (1e6, BIASED)
