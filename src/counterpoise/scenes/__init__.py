"""Group scenes: exact proportions, one box and one prompt a person.

In: a prompt, a number of people, the shares that the user wants. Out: plans, in which code has chosen every
person's values, place and box; templates or a language model only find the words. docs/scenes.md explains it.
"""

from __future__ import annotations

from counterpoise.scenes.endpoint import Endpoint, endpoint
from counterpoise.scenes.layout import Layout, lay_out
from counterpoise.scenes.local_model import LocalModel, local_model
from counterpoise.scenes.plan import PersonPlan, Plan, check_plan, schema
from counterpoise.scenes.plan_files import embed, load_plan, make_plan, parse_plan, plan_json, save_plan
from counterpoise.scenes.planner import Planned, plan_many, plan_scene, position_table
from counterpoise.scenes.profiles import PROFILES, CanvasProfile, profile_named
from counterpoise.scenes.request import SceneRequest, scene_request
from counterpoise.scenes.short_form import short_form
from counterpoise.scenes.state import QuotaState, load_state, new_state, save_state
from counterpoise.scenes.vocabulary import Vocabulary, load_vocabulary

__all__ = [
    "PROFILES",
    "CanvasProfile",
    "Endpoint",
    "Layout",
    "LocalModel",
    "PersonPlan",
    "Plan",
    "Planned",
    "QuotaState",
    "SceneRequest",
    "Vocabulary",
    "check_plan",
    "embed",
    "endpoint",
    "lay_out",
    "load_plan",
    "load_state",
    "load_vocabulary",
    "local_model",
    "make_plan",
    "new_state",
    "parse_plan",
    "plan_json",
    "plan_many",
    "plan_scene",
    "position_table",
    "profile_named",
    "save_plan",
    "save_state",
    "scene_request",
    "schema",
    "short_form",
]
