"""Mixture distillation: a LoRA under which a neutral prompt draws a stated mixture of explicit variants.

The frozen model already draws every variant when it is asked. For a neutral prompt c and shares p over
explicit prompts c_a: draw a from p, follow the frozen model's own guided way from noise for c_a, and train
B and A so that the adapted model under c predicts, at each point of that way, what the frozen model
predicts there under c_a. The minimiser is the posterior-weighted mean of the variants' predictions, and
guiding it gives the mixture of guided variants. No photographs, no classifier in the loss.

Comes in: a pipeline, a Goal, a Method. Goes out: an Adapter and a loss log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from diffusers.models.attention_processor import AttnProcessor
from torch import nn

from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.record import Trajectories, join, record
from counterpoise.lora import Adapter, trainable
from counterpoise.lora.training import Schedule, train
from counterpoise.remedies.goal import Goal

TARGETS = (
    "unet.*.to_q",
    "unet.*.to_k",
    "unet.*.to_v",
    "unet.*.to_out.0",
    "unet.*.ff.net.0.proj",
    "unet.*.ff.net.2",
)

FIRST = Schedule(steps=380, batch=64, lr=3e-3, warmup=30, seed=21, ema=0.95, save_every=25)
LATER = Schedule(steps=100, batch=64, lr=1e-3, warmup=10, seed=22, ema=0.95, save_every=20)

StageProgress = Callable[[str, int, int, float], None]


@final
@dataclass(frozen=True, slots=True)
class Method:
    """How much of everything a distillation takes.

    ways: recorded drawings an edit, over all its templates and variants. kept: recorded drawings of the
    phrases to keep, in all. rank, alpha: of the LoRA. neutral, explicit, kept_share: shares of a batch:
    the neutral prompts; the variants' own prompts, kept where they were; the phrases to keep. What is
    left of 1 keeps the negative prompt's prediction. seed: of the first recorded drawing.
    first, later: the training's schedules before and after each correction of the shares.
    corrections: how often the student is audited on its own templates and the shares corrected;
    readings: pictures each time for each value of an edit's attribute.
    """

    ways: int = 216
    kept: int = 384
    rank: int = 16
    alpha: float = 16.0
    neutral: float = 0.62
    explicit: float = 0.16
    kept_share: float = 0.14
    seed: int = 1_000_000
    first: Schedule = FIRST
    later: Schedule = LATER
    corrections: int = 2
    readings: int = 60


KEPT = -1
# Which variant a picture becomes is decided in the first steps; the last one is taught a fifth as often.
LATE = 0.2


class Row(NamedTuple):
    """One recorded drawing: its explicit prompt, the neutral prompt to be taught on it (for what is kept:
    its own prompt), and the edit and variant that it belongs to (KEPT, 0 for what is kept)."""

    explicit: str
    neutral: str
    edit: int
    variant: int


@final
@dataclass(frozen=True, slots=True)
class Lessons:
    """Recorded ways and, for each, what the student is asked on it."""

    ways: Trajectories
    rows: tuple[Row, ...]


def plan_lessons(goal: Goal, method: Method) -> list[Row]:
    """Every way to record. Each variant of an edit gets the same number of ways, so that a small share is
    learnt from as many pictures as a large one; the shares are met by how often a row is drawn. Rows of
    one variant stand together, shuffled over templates."""
    rows: list[Row] = []
    for lesson in goal.lessons():
        each = -(-method.ways // (len(goal.templates) * len(lesson.explicit)))
        for variant, prompt in enumerate(lesson.explicit):
            rows += [Row(prompt, lesson.neutral, lesson.edit, variant)] * each
    kept = [template.format(phrase) for phrase in goal.keep for template in goal.templates]
    if kept:
        rows += [Row(prompt, prompt, KEPT, 0) for prompt in (kept * method.kept)[: method.kept]]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(method.seed)).tolist()
    return sorted((rows[i] for i in order), key=lambda row: (row.edit, row.variant))


def record_lessons(
    painter: Painter,
    goal: Goal,
    method: Method,
    *,
    cache: Path,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> Lessons:
    """Follows the frozen model on every planned way, in parts that are kept on disk and found again."""
    rows = plan_lessons(goal, method)
    part_size = painter.batch_size * 8
    parts = []
    for start in range(0, len(rows), part_size):
        file = cache / f"ways-{start}.pt"
        prompts = [row.explicit for row in rows[start : start + part_size]]
        if not file.exists():
            way = record(painter, prompts, [method.seed + start + i for i in range(len(prompts))])
            cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".tmp")
            tensors = ("timesteps", "noisy", "conditional", "unconditional")
            torch.save({name: getattr(way, name) for name in tensors}, partial)
            partial.replace(file)
        parts.append(Trajectories(tuple(prompts), **torch.load(file, weights_only=True)))
        progress("teacher", start + len(prompts), len(rows), float("nan"))
    return Lessons(join(parts), tuple(rows))


Shares = Sequence[Sequence[float]]


def goal_shares(goal: Goal) -> list[list[float]]:
    """For each edit, each variant's share as the goal states it."""
    return [[variant.share for variant in edit.variants] for edit in goal.edits]


