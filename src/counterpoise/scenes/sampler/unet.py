"""Attention processors for UNets: people's tokens read their own text, and at first see only themselves.

They do what diffusers' AttnProcessor and AttnProcessor2_0 do around the products, call the layers rather than
read their weights (so adapters act), and hand over to the stock processor wherever nothing is to be changed.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.groups import Attend, attend_in_groups
from counterpoise.scenes.sampler.run import Run

Words = tuple[Tensor, Tensor]  # keys and values (texts, tokens, heads, width)


def fused(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """torch's fused attention, as AttnProcessor2_0 calls it."""
    q, k, v = (own.transpose(1, 2) for own in (queries, keys, values))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def in_products(attn: Any) -> Attend:
    """Attention in plain matrix products, as AttnProcessor makes it with this layer's scale and precision."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        groups, tokens, heads, width = queries.shape
        q, k, v = (own.transpose(1, 2).reshape(groups * heads, -1, width) for own in (queries, keys, values))
        read = torch.bmm(attn.get_attention_scores(q, k, None), v)
        return read.reshape(groups, heads, tokens, width).transpose(1, 2)

    return attend


def words_of(attn: Any, text: Tensor) -> Words:
    """Keys and values of texts (texts, tokens, width), from the layer's own modules."""
    if attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    return _heads(attn, attn.to_k(text)), _heads(attn, attn.to_v(text))


@final
class Seeing:
    """Self-attention in which, while the fence is up, a person's tokens see themselves and the background."""

    def __init__(self, run: Run, stock: Any, *, products: bool) -> None:
        self._run, self._stock, self._products = run, stock, products

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        rows = self._run.rows(len(hidden_states))
        if not any(row.fenced and row.people for row in rows):
            plain: Tensor = self._stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain
        grid = self._run.grid if hidden_states.ndim == 3 else (hidden_states.shape[2], hidden_states.shape[3])
        x = _entered(attn, hidden_states, temb)
        q, k, v = (_heads(attn, layer(x)) for layer in (attn.to_q, attn.to_k, attn.to_v))
        _refuse_mask(attention_mask)
        groups = self._run.seeing(rows, grid, x.device)
        read = attend_in_groups((q, k, v), groups, in_products(attn) if self._products else fused)
        return _left(attn, read, hidden_states)


@final
class Reading:
    """Cross-attention in which a person's tokens read their own text beside the base text.

    words: keys and values of all people's texts, kept over the steps. base: those of the model's own batch,
    where it must not be asked for them at every step; None asks.
    """

    def __init__(self, run: Run, stock: Any, *, products: bool, words: Words, base: Words | None) -> None:
        self._run, self._stock, self._products = run, stock, products
        self._words, self._base = words, base

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        *,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        rows = self._run.rows(len(hidden_states))
        if self._base is None and not any(row.people for row in rows):
            plain: Tensor = self._stock(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
            return plain
        _refuse_mask(attention_mask)
        attend = in_products(attn) if self._products else fused
        x = _entered(attn, hidden_states, temb)
        q = _heads(attn, attn.to_q(x))
        if self._base is None:
            k, v = words_of(attn, encoder_hidden_states)
        else:  # negative texts lie before positive ones, as guidance stacks its halves
            k, v = (own[-len(x) :].to(q.dtype) for own in self._base)
        read = torch.zeros_like(q)
        flat, asked = read.view(-1, *read.shape[2:]), q.reshape(-1, *q.shape[2:])
        for group in self._run.resting(rows, self._run.grid, x.device):
            if isinstance(group.queries, slice):
                whole = group.queries
                read[whole] = attend(q[whole], k[whole], v[whole]).to(q.dtype)
            else:
                flat[group.queries] = attend(asked[group.queries], k[group.texts], v[group.texts]).to(q.dtype)
        strength = self._run.strength(rows, self._run.grid, read)
        for group in self._run.reading(rows, self._run.grid, x.device):
            keys, values = (own[group.texts].to(q.dtype) for own in self._words)
            own = attend(asked[group.queries], keys, values).to(q.dtype)
            flat[group.queries] = torch.lerp(flat[group.queries], own, strength[group.queries])
        return _left(attn, read, hidden_states)


def _refuse_mask(mask: Tensor | None) -> None:
    if mask is not None:
        raise UsageError(
            "an attention mask cannot be kept by token groups; draw without", code="E_UNSUPPORTED"
        )


def _heads(attn: Any, x: Tensor) -> Tensor:
    return x.unflatten(-1, (attn.heads, -1))


def _entered(attn: Any, hidden_states: Tensor, temb: Tensor | None) -> Tensor:
    """The layer's input as tokens (batch, tokens, width), normed."""
    x = hidden_states if attn.spatial_norm is None else attn.spatial_norm(hidden_states, temb)
    if x.ndim == 4:
        x = x.flatten(2).transpose(1, 2)
    return x if attn.group_norm is None else attn.group_norm(x.transpose(1, 2)).transpose(1, 2)


def _left(attn: Any, read: Tensor, hidden_states: Tensor) -> Tensor:
    """The layer's output from what its heads read, shaped as its input."""
    x = attn.to_out[1](attn.to_out[0](read.flatten(2)))
    if hidden_states.ndim == 4:
        x = x.transpose(-1, -2).reshape(hidden_states.shape)
    if attn.residual_connection:
        x = x + hidden_states
    return x / attn.rescale_output_factor
