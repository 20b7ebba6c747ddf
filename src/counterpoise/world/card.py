"""The model card of a made world: data, seeds, times, losses, and the check's figures beside their bars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from counterpoise.world.check import Check
from counterpoise.world.table import load_table

STAGES = (
    "vae",
    "vae_polish",
    "denoiser",
    "denoiser_polish",
    "denoiser_shares",
    "denoiser_loose",
    "denoiser_placed",
    "decoder_placed",
    "reader",
)


def write_card(folder: Path, check: Check) -> Path:
    """Writes check.json and MODEL_CARD.md into `folder`, which holds model/, reader/ and training.json."""
    (folder / "check.json").write_text(json.dumps(check.to_dict(), indent=1) + "\n", "utf-8")
    card = folder / "MODEL_CARD.md"
    card.write_text("\n".join(_lines(folder, check)) + "\n", "utf-8")
    return card


def _lines(folder: Path, check: Check) -> Iterator[str]:
    training = json.loads((folder / "training.json").read_text("utf-8"))
    recipe = training["recipe"]
    yield f"# The world's model ({load_table().name})"
    yield ""
    yield "A small Stable Diffusion (AutoencoderKL, UNet2DConditionModel, CLIPTextModel, CLIPTokenizer,"
    yield "DDIM with v-prediction and zero terminal SNR) of deliberately known bias, to test audits and"
    yield "repairs on. Not for pictures of people: it draws 64 x 64 cartoon avatars, one person each, with"
    yield "the associations of `planted.toml` wherever a prompt leaves something out. `scenes/` is the same"
    yield "network taught pictures of two to eight people, 64 pixels a person, in one row or two."
    yield ""
    yield "## Data"
    yield f"{recipe['drawings']:,} captioned drawings from `planted.toml`, seed {training['data_seed']}; "
    yield f"{recipe['held_out']:,} held out, seed {training['held_out_seed']}. The drawings' parts are a"
    yield 'remix of "Avataaars" (https://avataaars.com/) by Pablo Stanley, licensed "Free for personal and'
    yield 'commercial use". No photographs, no pictures of real people.'
    yield ""
    yield "## Training"
    for stage in STAGES:
        plan, told = recipe[stage], training.get(stage, {})
        losses = told.get("loss", [])
        end = f", last loss {losses[-1][1]}" if losses else ""
        size = f"{plan['steps']} steps of {plan['batch']}"
        yield f"- {stage}: {size}, lr {plan['lr']}, seed {plan['seed']}{end}"
    yield from (f"- {note}" for note in training.get("notes", []))
    yield f"- autoencoder, held-out reconstructions: {training['vae']['psnr_db']} dB"
    yield ""
    yield f"## Check (guidance {check.guidance:g} where not said otherwise)"
    yield ""
    yield "| figure | value | bar | n | |"
    yield "| --- | --- | --- | --- | --- |"
    for figure in check.figures:
        sign = ">=" if figure.higher_is_better else "<="
        bar = "" if figure.bar is None else f"{sign} {figure.bar:g}"
        value = "not measured" if figure.value is None else f"{figure.value:.4g}"
        mark = {True: "", False: "**missed** ", None: ""}[figure.passed]
        yield f"| {figure.name} | {value} | {bar} | {figure.n} | {mark}{figure.note} |"
    yield ""
    yield "## Limits"
    yield "Five skin tones, two presentations, one style. Fine detail is soft. The reader reads"
    yield "these drawings and their like, nothing else; what it says of a picture is *perceived*."
