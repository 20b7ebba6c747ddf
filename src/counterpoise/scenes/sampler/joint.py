"""Attention processors for joint attention of text and image: SD3's order is image, text; Flux's text, image.

People's texts lie behind the base text in one sequence. Who sees whom is `Run.seeing`; norms and rotary
positions are applied before the groups are made, as the stock processors apply them.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from counterpoise.scenes.sampler.groups import Attend, attend_in_groups
from counterpoise.scenes.sampler.run import NO_TEXT, Run, Text
from counterpoise.scenes.sampler.unet import fused


def seen(run: Run, tokens: tuple[Tensor, Tensor, Tensor], text: Text, attend: Attend) -> Tensor:
    """What queries, keys, values (batch, sequence, heads, width) of a joint sequence read of each other."""
    queries = tokens[0]
    rows = run.rows(len(queries))
    read = attend_in_groups(tokens, run.seeing(rows, run.grid, queries.device, text=text), attend)
    if not text.tokens or not any(row.people for row in rows):
        return read
    groups, strength = run.seeing_plainly(rows, run.grid, queries.device, text=text)
    flat = read.view(-1, *read.shape[2:])
    laid = [own.reshape(-1, *own.shape[2:]) for own in tokens]
    for group in groups:
        plain = attend(laid[0][group.queries], laid[1][group.keys], laid[2][group.keys]).to(read.dtype)
        flat[group.queries] = torch.lerp(plain, flat[group.queries], strength[group.queries].to(read.dtype))
    return read


@final
class JointSD3:
    """In the place of JointAttnProcessor2_0; without text (SD3.5's second attention) the fence alone."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Any:
        layers = [(attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k), (attn.to_v, None)]
        tokens = [_heads(attn, layer(hidden_states), norm) for layer, norm in layers]
        if encoder_hidden_states is None:
            read = seen(self._run, (tokens[0], tokens[1], tokens[2]), NO_TEXT, fused)
            return attn.to_out[1](attn.to_out[0](read.flatten(2)))
        added = [
            (attn.add_q_proj, attn.norm_added_q),
            (attn.add_k_proj, attn.norm_added_k),
            (attn.add_v_proj, None),
        ]
        words = [_heads(attn, layer(encoder_hidden_states), norm) for layer, norm in added]
        q, k, v = (torch.cat(pair, 1) for pair in zip(tokens, words, strict=True))
        read = seen(self._run, (q, k, v), self._run.text._replace(first=False), fused).flatten(2)
        image, text = read.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], 1)
        if not attn.context_pre_only:
            text = attn.to_add_out(text)
        return attn.to_out[1](attn.to_out[0](image)), text


@final
class JointFlux:
    """In the place of FluxAttnProcessor, in double blocks (text beside image) and single ones (joined)."""

    def __init__(self, run: Run, stock: Any) -> None:
        self._run, self._stock = run, stock

    def __call__(  # noqa: PLR0917 - diffusers passes all by position
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        from diffusers.models.embeddings import apply_rotary_emb

        layers = [(attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k), (attn.to_v, None)]
        tokens = [_heads(attn, layer(hidden_states), norm) for layer, norm in layers]
        if encoder_hidden_states is not None:
            added = [
                (attn.add_q_proj, attn.norm_added_q),
                (attn.add_k_proj, attn.norm_added_k),
                (attn.add_v_proj, None),
            ]
            words = [_heads(attn, layer(encoder_hidden_states), norm) for layer, norm in added]
            tokens = [torch.cat(pair, 1) for pair in zip(words, tokens, strict=True)]
        q, k, v = tokens
        if image_rotary_emb is not None:
            q = apply_rotary_emb(q, image_rotary_emb, sequence_dim=1)
            k = apply_rotary_emb(k, image_rotary_emb, sequence_dim=1)
        read = seen(self._run, (q, k, v), self._run.text._replace(first=True), self._attend).flatten(2)
        if encoder_hidden_states is None:
            return read
        text, image = read.split([encoder_hidden_states.shape[1], hidden_states.shape[1]], 1)
        return attn.to_out[1](attn.to_out[0](image.contiguous())), attn.to_add_out(text.contiguous())

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        from diffusers.models.attention_dispatch import dispatch_attention_fn

        read: Tensor = dispatch_attention_fn(queries, keys, values, backend=self._stock._attention_backend)
        return read


def _heads(attn: Any, x: Tensor, norm: Any) -> Tensor:
    heads = x.unflatten(-1, (attn.heads, -1))
    return heads if norm is None else norm(heads)
