"""From a request to plans: code gives out values, places and boxes; words come last and change none of
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import final

from counterpoise.errors import UsageError
from counterpoise.scenes.allocation import Person, Tally, Wish, batch, stream
from counterpoise.scenes.balance import Placing, place_table
from counterpoise.scenes.layout import Layout, lay_out
from counterpoise.scenes.plan import (
    Allocation,
    Canvas,
    PersonPlan,
    Plan,
    Provenance,
    Render,
    ScenePrompt,
    check_plan,
)
from counterpoise.scenes.request import SceneRequest, quotas_of
from counterpoise.scenes.sampler.settings import Regional
from counterpoise.scenes.state import QuotaState, new_state
from counterpoise.scenes.templates import Slot, Task
from counterpoise.scenes.writing import Writer, Written, write_words

MAX_PICTURES = 100_000


@final
@dataclass(frozen=True, slots=True)
class Planned:
    """plans: in order. state: what the next call goes on from. notes: the request's, for the user."""

    plans: tuple[Plan, ...]
    state: QuotaState
    notes: tuple[str, ...]


def plan_scene(request: SceneRequest, *, writer: Writer | None = None) -> Plan:
    """The plan of one picture: a batch of its people, rounded as a whole."""
    return plan_many(request, 1, writer=writer).plans[0]


def plan_many(
    request: SceneRequest, count: int, *, state: QuotaState | None = None, writer: Writer | None = None
) -> Planned:
    """`count` plans whose people keep the request's shares; picture i's layout comes from seed + i.

    state: goes on from it (`new_state(request.units, request.roles)` begins one): then every prefix of all
    people ever planned from it is within one person of every attribute's target (Tijdeman's rule). None: a
    batch of known size, rounded as a whole to within one person in every combination, and spread over the
    pictures. People are in the order of the quota; where they stand is chosen apart. writer: a language
    model for the words. UsageError E_SCENE_PICTURES for a wrong count, E_SCENE_EACH where not every picture
    can show every value.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_PICTURES:
        raise UsageError(f"{count!r:.40} pictures: expected 1 to {MAX_PICTURES}", code="E_SCENE_PICTURES")
    units, size = request.units, request.people
    begun = state or new_state(units, request.roles)
    wish = Wish(size, count, request.seed, request.each)
    tally = Tally(begun.counts, begun.pairs)
    if state is None:
        everyone = batch(units, wish)
    else:
        everyone = list(stream(units, wish, Tally(begun.counts, begun.pairs)))
    places = Placing(units, size, begun.places.get(str(size)))
    roles = {axis: Placing(units, len(counts), begun.roles[axis]) for axis, counts in request.roles.items()}
    plans: list[Plan] = []
    furthest = Fraction(0)
    for number in range(count):
        people = everyone[number * size : (number + 1) * size]
        for person in people:
            tally.add(person)
            furthest = max(furthest, tally.deviation(units))
        index = begun.pictures + number
        given = _Given(
            people,
            places.give(people, list(range(size)), seed=f"places {request.seed} {index}"),
            {axis: _roles(people, roles[axis], request, axis=axis, index=index) for axis in roles},
        )
        plans.append(
            _plan(request, given, writer, start=begun.people + number * size, index=index, furthest=furthest)
        )
    after = begun.model_copy(
        update={
            "people": begun.people + count * size,
            "pictures": begun.pictures + count,
            "counts": tally.counts,
            "pairs": tally.pairs,
            "places": begun.places | {str(size): places.tables},
            "roles": {axis: placing.tables for axis, placing in roles.items()},
        }
    )
    if state is None:  # `start_index` and the counts are the batch's own
        method = "largest_remainder" if len(units) == 1 else "controlled_rounding"
        plans = [
            _with_method(plan, method if units and not request.each else plan.allocation.method)
            for plan in plans
        ]
    return Planned(tuple(plans), after, request.notes)


def position_table(plans: Sequence[Plan], axis: str) -> tuple[list[str], list[str], list[list[int]]]:
    """(groups, places, counts): how often each value of an attribute stood at each place, over plans.

    Places are numbered in reading order, the back row first; plans of other sizes have places of their own.
    """
    seen: list[tuple[str, str]] = []
    several = len({len(plan.people) for plan in plans}) > 1
    for plan in plans:
        order = reading_order(plan)
        for i, person in enumerate(order, 1):
            place = f"{i} of {len(order)}" if several else str(i)
            if axis in person.attributes:
                seen.append((person.attributes[axis], place))
    places = sorted(
        {place for _, place in seen}, key=lambda place: [int(n) for n in place.split(" of ")][::-1]
    )
    groups, counts = place_table(seen, places)
    return groups, places, counts


def reading_order(plan: Plan) -> list[PersonPlan]:
    """A plan's people by place: the back row first, each row from the left."""
    return sorted(plan.people, key=lambda p: (round(p.box[1] + p.box[3], 1), p.box[0]))


