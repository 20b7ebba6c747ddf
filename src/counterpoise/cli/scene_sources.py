"""What `scene draw` and `scene audit` are given: plans, pictures that carry plans, folders of them, or a
prompt to plan now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from counterpoise.errors import UsageError

if TYPE_CHECKING:
    from counterpoise.scenes.records import Named

SUFFIXES = (".json", ".png")
OURS = ("attempts.json", "audit.json", "sheet.png")  # what lies beside pictures without being one


def files_of(given: Sequence[str], *, prefer: str) -> list[Path]:
    """The plans and pictures that these arguments name, folders searched one level deep, by name.

    prefer: ".json" or ".png", which of a plan and the picture of its name stands for both in a folder.
    UsageError E_PLAN_FILE where there is none.
    """
    found: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            own = sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)
            own = [each for each in own if each.name not in OURS]
            liked = {each.stem for each in own if each.suffix.lower() == prefer}
            own = [each for each in own if each.suffix.lower() == prefer or each.stem not in liked]
            if not own:
                raise UsageError(
                    f"{path}: no plan (.json) and no picture (.png) in this folder; is it the right one?",
                    code="E_PLAN_FILE",
                    file=str(path),
                )
            found += own
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(
                f"{path}: no such file; expected plans that `scene plan --out` wrote, pictures that carry "
                'one, or one prompt with --people: scene draw "a team" --people 5',
                code="E_PLAN_FILE",
                file=str(path),
            )
    return found


def is_prompt(given: Sequence[str], people: int | None) -> bool:
    """Whether the arguments are one prompt and not paths: nothing of that name is there, and it has several
    words, or people to plan for."""
    if len(given) != 1 or Path(given[0]).exists() or given[0].lower().endswith(SUFFIXES):
        return False
    return people is not None or " " in given[0].strip()


def loaded(files: Sequence[Path]) -> list[Named]:
    """The plans of files, each named after its file."""
    from counterpoise.scenes import load_plan
    from counterpoise.scenes.records import Named

    return [Named(path.stem, load_plan(path), path.parent) for path in files]


def planned(
    prompt: str,
    *,
    people: int | None,
    shares: Sequence[str],
    profile: str,
    seed: int,
    pictures: int,
    each: bool,
    words: Path | None,
    insist: bool,
) -> list[Named]:
    """Plans of a prompt, made now as `scene plan` makes them; notes go to stderr."""
    from counterpoise import scenes
    from counterpoise.cli import console
    from counterpoise.scenes.records import Named

    vocabulary = scenes.load_vocabulary(scenes.profile_named(profile).vocabulary, over=words)
    request = scenes.scene_request(
        prompt,
        people=people,
        shares=shares,
        profile=profile,
        vocabulary=vocabulary,
        each=each,
        seed=seed,
        insist=insist,
    )
    made = scenes.plan_many(request, pictures)
    for note in made.notes:
        console.err.print(f"note: {note}")
    return [Named(f"scene-{i:05d}", plan) for i, plan in enumerate(made.plans)]
