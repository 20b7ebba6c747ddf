"""A person's adapter acts on that person alone: on their text, and on the image tokens that are theirs.

The engine does it, by strengths for each sample and by masks (`Host.per_sample`, `Host.masked`); here the
owner maps become its masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import final

import torch

from counterpoise.errors import UsageError
from counterpoise.lora.host import Host
from counterpoise.scenes.sampler.owners import Grid, owners
from counterpoise.scenes.sampler.scene import Scene


@final
@dataclass(frozen=True, slots=True)
class People:
    """host: on which all are mounted. names: of the adapters that act on single people; any others mounted
    act on the whole picture."""

    host: Host
    names: frozenset[str]

    @contextmanager
    def each(self, adapters: Sequence[str | None]) -> Iterator[None]:
        """For a block, sample i obeys adapters[i], and those of the whole picture."""
        common = {name: at for name, at in self.host.strengths.items() if name not in self.names}
        rows = [common if name is None else common | {name: self.host.strengths[name]} for name in adapters]
        with self.host.per_sample(rows):
            yield

    @contextmanager
    def placed(self, scene: Scene, grid: Grid) -> Iterator[None]:
        """For a block, each adapter acts where its people are. grid: of the latents."""
        owner = owners(scene, grid).reshape(grid)
        masks = {name: torch.zeros(grid) for name in self.names}
        for i, person in enumerate(scene.people):
            if person.adapter is not None:
                masks[person.adapter][owner == i] = 1.0
        with ExitStack() as stack:
            stack.enter_context(self.host.masked(masks))
            yield


def people_of(host: Host | None, scenes: Sequence[Scene]) -> People | None:
    """The adapters that these scenes' people have, or None; UsageError E_NAME where one is not mounted."""
    names = frozenset(
        person.adapter for scene in scenes for person in scene.people if person.adapter is not None
    )
    if not names:
        return None
    mounted = {} if host is None else host.strengths
    for name in sorted(names):
        if name not in mounted:
            reason = f"a person's adapter {name!r} is not mounted (mounted: {sorted(mounted) or 'none'})"
            raise UsageError(f"{reason}; mount it on a Host, and pass that", code="E_NAME")
    assert host is not None
    return People(host, names)
