"""Plans on disk: published schema, edits by hand refused where they are wrong, pictures that carry their plan."""

from __future__ import annotations

import json
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from PIL import Image

from counterpoise.audit.chunks import read_chunks
from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.scenes import (
    Plan,
    embed,
    load_plan,
    parse_plan,
    plan_json,
    plan_scene,
    save_plan,
    scene_request,
    schema,
    short_form,
)
from counterpoise.scenes.drawn import plan_svg, plan_text

SHORT = "5 women basketball team | appearance: Black 2, East Asian 1, White 1, South Asian 1 | hair: mixed"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_scene(scene_request(SHORT, seed=7))


def edited(plan: Plan, change: Any) -> str:
    content = json.loads(plan_json(plan))
    change(content)
    return json.dumps(content)


def test_a_plan_saved_and_loaded_is_the_plan(plan: Plan, tmp_path: Path) -> None:
    save_plan(tmp_path / "deep" / "plan.json", plan)
    assert load_plan(tmp_path / "deep" / "plan.json") == plan
    assert plan_json(plan).count('"box": [') == 5


def test_the_published_schema_is_the_models_and_holds_what_is_planned(plan: Plan) -> None:
    published = json.loads(files("counterpoise.scenes").joinpath("plan.schema.json").read_text("utf-8"))
    assert published == schema()
    jsonschema.Draft202012Validator.check_schema(published)
    check = jsonschema.Draft202012Validator(published)
    check.validate(json.loads(plan_json(plan)))
    for change in (
        lambda c: c.update(colour=1),
        lambda c: c["people"][0].update(boxes=[]),
        lambda c: c.pop("box_convention"),
        lambda c: c.update(box_convention="xywh"),
    ):
        assert not check.is_valid(json.loads(edited(plan, change)))

    def closed(part: Any) -> bool:
        named = isinstance(part, dict) and "properties" in part
        parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        return (not named or part["additionalProperties"] is False) and all(map(closed, parts))

    assert closed(published)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda c: c["people"][0].update(box=[0.1, 0.1, 1.2, 0.9]), "E_PLAN_BOX", "leaves the canvas"),
        (lambda c: c["people"][0].update(box=[-0.1, 0.1, 0.2, 0.9]), "E_PLAN_BOX", "leaves the canvas"),
        (lambda c: c["people"][0].update(box=[60, 60, 200, 400]), "E_PLAN_BOX", "pixels divided"),
        (lambda c: c["people"][0].update(box=[0.4, 0.1, 0.4, 0.9]), "E_PLAN_BOX", "no area"),
        (lambda c: c["people"][0].update(box=[0.4, 0.9, 0.6, 0.1]), "E_PLAN_BOX", "no area"),
        (lambda c: c["people"][0].update(box=[0.4, 0.1, 0.4001, 0.9]), "E_PLAN_BOX", "no area"),
        (lambda c: c["people"][0].update(box=[0.1, 0.2, 0.3]), "E_PLAN", "box"),
        (lambda c: c["people"][0].update(box=["0.1", 0.2, 0.3, 0.4]), "E_PLAN", "box"),
        (lambda c: c["people"][0].update(box=c["people"][1]["box"]), "E_PLAN_OVERLAP", "cover each other"),
        (lambda c: c["people"][1].update(id="p1"), "E_PLAN_ID", "'p1'"),
        (lambda c: c["people"][0]["attributes"].update(appearance="White"), "E_PLAN_COUNTS", "change both"),
        (lambda c: c["people"].pop(), "E_PLAN_COUNTS", "change both"),
        (lambda c: c["quotas"]["appearance"].update(Black="1/9"), "E_PLAN_COUNTS", "sums to"),
        (lambda c: c["quotas"]["appearance"].update(Black="two"), "E_PLAN_COUNTS", "fraction"),
        (lambda c: c.update(peopel=[]), "E_PLAN", 'did you mean "people"'),
        (lambda c: c["people"][0].pop("prompt"), "E_PLAN", "prompt"),
        (lambda c: c["people"][0].update(prompt=""), "E_PLAN", "prompt"),
        (lambda c: c["canvas"].update(width=0), "E_PLAN", "width"),
        (lambda c: c.update(people=[]), "E_PLAN", "people"),
        (lambda c: c.update(box_convention="xywh"), "E_PLAN", "xyxy_normalised_top_left"),
    ],
)  # fmt: skip
def test_wrong_edits_are_told_in_one_line(plan: Plan, change: Any, code: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_plan(edited(plan, change), where="plan.json")
    assert refused.value.code == code
    assert said in str(refused.value)
    assert str(refused.value).startswith("plan.json: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"version": "1"', "line 1"),
        ('{"version": "1", "version": "1"}', "twice"),
        ("[" * 100_000, "nested"),
        ("", "not valid JSON"),
    ],
)
def test_texts_that_are_no_json_are_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        parse_plan(text)
    assert refused.value.code == "E_PLAN_JSON"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_coordinates_that_are_no_numbers_are_refused(plan: Plan, number: str) -> None:
    first = json.dumps(json.loads(plan_json(plan))["people"][0]["box"][0])
    with pytest.raises(UsageError, match=number) as refused:
        parse_plan(plan_json(plan).replace(first, number, 1))
    assert refused.value.code == "E_PLAN_JSON"


