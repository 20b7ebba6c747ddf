"""Rival: all prompts in one sequence, and a mask that lets each token read its own person's alone.

As in InvokeAI's regional prompts and Omost (github.com/lllyasviel/Omost, "score manipulation"): scores of
other people's words are -inf, one dense mask a grid. The background reads the base prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.hold import (
    Hold,
    Inputs,
    attentions,
    checked_levels,
    swapped_in,
    watched_unet,
)
from counterpoise.scenes.sampler.run import Run
from counterpoise.scenes.sampler.scene import Scene
from counterpoise.scenes.sampler.settings import Regional
from counterpoise.scenes.sampler.texts import Texts, base_inputs


def concatenated() -> Hold:
    """The masked rival; UNets alone, errors as `regional`."""

    @contextmanager
    def hold(texts: Texts, scenes: Sequence[Scene], *, guided: bool) -> Iterator[Inputs]:
        if texts.family.joint:
            raise UsageError("this rival is written for UNets", code="E_UNSUPPORTED")
        checked_levels(texts.pipeline, scenes)
        inputs = base_inputs(texts, scenes, guided=guided)
        most = max(len(scene.people) for scene in scenes)
        rows = []
        for base, scene in zip(inputs["prompt_embeds"], scenes, strict=True):
            own = [texts.embed(person.prompt)[0][0] for person in scene.people]
            rows.append(torch.cat([base, *own, *own[:1] * (most - len(own))]))
        length = inputs["prompt_embeds"].shape[1]
        inputs["prompt_embeds"] = torch.stack(rows)
        if guided:  # repeated keys leave a softmax as it is, so the negative half stays plain
            inputs["negative_prompt_embeds"] = inputs["negative_prompt_embeds"].repeat(1, most + 1, 1)
        run = Run(scenes, Regional(), guided=guided)
        layers = {
            layer: Masked(run, length)
            for name, layer in attentions(texts.pipeline.unet).items()
            if name.endswith("attn2")
        }
        with watched_unet(run, texts.pipeline), swapped_in(layers):
            yield inputs

    return hold


@final
class Masked:
    """Cross-attention under the mask. length: words of each prompt."""

    def __init__(self, run: Run, length: int) -> None:
        self._run, self._length = run, length
        self._masks: dict[Any, Tensor] = {}

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        layers = (attn.to_q, attn.to_k, attn.to_v)
        sources = (hidden_states, encoder_hidden_states, encoder_hidden_states)
        q, k, v = (
            layer(own).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, own in zip(layers, sources, strict=True)
        )
        mask = self._mask(len(q), k.shape[2], q.device)
        read = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        out: Tensor = attn.to_out[1](attn.to_out[0](read)) / attn.rescale_output_factor
        return out

    def _mask(self, batch: int, words: int, device: torch.device) -> Tensor:
        """bool (batch, 1, tokens, words): what may be read."""
        rows, grid = self._run.rows(batch), self._run.grid
        key = (rows, grid)
        if key not in self._masks:
            segment = torch.arange(words) // self._length  # 0 is the base prompt, i + 1 person i
            made = torch.ones(batch, 1, grid[0] * grid[1], words, dtype=torch.bool)
            for r, row in enumerate(rows):
                if row.positive:
                    made[r, 0] = segment[None, :] == self._run.owners(row.scene, grid)[:, None] + 1
            self._masks[key] = made.to(device)
        return self._masks[key]
