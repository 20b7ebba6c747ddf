"""Prompts as the pipeline's own encoders give them, each encoded alone, and once.

A phrase cut out of one long encoded prompt has already mixed with its neighbours; a person's prompt here has
never met another's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from counterpoise.scenes.sampler.adapters import People
from counterpoise.scenes.sampler.families import FLUX, SD, SD3, Family, family_of
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.settings import Regional

Encoded = tuple[Tensor, Tensor | None]  # (1, tokens, width), pooled (1, width) or None
REMEMBERED = 4096  # prompts; the longest unused go first


@final
@dataclass(slots=True)
class Texts:
    """Encodes for one pipeline. Make a new one whenever weights of a text encoder change (it remembers).

    people: the adapters that act on single people, if any are mounted.
    """

    pipeline: Any
    people: People | None = None
    _known: dict[tuple[str, int | None, str | None, bool], Encoded] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """The pipeline's family."""
        return family_of(self.pipeline)

    @torch.no_grad()
    def embed(
        self, prompt: str, *, tokens: int | None = None, adapter: str | None = None, negative: bool = False
    ) -> Encoded:
        """The prompt's tokens and pooled vector. tokens: of T5, None for the pipeline's own number."""
        key = (prompt, tokens, adapter, negative)
        known = self._known.pop(key, None)
        if known is None:
            if self.people is None:
                known = self._encode(prompt, tokens, negative=negative)
            else:
                with self.people.each([adapter]):
                    known = self._encode(prompt, tokens, negative=negative)
            while len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
        self._known[key] = known
        return known

    def base(self, prompts: Sequence[str], *, negative: bool = False) -> tuple[Tensor, Tensor | None]:
        """Base prompts of a batch, stacked."""
        both = [self.embed(prompt, negative=negative) for prompt in prompts]
        pooled = [own for _, own in both if own is not None]
        return torch.cat([tokens for tokens, _ in both]), torch.cat(pooled) if pooled else None

    def _encode(self, prompt: str, tokens: int | None, *, negative: bool) -> Encoded:
        pipeline, family = self.pipeline, self.family
        device = pipeline._execution_device
        longest = {} if tokens is None else {"max_sequence_length": tokens}
        if family is SD:
            return pipeline.encode_prompt(prompt, device, 1, False)[0], None
        if family is FLUX:
            found = pipeline.encode_prompt(prompt, None, device=device, **longest)
            return found[0], found[1]
        if family is SD3:
            found = pipeline.encode_prompt(
                prompt, None, None, device=device, do_classifier_free_guidance=False, **longest
            )
        else:
            found = pipeline.encode_prompt(prompt, device=device, do_classifier_free_guidance=False)
            if negative and not prompt and pipeline.config.force_zeros_for_empty_prompt:
                return torch.zeros_like(found[0]), torch.zeros_like(found[2])
        return found[0], found[2]


def base_inputs(texts: Texts, scenes: Sequence[Scene], *, guided: bool) -> dict[str, Tensor]:
    """What a stock pipeline takes instead of the scenes' base prompts and negatives."""
    found: dict[str, Tensor] = {}
    _put(found, "", texts.base([scene.prompt for scene in scenes]))
    if guided:
        _put(found, "negative_", texts.base([scene.negative for scene in scenes], negative=True))
    return found


def joint_inputs(
    texts: Texts, scenes: Sequence[Scene], settings: Regional, *, guided: bool
) -> tuple[dict[str, Tensor], int, int]:
    """The same with people's texts behind the base text, and the tokens of the base and of each person's.

    Scenes of fewer people are filled up with text that nobody reads.
    """
    found = dict(base_inputs(texts, scenes, guided=guided))
    most = max(len(scene.people) for scene in scenes)
    base, each = found["prompt_embeds"].shape[1], 0
    for prefix in ("", "negative_") if guided else ("",):
        rows = []
        for row, scene in zip(found[f"{prefix}prompt_embeds"], scenes, strict=True):
            own = []
            for person in scene.people:
                words = person.prompt
                if prefix:
                    words = scene.negative if person.negative is None else person.negative
                own.append(texts.embed(words, tokens=settings.person_tokens, negative=bool(prefix))[0])
            each = own[0].shape[1]
            rows.append(torch.cat([row[None], *own, *own[:1] * (most - len(own))], 1))
        found[f"{prefix}prompt_embeds"] = torch.cat(rows)
    return found, base, each


def people_texts(texts: Texts, scenes: Sequence[Scene], order: Mapping[tuple[int, int, bool], int]) -> Tensor:
    """(texts, tokens, width): people's own prompts and negatives, in the order of a `Run`."""
    rows = []
    for s, i, positive in order:
        scene, person = scenes[s], scenes[s].people[i]
        words = person.prompt
        if not positive:
            words = scene.negative if person.negative is None else person.negative
        rows.append(texts.embed(words, adapter=person.adapter, negative=not positive)[0])
    return torch.cat(rows)


def _put(found: dict[str, Tensor], prefix: str, both: tuple[Tensor, Tensor | None]) -> None:
    found[f"{prefix}prompt_embeds"] = both[0]
    if both[1] is not None:
        key = f"{prefix}pooled_prompt_embeds"
        found[key] = both[1]
