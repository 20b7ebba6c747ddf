"""Makes the world's models from nothing: draw, train the autoencoder, the denoiser and the reader, save.

The model of one person first; then its copy is taught scenes, people anywhere and then in their places.

Every stage leaves a checkpoint in the work folder; the same call goes on where a killed one stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from diffusers import AutoencoderKL

from counterpoise.diffusion.precision import computed_in
from counterpoise.files import whole
from counterpoise.lora.training import Schedule
from counterpoise.world import model as parts
from counterpoise.world.autoencoder import encode, psnr, train_decoder, train_vae
from counterpoise.world.data import DataSet, make_dataset
from counterpoise.world.denoiser import Captioned, tokenize, train_denoiser
from counterpoise.world.grammar import bare_rows
from counterpoise.world.reader import accuracy, train_reader
from counterpoise.world.table import load_table
from counterpoise.world.team import LOOSE, PLACED, Way
from counterpoise.world.team_data import make_team_sets, make_teams

DATA_SEED, HELD_OUT_SEED = 1, 2
LOOSE_SHARE = 0.55  # of that stage's steps; the others see portraits
PLACED_SHARES = {2: 0.25, 3: 0.2, 4: 0.1, 5: 0.2, 6: 0.05, 7: 0.025, 8: 0.05}

StageProgress = Callable[[str, int, int, float], None]


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """How much of everything: the defaults made the weights that ship.

    loose, placed: people -> scenes. decoded: (people, chunk) of the scenes that the decoder learns.
    """

    drawings: int = 60_000
    held_out: int = 4_000
    vae: Schedule = field(default_factory=lambda: Schedule(steps=1900, batch=32, lr=2e-3, seed=11))
    vae_polish: Schedule = field(default_factory=lambda: Schedule(steps=700, batch=32, lr=1e-3, seed=14))
    denoiser: Schedule = field(
        default_factory=lambda: Schedule(
            steps=9000, batch=64, lr=8e-4, warmup=200, cooldown=2200, seed=12, ema=0.999, save_every=250
        )
    )
    denoiser_polish: Schedule = field(
        default_factory=lambda: Schedule(
            steps=3500, batch=64, lr=5e-4, warmup=50, cooldown=2000, seed=15, ema=0.999, save_every=250
        )
    )
    denoiser_shares: Schedule = field(
        default_factory=lambda: Schedule(
            steps=1500, batch=64, lr=3e-4, warmup=50, cooldown=1400, seed=16, ema=0.998, save_every=250
        )
    )
    denoiser_loose: Schedule = field(
        default_factory=lambda: Schedule(
            steps=6000, batch=64, lr=5e-4, warmup=100, cooldown=3000, seed=17, ema=0.999, save_every=250
        )
    )
    loose: Mapping[int, int] = field(default_factory=lambda: dict.fromkeys((2, 3, 4, 5), 3000))
    denoiser_placed: Schedule = field(
        default_factory=lambda: Schedule(
            steps=3600, batch=64, lr=5e-4, warmup=100, cooldown=1800, seed=18, ema=0.998, save_every=250
        )
    )
    placed: Mapping[int, int] = field(
        default_factory=lambda: {2: 1500, 3: 1500, 4: 1000, 5: 1500, 6: 500, 7: 250, 8: 500}
    )
    decoder_placed: Schedule = field(
        default_factory=lambda: Schedule(
            steps=500, batch=48, lr=1e-3, warmup=30, cooldown=250, seed=19, ema=0.98, save_every=100
        )
    )
    decoded: Sequence[tuple[int, int]] = ((5, 0), (8, 0), (7, 0), (3, 0), (5, 1), (8, 1))
    reader: Schedule = field(default_factory=lambda: Schedule(steps=1500, batch=64, lr=2e-3, seed=13))


FAST = Recipe(
    drawings=1000,
    held_out=1000,
    vae=Schedule(steps=4, batch=8, lr=2e-3, seed=11, save_every=2),
    vae_polish=Schedule(steps=2, batch=8, lr=1e-3, seed=14, save_every=2),
    denoiser=Schedule(steps=4, batch=8, lr=1e-3, seed=12, ema=0.999, save_every=2),
    denoiser_polish=Schedule(steps=2, batch=8, lr=1e-3, seed=15, save_every=2),
    denoiser_shares=Schedule(steps=2, batch=8, lr=1e-3, seed=16, save_every=2),
    denoiser_loose=Schedule(steps=2, batch=8, lr=1e-3, seed=17, save_every=2),
    loose={2: 1},
    denoiser_placed=Schedule(steps=2, batch=8, lr=1e-3, seed=18, save_every=2),
    placed={2: 1},
    decoder_placed=Schedule(steps=2, batch=8, lr=1e-3, seed=19, save_every=2),
    decoded=((2, 0),),
    reader=Schedule(steps=4, batch=8, lr=2e-3, seed=13, save_every=2),
)


@final
class Workshop:
    """The stages of one making, in a work folder; each returns what it made, from disk if it is there."""

    def __init__(
        self,
        work: Path,
        recipe: Recipe,
        *,
        device: str = "cpu",
        progress: StageProgress = lambda stage, step, total, loss: None,
    ) -> None:
        self.work = work
        self.recipe = recipe
        self.device = device
        self.table = load_table()
        self.figures: dict[str, Any] = {}
        self._progress = progress

    def data(self) -> tuple[DataSet, DataSet]:
        """Drawings to learn from and drawings held out."""

        def report(done: int, total: int) -> None:
            self._progress("drawing", done, total, float("nan"))

        return (
            make_dataset(self.work, self.recipe.drawings, seed=DATA_SEED, progress=report),
            make_dataset(self.work, self.recipe.held_out, seed=HELD_OUT_SEED, progress=report),
        )

    def vae(self, data: DataSet, held_out: DataSet) -> AutoencoderKL:
        """The trained autoencoder."""
        vae = _seeded(parts.new_vae).to(self.device)
        started = time.monotonic()
        log = train_vae(
            vae,
            np.asarray(data.images),
            self.recipe.vae,
            checkpoint=self.work / "vae.ckpt",
            progress=self._stage("autoencoder"),
        )
        log += train_vae(
            vae,
            np.asarray(data.images),
            self.recipe.vae_polish,
            checkpoint=self.work / "vae-polish.ckpt",
            progress=self._stage("polish"),
        )
        self._note("vae", started, log, psnr_db=round(psnr(vae, held_out.images[:500]), 2))
        return vae

    def pipeline(self, data: DataSet, vae: AutoencoderKL) -> Any:
        """The whole pipeline, its UNet and text encoder trained on the latents of `data`."""
        tokenizer = parts.new_tokenizer(parts.caption_words(self.table), self.work / "tokenizer")
        end = tokenizer.eos_token_id
        unet = _seeded(parts.new_unet).to(self.device)
        text_encoder = _seeded(lambda: parts.new_text_encoder(len(tokenizer), end)).to(self.device)
        latents = self._latents(data, vae) * vae.config.scaling_factor
        started = time.monotonic()
        teach = partial(
            train_denoiser,
            unet,
            text_encoder,
            scheduler=parts.new_scheduler(),
            empty=tokenize(tokenizer, [""])[0],
        )
        portraits = Captioned(latents, tokenize(tokenizer, data.captions))
        log = teach(
            self.recipe.denoiser,
            data=[portraits],
            checkpoint=self.work / "denoiser.ckpt",
            progress=self._stage("denoiser"),
        )
        # What is left unsaid is decided where there is most noise: dwelling on it sets the shares right.
        log += teach(
            self.recipe.denoiser_polish,
            data=[portraits],
            early=0.5,
            checkpoint=self.work / "denoiser-polish.ckpt",
            progress=self._stage("denoiser polish"),
        )
        # And once more on the captions that say nothing but the subject, whose shares are what is planted.
        bare = replace(portraits, unsaid=torch.tensor(bare_rows(self.table, data.captions)))
        log += teach(
            self.recipe.denoiser_shares,
            data=[bare],
            early=0.5,
            checkpoint=self.work / "denoiser-shares.ckpt",
            progress=self._stage("denoiser shares"),
        )
        self._note("denoiser", started, log)
        return parts.assemble(vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer)

    def scenes(self, pipeline: Any, data: DataSet) -> Any:
        """The pipeline taught scenes, in place: the denoiser beside portraits, then the decoder alone."""
        vae, tokenizer = pipeline.vae, pipeline.tokenizer
        captions = tokenize(tokenizer, data.captions)
        unsaid = torch.tensor(bare_rows(self.table, data.captions))
        portraits = Captioned(self._latents(data, vae) * vae.config.scaling_factor, captions, unsaid=unsaid)
        loose, placed = self.recipe.loose, self.recipe.placed
        stages = (
            (self.recipe.denoiser_loose, LOOSE, loose, dict.fromkeys(loose, LOOSE_SHARE / len(loose))),
            (self.recipe.denoiser_placed, PLACED, placed, {n: PLACED_SHARES[n] for n in placed}),
        )
        for schedule, way, counts, shares in stages:
            started = time.monotonic()
            rest = replace(portraits, share=1 - sum(shares.values()))
            log = train_denoiser(
                pipeline.unet,
                pipeline.text_encoder,
                schedule,
                scheduler=parts.new_scheduler(),
                data=[rest, *self._teams(vae, tokenizer, way, counts=counts, shares=shares)],
                empty=tokenize(tokenizer, [""])[0],
                early=0.5,
                checkpoint=self.work / f"denoiser-{way.name}.ckpt",
                progress=self._stage(f"denoiser {way.name}"),
            )
            self._note(f"denoiser_{way.name}", started, log)
        started = time.monotonic()
        log = train_decoder(
            vae,
            [make_teams(count, DATA_SEED, chunk, PLACED)[1] for count, chunk in self.recipe.decoded],
            self.recipe.decoder_placed,
            checkpoint=self.work / "decoder-placed.ckpt",
            progress=self._stage("decoder placed"),
        )
        self._note("decoder_placed", started, log)
        return pipeline

    def reader(self, data: DataSet, held_out: DataSet, vae: AutoencoderKL) -> Any:
        """The reader, trained on drawings and on their reconstructions."""
        decoded = self.decoded(self._latents(data, vae)[: len(data.images) // 4], vae)
        started = time.monotonic()
        reader = train_reader(
            self.table.attributes,
            [np.asarray(data.images), decoded],
            data.labels,
            self.recipe.reader,
            checkpoint=self.work / "reader.ckpt",
            progress=self._stage("reader"),
        )
        found = accuracy(reader, held_out.images, held_out.labels)
        reader.card["accuracy"] = {name: round(figure.right, 5) for name, figure in found.items()}
        self._note("reader", started, [])
        return reader

    @torch.no_grad()
    def decoded(self, latents: torch.Tensor, vae: AutoencoderKL) -> np.ndarray:
        """Reconstructions uint8 (n, h, w, 3) of unscaled latents."""
        out = []
        for part in latents.split(100):
            with computed_in("auto", self.device):
                pixels = vae.decode(part.to(self.device)).sample
            pixels = (pixels.float().clamp(-1, 1) + 1) * 127.5
            out.append(pixels.round().byte().permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(out)

    def make(self, out: Path) -> None:
        """Runs every stage and writes model, reader and training figures under `out`."""
        data, held_out = self.data()
        vae = self.vae(data, held_out)
        pipeline = self.pipeline(data, vae)
        reader = self.reader(data, held_out, vae)
        parts.save(pipeline, out / "model")
        reader.save(out / "reader")
        parts.save(self.scenes(pipeline, data), out / "scenes")
        told = {
            "recipe": asdict(self.recipe),
            "data_seed": DATA_SEED,
            "held_out_seed": HELD_OUT_SEED,
            **self.figures,
        }
        (out / "training.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")

    def _teams(
        self,
        vae: AutoencoderKL,
        tokenizer: Any,
        way: Way,
        *,
        counts: Mapping[int, int],
        shares: Mapping[int, float],
    ) -> list[Captioned]:
        def report(done: int, total: int) -> None:
            self._progress(f"drawing scenes, {way.name}", done, total, float("nan"))

        scale = vae.config.scaling_factor
        sets = make_team_sets(self.work, counts, vae, seed=DATA_SEED, way=way, progress=report)
        return [
            Captioned(own.latents * scale, tokenize(tokenizer, own.captions), share=shares[count])
            for count, own in sets.items()
        ]

    def _latents(self, data: DataSet, vae: AutoencoderKL) -> torch.Tensor:
        file = self.work / "latents.pt"
        if not file.exists():
            with whole(file) as unfinished:
                torch.save(encode(vae, data.images), unfinished)
        latents: torch.Tensor = torch.load(file, weights_only=True)
        return latents

    def _stage(self, name: str) -> Callable[[int, int, float], None]:
        return lambda step, total, loss: self._progress(name, step, total, loss)

    def _note(self, stage: str, started: float, log: list[tuple[int, float]], **more: float) -> None:
        self.figures[stage] = {
            "seconds_this_run": round(time.monotonic() - started, 1),
            "loss": [(step, round(loss, 5)) for step, loss in log],
            **more,
        }


def _seeded(new: Callable[[], Any]) -> Any:
    """Initial weights from seed 0, the caller's random state left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return new()