@final
@dataclass(frozen=True, slots=True)
class _Given:
    """Who is in one picture: cells, the place of each, and for each role axis a role or None."""

    people: Sequence[Person]
    places: Sequence[int]
    roles: dict[str, list[str | None]]


def _roles(
    people: Sequence[Person], placing: Placing, request: SceneRequest, *, axis: str, index: int
) -> list[str | None]:
    names = list(request.roles[axis])
    things: list[int | None] = [i for i, name in enumerate(names) for _ in range(request.roles[axis][name])]
    things += [None] * (len(people) - len(things))
    columns = placing.give(people, things, seed=f"roles {request.seed} {index} {axis}")
    return [None if (thing := things[column]) is None else names[thing] for column in columns]


def _plan(
    request: SceneRequest, given: _Given, writer: Writer | None, *, start: int, index: int, furthest: Fraction
) -> Plan:
    layout = lay_out(request.people, request.profile, seed=request.seed + index)
    slots = tuple(Slot(f"p{i + 1}", _attributes(request, given, i)) for i in range(request.people))
    written = write_words(Task(request.prompt, request.told, slots, request.vocabulary), writer)
    counts = {
        axis: dict(Counter(slot.attributes[axis] for slot in slots if axis in slot.attributes))
        for axis in [*quotas_of(request.units), *request.roles]
    }
    plan = Plan(
        version="1",
        canvas=Canvas(width=layout.width, height=layout.height),
        scene=ScenePrompt(prompt=written.words.scene, negative=written.words.negative),
        box_convention="xyxy_normalised_top_left",
        people=tuple(_person(slot, given.places[i], layout, written) for i, slot in enumerate(slots)),
        quotas={
            axis: {value: str(share) for value, share in shares.items()}
            for axis, shares in quotas_of(request.units).items()
        },
        allocation=Allocation(
            method="tijdeman" if request.units else "none",
            start_index=start,
            counts=counts,
            max_deviation=str(furthest),
        ),
        render=_render(request.profile.regional, seed=request.seed + index),
        provenance=_provenance(request, written),
        notes=request.notes,
    )
    return check_plan(plan)


def _render(settings: Regional, *, seed: int) -> Render:
    return Render(
        base_ratio=settings.base_ratio,
        regional_until=settings.regional_until,
        fence_until=settings.fence_until,
        feather=settings.feather,
        seed=seed,
    )


def _attributes(request: SceneRequest, given: _Given, i: int) -> dict[str, str]:
    """A person's values in the vocabulary's order."""
    found = dict(request.fixed)
    for unit, cell in zip(request.units, given.people[i], strict=True):
        found |= dict(zip(unit.axes, unit.cells[cell], strict=True))
    found |= {axis: role for axis, names in given.roles.items() if (role := names[i]) is not None}
    return {axis: found[axis] for axis in request.vocabulary.axes if axis in found}


def _person(slot: Slot, place: int, layout: Layout, written: Written) -> PersonPlan:
    left, top, right, bottom = layout.boxes[place]
    wide, high = layout.width, layout.height
    return PersonPlan(
        id=slot.id,
        box=(round(left / wide, 6), round(top / high, 6), round(right / wide, 6), round(bottom / high, 6)),
        z=layout.row_of(place),
        attributes=dict(slot.attributes),
        prompt=written.words.phrases[slot.id],
    )


def _provenance(request: SceneRequest, written: Written) -> Provenance:
    return Provenance(
        planner=written.planner,
        model=written.model,
        profile=request.profile.name,
        vocabulary=request.vocabulary.name,
        request=request.prompt,
        schema_sha=written.schema_sha,
        attempts=written.attempts,
        fallback=written.fallback,
    )


def _with_method(plan: Plan, method: str) -> Plan:
    return plan.model_copy(update={"allocation": plan.allocation.model_copy(update={"method": method})})
