"""What a text prompt says to a UNet, moved: keys and values of prompts sent to those of other prompts.

In: a painter, moves (a prompt, and the prompts whose say it is to have, weighted), prompts to keep. Out: an
adapter of the cross-attention's keys and values. Every projection reads the same text embeddings, so a value
v* = sum_a w_a W c_a is the projection of one moved embedding c* = c + sum_a w_a (c_a - c), and all layers
share one geometry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from counterpoise.diffusion.painter import Painter
from counterpoise.errors import UsageError
from counterpoise.lora import Adapter
from counterpoise.remedies.normal_equations import LOSS, RIDGE, solve

KEYS_AND_VALUES = ("to_k", "to_v")


class Move(NamedTuple):
    """A prompt, and how far to go towards others: weight by prompt. Weights of 0 leave it where it is, one of
    1 makes it say what the other says; they may be negative and need not sum to 1. whole: whether its last
    word moves too, or only what follows it; see `aligned`."""

    prompt: str
    towards: Mapping[str, float]
    whole: bool = True


def projections(unet: nn.Module, names: Sequence[str] = KEYS_AND_VALUES) -> dict[str, nn.Linear]:
    """The UNet's linear layers of these names that read the text, by path. UsageError E_MODEL if none do."""
    found = {
        path: layer
        for path, layer in unet.named_modules()
        if isinstance(layer, nn.Linear) and ".attn2." in path and path.endswith(tuple(names))
    }
    if not found:
        raise UsageError(
            f"no layer under attn2 is called {' or '.join(names)} in this {type(unet).__name__}: the closed "
            "form edits a UNet's cross-attention; use --method distil for other models",
            code="E_MODEL",
        )
    return found


def moved(
    painter: Painter,
    moves: Sequence[Move],
    preserved: Sequence[str],
    *,
    keep: float = 1.0,
    ridge: float = RIDGE,
    loss: float = LOSS,
    names: Sequence[str] = KEYS_AND_VALUES,
) -> Adapter:
    """The adapter under which each moved prompt says what its weights ask, and preserved ones what they said.

    keep: how much the preserved prompts weigh, all their tokens together, beside all edited ones (so that
    preserving more prompts does not preserve more). ridge: see `solve`; loss: what recompressing may lose of
    a layer's update. Nothing is drawn or trained.
    """
    rows = [aligned(painter, move) for move in moves]
    edited = torch.cat([source for source, _ in rows])
    goals = torch.cat([goal for _, goal in rows])
    kept = painter.embed(list(preserved)).cpu().flatten(0, 1) if preserved else None
    share = kept_share(keep, edited, kept)
    layers = {}
    for path, layer in projections(painter.pipeline.unet, names).items():
        weight = layer.weight.detach().cpu().double()
        # What the projection makes of the moved embedding; a bias would cancel out.
        targets = goals @ weight.T
        layers[f"unet.{path}"] = solve(weight, edited, targets, kept, keep=share, ridge=ridge, loss=loss)
    return Adapter(layers)


def kept_share(keep: float, edited: Tensor, kept: Tensor | None) -> float:
    """`solve`'s weight of one kept row, where all of them are to weigh `keep` times all edited ones."""
    return keep * len(edited) / len(kept) if kept is not None and len(kept) else 0.0


def aligned(painter: Painter, move: Move) -> tuple[Tensor, Tensor]:
    """Embeddings of the prompt that are to change [n, width], and what they are to become [n, width].

    CLIP reads from left to right, so all that is said is summed up at the end: the end token and the padding
    take those of the other prompt, end on end, and the last word takes the other's last word. A last word
    that says a detail has to stay: "a woman with tan skin" whose "skin" became the "hoodie" of "..., wearing
    a hoodie" was drawn light. That of a bare subject has to move: "a woman" whose padding alone was moved
    towards five tones stayed light.
    """
    own, end = painter.embed([move.prompt])[0].cpu().double(), len(tokens(painter.pipeline, move.prompt)) - 1
    goal, first = own.clone(), end - 1 if move.whole else end
    for prompt, weight in move.towards.items():
        other, theirs = painter.embed([prompt])[0].cpu().double(), len(tokens(painter.pipeline, prompt)) - 1
        at = torch.arange(len(own)).clamp(min=theirs)
        at[end - 1] = theirs - 1
        goal[first:] += weight * (other[at[first:]] - own[first:])
    return own[first:], goal[first:]


def tokens(pipeline: Any, prompt: str) -> list[int]:
    """The prompt's token numbers, its end token last."""
    longest = pipeline.tokenizer.model_max_length
    found: list[int] = pipeline.tokenizer(prompt, truncation=True, max_length=longest).input_ids
    return found