def row_weights(rows: Sequence[Row], shares: Shares) -> torch.Tensor:
    """How often each row is drawn as a lesson: edits equally, then by the variant's share; kept rows 0."""
    counts = Counter((row.edit, row.variant) for row in rows)
    return torch.tensor(
        [
            0.0 if row.edit == KEPT else shares[row.edit][row.variant] / counts[row.edit, row.variant]
            for row in rows
        ]
    )


def distil(
    painter: Painter,
    lessons: Lessons,
    method: Method,
    *,
    shares: Shares,
    schedule: Schedule,
    checkpoint: Path,
    start: Adapter | None = None,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> tuple[Adapter, list[tuple[int, float]]]:
    """Trains the adapter beside the painter's frozen pipeline; the pipeline is left as it was.

    start: an adapter to go on from. Resumes from `checkpoint`. Raises DivergedError on a NaN loss.
    """
    pipeline = painter.pipeline
    ask = _Questions(
        painter, lessons, method, batch=schedule.batch, weights=row_weights(lessons.rows, shares)
    )
    generator = torch.Generator().manual_seed(schedule.seed)
    fresh = trainable(pipeline, TARGETS, rank=method.rank, alpha=method.alpha, generator=generator)
    with _plain_attention(pipeline.unet), fresh as factors:
        if start is not None:
            factors.load(start)
        parameters = nn.ParameterList(list(factors.parameters()))

        def loss_of(step: torch.Generator) -> torch.Tensor:
            noisy, timesteps, hidden, target = ask(step)
            with torch.autocast(pipeline.device.type, torch.bfloat16):
                output = pipeline.unet(noisy, timesteps, hidden).sample
            return (output.float() - target).square().mean()

        log = train(
            parameters,
            loss_of,
            schedule,
            checkpoint=checkpoint,
            progress=lambda step, total, loss: progress("distillation", step, total, loss),
        )
        return factors.adapter(), log


@contextmanager
def _plain_attention(unet: Any) -> Iterator[None]:
    """Attention in plain matrix products for a block: on a CPU, at these sizes, the fused kernel's backward
    pass in bf16 is a third slower. Elsewhere nothing is changed."""
    if unet.device.type != "cpu":
        yield
        return
    before = unet.attn_processors
    unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        unet.set_attn_processor(before)


@final
class _Questions:
    """Draws a batch: points on recorded ways, the prompt asked there, and what the frozen model said."""

    def __init__(
        self, painter: Painter, lessons: Lessons, method: Method, *, batch: int, weights: torch.Tensor
    ) -> None:
        self.ways = lessons.ways
        shares = [method.neutral, method.explicit, method.kept_share]
        counts = [round(batch * share) for share in shares]
        self.counts = [*counts, max(0, batch - sum(counts))]
        self.early = torch.linspace(1.0, LATE, len(self.ways.timesteps))
        self.taught = weights
        kept = torch.tensor([float(row.edit == KEPT) for row in lessons.rows])
        self.kept = kept if kept.any() else weights
        with torch.no_grad():
            self.neutral = painter.embed([row.neutral for row in lessons.rows])
            self.own = painter.embed([row.explicit for row in lessons.rows])
            self.negative = painter.embed([painter.negative_prompt])[0]

    def __call__(self, step: torch.Generator) -> tuple[torch.Tensor, ...]:
        rows = torch.cat(
            [
                systematic(self.kept if kind == 2 else self.taught, count, step)
                for kind, count in enumerate(self.counts)
            ]
        )
        kind = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))
        at = torch.multinomial(self.early, len(rows), replacement=True, generator=step)
        hidden = torch.where((kind == 0)[:, None, None], self.neutral[rows], self.own[rows])
        hidden = torch.where((kind == 3)[:, None, None], self.negative, hidden)
        said = torch.where(
            (kind == 3)[:, None, None, None],
            self.ways.unconditional[rows, at],
            self.ways.conditional[rows, at],
        )
        return self.ways.noisy[rows, at].float(), self.ways.timesteps[at], hidden, said.float()


def systematic(weights: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` row numbers in proportion to weights, each within one of its expected number.

    One random offset a call (systematic sampling): with neighbouring rows alike, every batch holds the
    mixture almost exactly, where independent draws would teach its own luck.
    """
    if not count:
        return torch.zeros(0, dtype=torch.int64)
    ends = weights.double().cumsum(0)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    points = (torch.arange(count, dtype=torch.float64) + offset) * (ends[-1] / count)
    return torch.searchsorted(ends, points, right=True).clamp(max=len(weights) - 1)
