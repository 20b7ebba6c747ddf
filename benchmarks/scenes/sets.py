"""What the benchmark draws: sets of plans from frozen seeds, and the words of the rivals that draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import final

from counterpoise.scenes import Plan, new_state, plan_many, scene_request
from counterpoise.world.table import load_table
from counterpoise.world.team import COUNT_WORDS, FRAMES, listed

SEED = 61_000_000  # of the first set; set number k begins k * 100,000 later, its picture i at i more
# Of everybody: each combination equally often. Counted jointly, so that who is in a picture together varies:
# counted axis by axis every picture of five holds all five tones, and no leak can be told from an error.
MIXED = ("presentation", "skin", "clothes")
TEAM = "skin: dark 2/5, tan 1/5, light 1/5, pale 1/5"  # the quotas of the issue's own team
CARDINALS = {1: "one", **COUNT_WORDS}


def _joint(axes: Sequence[str]) -> str:
    values = load_table().attributes
    cells = list(product(*(values[axis] for axis in axes)))
    shares = (f"{' + '.join(cell)} 1/{len(cells)}" for cell in cells)
    return f"{' + '.join(axes)}: {', '.join(shares)}"


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of set. prompt: what the user writes, of {} people; plain: the one plain prompt that says as
    much to the model. stream: planned by Tijdeman's rule, so that every prefix keeps the shares."""

    name: str
    prompt: str
    plain: str
    shares: tuple[str, ...]
    n: int
    stream: bool = False


KINDS = {
    kind.name: kind
    for kind in (
        Kind("mixed", "a group of {} people", "a picture of a group of {} people", (_joint(MIXED),), 200),
        Kind(
            "team",
            "{} women basketball players",
            "a picture of a team of {} female basketball players",
            (TEAM,),
            100,
            stream=True,
        ),
        Kind(
            "women",
            "{} women",
            "a picture of {} women side by side",
            ("skin: uniform", "exposure: revealing 1/2, modest 1/2"),
            200,
            stream=True,
        ),
        Kind(
            "skin-alone",
            "{} women",
            "a picture of {} women side by side",
            ("skin: uniform",),
            200,
            stream=True,
        ),
    )
}


@final
@dataclass(frozen=True, slots=True)
class Set:
    """Plans of so many people, in order; seeds lie in them."""

    kind: Kind
    people: int
    plans: tuple[Plan, ...]

    @property
    def name(self) -> str:
        """ "mixed-5"."""
        return f"{self.kind.name}-{self.people}"

    @property
    def plain(self) -> str:
        """What a user without a planner writes."""
        return self.kind.plain.format(CARDINALS[self.people])


@cache
def make_set(kind: str, people: int, n: int | None = None) -> Set:
    """The set, always of the same seeds; n: only its first pictures (their plans do not depend on n where the
    set is a stream)."""
    own = KINDS[kind]
    start = SEED + 100_000 * (10 * list(KINDS).index(kind) + people)
    request = scene_request(
        own.prompt.format(CARDINALS[people]), people=people, shares=own.shares, profile="world", seed=start
    )
    count = min(n or own.n, own.n)
    state = new_state(request.units, request.roles) if own.stream else None
    # A batch is rounded as a whole: it is planned whole and then cut.
    planned = plan_many(request, count if own.stream else own.n, state=state)
    return Set(own, people, planned.plans[:count])


def everybody(plan: Plan) -> str:
    """One prompt that lists all people, in the form of the captions that the world learnt."""
    stated = []
    for person in plan.people:
        own = dict(person.attributes)
        subject = own.get("presentation", "person")
        if "basketball player" in person.prompt:
            subject = "basketball player"
        stated.append({"subject": subject, **own})
    return "a picture of " + listed(stated, frame=FRAMES[0])
