"""The world's model: a genuine small Stable Diffusion of stock classes, in a folder that diffusers loads.

Shapes: 64 x 64 pictures, 8 x 8 x 4 latents (f = 8), 48 tokens, cross-attention width 128.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from counterpoise.diffusion.load import quieten
from counterpoise.world.grammar import FLAG_WORDS, GENDER_WORD
from counterpoise.world.table import Table

TOKENS = 48
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def new_vae() -> AutoencoderKL:
    """An untrained AutoencoderKL, f = 8, four latent channels."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=64,
    )


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet2DConditionModel for 8 x 8 x 4 latents."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(96, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_text_encoder(vocab_size: int, end: int) -> CLIPTextModel:
    """An untrained CLIPTextModel, width 128, two layers; end: the id of the end-of-text token."""
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=256,
        projection_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def new_scheduler() -> DDIMScheduler:
    """DDIM, v-prediction with zero terminal SNR: flat colours, the measured things, stay honest."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # unused with trailing steps, but StableDiffusionPipeline asks for it
    )


def caption_words(table: Table) -> list[str]:
    """Every word a caption of the world can hold, now or when styles and scenes come."""
    texts: list[str] = [*table.templates, *table.subjects, *table.reserved, *FLAG_WORDS.values()]
    texts += [value for values in table.attributes.values() for value in values]
    texts += [*GENDER_WORD.values(), "a an with in on skin hair clothes background wearing without , ."]
    return sorted({word for text in texts for word in text.replace("{}", " ").split()})


def new_tokenizer(words: Iterable[str], folder: Path) -> CLIPTokenizer:
    """A byte-level BPE CLIPTokenizer to which each of `words` is one token; others fall to pieces.

    Writes vocab.json and merges.txt under `folder`, since CLIPTokenizer reads them from there.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [f"{letter}</w>" for letter in alphabet]
    trainer = trainers.BpeTrainer(
        # Ends first: else the trainer numbers them as its hash map yields words, and breaks ties by number,
        # so that a vocabulary made again is another, and a training gone on with reads other words.
        special_tokens=ends,
        vocab_size=20000,
        min_frequency=1,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    raw.normalizer = normalizers.Lowercase()
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator([f"{word} {word}" for word in words], trainer)
    learnt = json.loads(raw.to_str())["model"]
    pieces = dict.fromkeys([*alphabet, *ends, *learnt["vocab"]])
    vocab = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    return CLIPTokenizer(
        vocab=vocab,
        merges=[tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in learnt["merges"]],
        model_max_length=TOKENS,
    )


def assemble(
    *,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> StableDiffusionPipeline:
    """The stock pipeline around the four trained parts (no safety checker: it could not judge drawings)."""
    return StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Writes the pipeline as fp16 safetensors, without the place it was loaded from; the pipeline in memory
    keeps its dtype."""
    quieten()
    parts = {name: getattr(pipeline, name) for name in ("vae", "unet", "text_encoder")}
    dtypes = {name: part.dtype for name, part in parts.items()}
    try:
        for part in parts.values():
            torch.nn.Module.to(part, torch.float16)  # diffusers' own .to() warns of what does not concern us
        pipeline.save_pretrained(folder, safe_serialization=True)
    finally:
        for name, part in parts.items():
            torch.nn.Module.to(part, dtypes[name])
    for file in folder.rglob("*.json"):
        said = json.loads(file.read_text("utf-8"))
        if isinstance(said, dict) and said.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")
