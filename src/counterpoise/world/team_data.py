"""The training set of scenes: captioned drawings of several people, kept as the autoencoder's latents.

Comes in: the planted table, how many scenes of how many people, a trained autoencoder. Goes out: captions
and latents in a folder, a file for each chunk, found again when training resumes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from diffusers import AutoencoderKL

from counterpoise.files import whole
from counterpoise.world.autoencoder import encode
from counterpoise.world.table import load_table
from counterpoise.world.team import Team, Way, draw_team, sample_team

CHUNK = 250


@final
@dataclass(frozen=True, slots=True)
class TeamSet:
    """Scenes of one number of people. captions: n strings. latents: float32 (n, 4, h/8, w/8), unscaled."""

    captions: list[str]
    latents: torch.Tensor


def make_teams(count: int, seed: int, chunk: int, way: Way) -> tuple[list[Team], np.ndarray]:
    """CHUNK captioned scenes of `count` people, which depend on (count, seed, chunk) and the way alone: teams
    and uint8 pictures (CHUNK, height, width, 3)."""
    table, rng = load_table(), np.random.default_rng([seed, count, chunk])
    teams = [sample_team(table, count, rng, way) for _ in range(CHUNK)]
    return teams, np.stack([draw_team(team, rng) for team in teams])


def make_team_sets(
    folder: Path,
    scenes: Mapping[int, int],
    vae: AutoencoderKL,
    *,
    seed: int,
    way: Way,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int | None = None,
) -> dict[int, TeamSet]:
    """For each number of people, so many scenes (rounded up to whole chunks), drawn or found in `folder`."""
    jobs = [(count, chunk) for count, n in sorted(scenes.items()) for chunk in range(-(-n // CHUNK))]
    files = {job: folder / f"{way.name}-{seed}-{job[0]}-{job[1]}.json" for job in jobs}
    missing = [job for job, file in files.items() if not file.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    if missing:
        with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
            drawn = pool.map(_job, [(count, seed, chunk, way) for count, chunk in missing])
            for done, (job, (teams, images)) in enumerate(zip(missing, drawn, strict=True)):
                _keep(files[job], [team.caption for team in teams], encode(vae, images, batch=25))
                progress(done + 1, len(missing))
    found: dict[int, TeamSet] = {}
    for count in sorted(scenes):
        own = [file for (people, _), file in files.items() if people == count]
        latents = [torch.load(file.with_suffix(".pt"), weights_only=True) for file in own]
        captions = [caption for file in own for caption in json.loads(file.read_text("utf-8"))]
        found[count] = TeamSet(captions, torch.cat(latents).float())
    return found


def _job(job: tuple[int, int, int, Way]) -> tuple[list[Team], np.ndarray]:
    return make_teams(*job)


def _keep(file: Path, captions: list[str], latents: torch.Tensor) -> None:
    for target, write in (
        (file.with_suffix(".pt"), lambda path: torch.save(latents.half(), path)),
        (file, lambda path: path.write_text(json.dumps(captions), "utf-8")),
    ):
        with whole(target) as unfinished:
            write(unfinished)
