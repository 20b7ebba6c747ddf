"""Mixture distillation: a LoRA under which a neutral prompt draws a stated mixture of explicit variants.

The frozen model already draws every variant when it is asked. For a neutral prompt c and shares p over
explicit prompts c_a: draw a from p, follow the frozen model's own guided way from noise for c_a, and train
B and A so that the adapted model under c predicts, at each point of that way, what the frozen model
predicts there under c_a. The minimiser is the posterior-weighted mean of the variants' predictions, and
guiding it gives the mixture of guided variants. No photographs, no classifier in the loss.

Comes in: a pipeline, a Goal, a Method. Goes out: an Adapter and a loss log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch
from torch import nn

from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Adapter, Trainable, trainable
from counterpoise.lora.training import Schedule, minimise
from counterpoise.remedies.coupling import PROBES
from counterpoise.remedies.goal import Goal
from counterpoise.remedies.lessons import KEPT, Lessons, Shares, StageProgress, Stress
from counterpoise.remedies.sampling import Asked

TARGETS = (
    "unet.*.to_q",
    "unet.*.to_k",
    "unet.*.to_v",
    "unet.*.to_out.0",
    "unet.*.ff.net.0.proj",
    "unet.*.ff.net.2",
)

FIRST = Schedule(steps=300, batch=64, lr=3e-3, warmup=30, seed=21, ema=0.95, save_every=25)
LATER = Schedule(steps=80, batch=64, lr=1e-3, warmup=10, seed=22, ema=0.95, save_every=20)


@final
@dataclass(frozen=True, slots=True)
class Method:
    """How much of everything a distillation takes.

    ways: recorded drawings an edit, over all its templates and variants. kept: recorded drawings, in all, of
    the phrases to keep and of the variants' own, on any noise. rank, alpha: of the LoRA. neutral, explicit,
    kept_share: shares of a batch: the neutral prompts; the variants' own prompts, kept where they were; the
    drawings to keep. What is left of 1 keeps the negative prompt's prediction. seed: of the first recorded
    drawing.
    first, later: the training's schedules before and after each correction of the shares.
    corrections: how often the student is audited on its own templates and the shares corrected;
    readings: pictures for each cell of an edit (value of its attribute) the first time, as many more each
    time after it, since the last correction is the one whose noise stays.
    probes: pictures of each variant that an edit's own direction of noise is found from.
    neighbours: recorded drawings, in all, of the prompts next to those that are edited. spread: whether the
    corrections read noise that is spread over the variants' quantiles, which is sharper than noise by lot.
    recheck: whether the last training is read as well, and only as much of it kept as leads nearest to the
    targets. refinements: how often what was kept is read anew, corrected once more by a training on the
    schedule `finer`, and of that again as much kept. rates: how many trainings on `finer` end the repair that
    stress the edits whose groups are compared by a rate (`observing.rates`), each read from `rated` pictures
    after it. stressed: their share of those lessons.
    ranks, strengths: which others to try before those, judged on the trained templates (`choose`).
    """

    ways: int = 216
    kept: int = 512
    rank: int = 16
    alpha: float = 16.0
    neutral: float = 0.57
    explicit: float = 0.10
    kept_share: float = 0.26
    seed: int = 1_000_000
    first: Schedule = FIRST
    later: Schedule = LATER
    corrections: int = 3
    readings: int = 30
    probes: int = PROBES
    neighbours: int = 0
    spread: bool = False
    recheck: bool = False
    refinements: int = 0
    finer: Schedule = LATER
    rates: int = 0
    rated: int = 900
    stressed: float = 0.6
    ranks: tuple[int, ...] = ()
    strengths: tuple[float, ...] = ()


def suited(goal: Goal) -> Method:
    """A method for any goal: what is recorded, kept and trained grows with the edits and their variants.

    A few edits of one attribute each take minutes with the defaults (see `distilled.FOR_FEW`), neighbours as
    the goal's `keep` names them.
    """
    edits, variants = len(goal.edits), sum(len(edit.variants) for edit in goal.edits)
    large = variants > 40
    # Without a long cooldown the last steps' walk moves all edits' shares alike, by up to five points.
    later = replace(LATER, steps=max(120, variants), lr=8e-4, cooldown=max(90, 3 * variants // 4), ema=0.98)
    return Method(
        ways=max(110, 10 * max(len(edit.variants) for edit in goal.edits)),
        kept=max(200, 24 * edits),
        neighbours=max(200, 24 * edits),
        rank=32 if large else 16,
        alpha=32.0 if large else 16.0,
        neutral=0.56,
        explicit=0.08,
        kept_share=0.30,
        first=replace(FIRST, steps=240 + 5 * variants, lr=2.5e-3, cooldown=150, ema=0.97),
        later=later,
        corrections=3,
        readings=6,
        spread=True,
        recheck=True,
        refinements=1,
        finer=replace(later, lr=4e-4),
        rates=2,
        ranks=(8, 16),
        strengths=(0.9, 1.1),
    )


# Which variant a picture becomes is decided in the first steps; the last one is taught a fifth as often.
LATE = 0.2


def distil(
    painter: Painter,
    lessons: Lessons,
    method: Method,
    *,
    shares: Shares,
    schedule: Schedule,
    checkpoint: Path,
    start: Adapter | None = None,
    stress: Stress | None = None,
    progress: StageProgress = lambda stage, step, total, loss: None,
) -> tuple[Adapter, list[tuple[int, float]]]:
    """Trains the adapter beside the painter's frozen pipeline; the pipeline is left as it was.

    start: an adapter to go on from, at its own rank. Resumes from `checkpoint`. Raises DivergedError on a NaN
    loss.
    """
    pipeline = painter.pipeline
    ask = Questions(painter, lessons, method, batch=schedule.batch, weights=lessons.weights(shares, stress))
    fresh = _fresh(pipeline, method, schedule.seed) if start is None else Trainable(pipeline, start)
    with fresh as factors:
        parameters = nn.ParameterList(list(factors.parameters()))

        def loss_of(step: torch.Generator) -> torch.Tensor:
            noisy, timesteps, hidden, target = ask(step)
            with painter.precision():
                output = pipeline.unet(noisy, timesteps, hidden).sample
            return (output.float() - target).square().mean()

        log = minimise(
            parameters,
            loss_of,
            schedule,
            checkpoint=checkpoint,
            progress=lambda step, total, loss: progress("distillation", step, total, loss),
        )
        return factors.adapter(), log


def _fresh(pipeline: object, method: Method, seed: int) -> Trainable:
    generator = torch.Generator().manual_seed(seed)
    return trainable(pipeline, TARGETS, rank=method.rank, alpha=method.alpha, generator=generator)


@final
class Questions:
    """Draws a batch: points on recorded ways, the prompt asked there, and what the frozen model said."""

    def __init__(
        self, painter: Painter, lessons: Lessons, method: Method, *, batch: int, weights: torch.Tensor
    ) -> None:
        self.ways = lessons.ways
        shares = [method.neutral, method.explicit, method.kept_share]
        counts = [round(batch * share) for share in shares]
        self.counts = [*counts, max(0, batch - sum(counts))]
        self.taught = weights
        # A variant that another edit changes is not held where it was.
        edited = {row.neutral for row in lessons.rows if row.edit != KEPT}
        free = weights * torch.tensor([float(row.explicit not in edited) for row in lessons.rows])
        self.own_words = free if free.any() else weights
        kept = torch.tensor([float(row.edit == KEPT) for row in lessons.rows])
        self.kept = kept if kept.any() else weights
        early = torch.linspace(1.0, LATE, len(self.ways.timesteps))
        groups = [(row.edit, row.variant) for row in lessons.rows]
        lots = [Asked(one, early, groups) for one in (self.taught, self.own_words, self.kept)]
        self.asked = (*lots, lots[0])
        with torch.no_grad():
            self.neutral = painter.embed([row.neutral for row in lessons.rows])
            self.own = painter.embed([row.explicit for row in lessons.rows])
            self.negative = painter.embed([painter.negative_prompt])[0]

    def __call__(self, step: torch.Generator) -> tuple[torch.Tensor, ...]:
        drawn = [ask(count, step) for ask, count in zip(self.asked, self.counts, strict=True)]
        rows, at = torch.cat([row for row, _ in drawn]), torch.cat([at for _, at in drawn])
        kind = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))
        hidden = torch.where((kind == 0)[:, None, None], self.neutral[rows], self.own[rows])
        hidden = torch.where((kind == 3)[:, None, None], self.negative, hidden)
        said = torch.where(
            (kind == 3)[:, None, None, None],
            self.ways.unconditional[rows, at],
            self.ways.conditional[rows, at],
        )
        return self.ways.noisy[rows, at].float(), self.ways.timesteps[at], hidden, said.float()
