"""From a plan to what the sampler draws: one scene, and how strongly its people are drawn apart."""

from __future__ import annotations

from collections.abc import Mapping

from counterpoise.scenes.plan import PersonPlan, Plan
from counterpoise.scenes.sampler.scene import Figure, Scene
from counterpoise.scenes.sampler.settings import Regional


def scene_of(
    plan: Plan,
    *,
    judged: Mapping[str, tuple[str, ...]] | None = None,
    adapters: Mapping[str, str] | None = None,
) -> Scene:
    """The plan's picture: its style ends every prompt, its negative stands with each person's own.

    judged: attribute -> values that a judge reads; people are asked for what it can say of them. adapters:
    a person's id -> the name that their adapter is mounted under.
    """
    people = tuple(
        Figure(
            plan.pixels(person),
            _joined(person.prompt, plan.scene.style),
            negative=_joined(plan.scene.negative, person.negative) if person.negative else None,
            adapter=(adapters or {}).get(person.id),
            z=person.z,
            attributes=asked_of(person, judged or {}),
        )
        for person in plan.people
    )
    prompt = _joined(plan.scene.prompt, plan.scene.style)
    return Scene(plan.canvas.width, plan.canvas.height, prompt, people, plan.scene.negative)


def asked_of(person: PersonPlan, judged: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The person's attributes of which the judge can say whether they came."""
    return {name: value for name, value in person.attributes.items() if value in judged.get(name, ())}


def regional_of(plan: Plan) -> Regional:
    """The plan's own settings for the sampler."""
    render = plan.render
    return Regional(
        base_ratio=render.base_ratio,
        regional_until=render.regional_until,
        fence_until=render.fence_until,
        feather=render.feather,
    )


def _joined(*texts: str) -> str:
    return ", ".join(text for text in texts if text)