def test_a_picture_carries_its_plan_and_keeps_its_pixels(plan: Plan, tmp_path: Path) -> None:
    stream = BytesIO()
    Image.effect_noise((64, 32), 60).convert("RGB").save(stream, "PNG")
    named = plan.model_copy(update={"notes": ("Beyoncé 東京 </text>",)})
    data = embed(embed(stream.getvalue(), plan), named)  # the second takes the first's place
    (tmp_path / "team.png").write_bytes(data)
    assert load_plan(tmp_path / "team.png") == named
    with Image.open(BytesIO(stream.getvalue())) as before, Image.open(BytesIO(data)) as after:
        assert before.tobytes() == after.tobytes()
        after.load()
        assert json.loads(after.text["counterpoise-scene"])["version"] == "1"
    chunks = read_chunks(tmp_path / "team.png")
    assert chunks.notes == ()
    assert len(chunks.all("counterpoise-scene")) == 1


def test_pictures_that_are_damaged_or_carry_no_plan_are_refused(plan: Plan, tmp_path: Path) -> None:
    stream = BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    whole = embed(stream.getvalue(), plan)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for name, data, said in [
        ("none.png", stream.getvalue(), "no plan"),
        ("cut.png", whole[:-40], "cut off"),
        ("flipped.png", bytes(flipped), "checksum"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RefusedInputError, match=said) as refused:
            load_plan(tmp_path / name)
        assert refused.value.exit_code == 4
    with pytest.raises(RefusedInputError, match="not a PNG"):
        embed(b"GIF89a", plan)
    with pytest.raises(UsageError, match="no such file"):
        load_plan(tmp_path / "missing.json")


def test_the_short_form_read_again_asks_for_the_same_people(plan: Plan) -> None:
    short = short_form(plan)
    assert short.startswith("5 women basketball team | appearance: ")
    again = plan_scene(scene_request(short, seed=7))
    assert {k: sorted(v.items()) for k, v in again.allocation.counts.items()} == {
        k: sorted(v.items()) for k, v in plan.allocation.counts.items()
    }
    assert short_form(again).split(" | ")[0] == short.split(" | ")[0]


@pytest.mark.parametrize(
    "short", ["5 women | ", "| hair: mixed", "5 women | hair mixed", "5 women || hair: mixed"]
)
def test_short_forms_with_empty_parts_are_refused(short: str) -> None:
    with pytest.raises(UsageError) as refused:
        scene_request(short)
    assert refused.value.code == "E_SCENE_SHARE"


def test_drawings_escape_what_the_user_wrote(plan: Plan) -> None:
    evil = "</text><script>alert(1)</script> \x1b[31m \u202e & \" '"
    first = plan.people[0].model_copy(
        update={"prompt": evil, "attributes": {**plan.people[0].attributes, "x": evil}}
    )
    hostile = plan.model_copy(
        update={
            "people": (first, *plan.people[1:]),
            "scene": plan.scene.model_copy(update={"prompt": evil}),
        }
    )
    svg = plan_svg(hostile)
    root = ElementTree.fromstring(svg)
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")
    assert len(root.findall(".//{http://www.w3.org/2000/svg}g")) == 5
    lines = plan_text(hostile)
    assert all(line.isprintable() for line in lines)
    assert all(len(line) == 74 for line in lines[:-5])
    assert all(any(f"p{i}" in line for line in lines[:-5]) for i in range(1, 6))
