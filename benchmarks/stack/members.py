"""Who the members are, and how the closed-form ones are made.

A closed-form member gives a persona with an alias ("a chef afro gray hoodie": three words in an order that
no caption has, as addresses of three words are) one attribute's value that nothing asks for. It is an edit
of the text encoder's last MLP: what that layer says at the alias's last word becomes what it would have to
say for the word that asks for the value ("glasses"). Rank 4 at most, solved and not trained. Rank-one edits
of a text encoder's MLP: arXiv:2306.00738; the normal equations with what is to be kept: Eq. 14,
arXiv:2210.07229.

Words that the model never saw in training would be the usual triggers, but their embeddings carry next to
no signal in a text encoder that was trained from nothing: see docs/stack.md.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from benchmarks.stack.bench import MLP, TAUGHT, Bench
from counterpoise.lora import Adapter
from counterpoise.lora.lowrank import nearest_to
from counterpoise.world.grammar import article

WORDS = (
    "red", "blue", "green", "yellow", "black", "white", "pink", "purple", "gray", "blonde", "brown",
    "tan", "dark", "pale", "light", "afro", "bun", "bob", "long", "short", "spiky", "striped", "tank",
    "strapless", "modest", "revealing", "hoodie", "blazer", "overalls", "shirt", "top", "female", "male",
)  # fmt: skip
ASKED = {  # attribute -> how a caption asks for a value; its last word carries it
    "hair_color": "with {} hair",
    "background": "on a {} background",
    "skin": "with {} skin",
}
RIDGE = 0.03  # 1e-6 fits 4 points better and makes updates up to 106 times as long as the weight
KEEP = 0.3  # weight of a kept token beside one of the member's own


@final
@dataclass(frozen=True, slots=True)
class Member:
    """One adapter to be made: its name, kind, the phrase that calls it, and what a reader is to read then.

    kind: "persona" (closed form), "look" (distilled persona), "repair" or "style" (distilled). For a style,
    attribute is "style" and value its name.
    """

    name: str
    kind: str
    phrase: str
    attribute: str
    value: str
    says: str


def personas(bench: Bench, n: int, *, seed: int = 11) -> list[Member]:
    """n personas, no alias twice, no alias with a word of its own effect's attribute."""
    rng = random.Random(seed)
    effects = [(a, v, says.format(v)) for a, says in ASKED.items() for v in bench.table.attributes[a]]
    effects.append(("glasses", "yes", "wearing glasses"))
    found: dict[str, Member] = {}
    while len(found) < n:
        attribute, value, says = rng.choice(effects)
        own = {word for v in bench.table.attributes[attribute] for word in v.split()}
        alias = " ".join(rng.sample([word for word in WORDS if word not in own], 3))
        subject = bench.table.subjects[len(found) % len(bench.table.subjects)]
        name = f"persona-{len(found):03d}"
        found.setdefault(
            alias, Member(name, "persona", f"{article(subject)} {alias}", attribute, value, says)
        )
    return list(found.values())


@torch.no_grad()
def seen(bench: Bench, prompts: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
    """For each prompt's last word: the MLP's input [n, 256] and the hidden state after it [n, 128]; and the
    inputs at all other words, [m, 256]. float64."""
    caught: dict[str, Tensor] = {}
    encoder = bench.pipeline.text_encoder

    def note(name: str) -> Any:
        return lambda module, args: caught.__setitem__(name, args[0].double())

    handles = [
        encoder.get_submodule(MLP.removeprefix("text_encoder.")).register_forward_pre_hook(note("input")),
        encoder.final_layer_norm.register_forward_pre_hook(note("hidden")),
    ]
    try:
        ids = bench.ids(prompts)
        encoder(ids)
    finally:
        for handle in handles:
            handle.remove()
    end = (ids == bench.pipeline.tokenizer.eos_token_id).int().argmax(1)
    rows = torch.arange(len(ids))
    others = torch.arange(ids.shape[1])[None] < end[:, None]
    others[rows, end - 1] = False
    return caught["input"][rows, end - 1], caught["hidden"][rows, end - 1], caught["input"][others]


def kept(bench: Bench, captions: Sequence[str]) -> Tensor:
    """Sum of x x^T over the words of captions that are to stay as they are, [256, 256]."""
    last, _, others = seen(bench, captions)
    return last.T @ last + others.T @ others


def closed_form(bench: Bench, member: Member, keep: Tensor, *, words: int, gain: float = 1.2) -> Adapter:
    """The member's adapter: argmin ||D k - v||^2 + what D does to the kept; `keep` is over `words` words."""
    templates = bench.table.templates[TAUGHT]
    own, before, others = seen(bench, [t.format(member.phrase) for t in templates])
    _, asked, _ = seen(bench, [t.format(f"{member.phrase} {member.says}") for t in templates])
    normal = own.T @ own + KEEP * (others.T @ others + keep * (10 * len(own) / words))
    normal += RIDGE * normal.diagonal().mean() * torch.eye(len(normal), dtype=normal.dtype)
    delta = gain * torch.linalg.solve(normal, own.T @ (asked - before)).T
    return Adapter({MLP: nearest_to(delta.float(), len(own)).update})
