"""Zero-shot judging by any CLIP model in a local folder: which value's prompts lie nearest to the picture.

A value's text is the mean of its prompts' normalised embeddings over all templates, normalised again ("prompt
ensembling", Radford et al., arXiv:2103.00020, section 3.1.4). The hub is never asked.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, final

import numpy as np
import torch
from pydantic import Field, model_validator

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.measure.cards import Card, canonical, load_toml, make_card
from counterpoise.measure.pictures import is_blank
from counterpoise.measure.reading import Reading

Prompts = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...], Field(min_length=1)]
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")


@final
class ZeroShotOptions(Card):
    """What a folder's model is asked. model: the folder, only in a card's file, relative to it."""

    prompts: dict[str, dict[str, Prompts]] = Field(
        description='prompts of each value of each attribute: [prompts.skin] light = ["a person with light '
        'skin"]',
        min_length=1,
    )
    none: Prompts | None = Field(
        default=None, description="a list of prompts; when they win over every value the judge abstains"
    )
    templates: Prompts = Field(default=("{}",), description="a list of texts, each with {} for the prompt")
    margin: float = Field(
        default=0.1, strict=True, ge=0, lt=1, description="a number from 0 to below 1: the least lead"
    )
    model: str | None = Field(default=None, description="a folder with a CLIP model")

    @model_validator(mode="after")
    def _asks_something(self) -> ZeroShotOptions:
        lone = [name for name, values in self.prompts.items() if len(values) < 2 and self.none is None]
        if lone or any(not values for values in self.prompts.values()):
            raise ValueError(
                f"prompts.{(lone or ['?'])[0]} has fewer than two values: there is nothing to choose between"
            )
        bad = [template for template in self.templates if template.count("{}") != 1]
        if bad:
            raise ValueError(f"templates holds {bad[0]!r:.60}: expected {{}} once, where the prompt goes")
        return self


@final
@dataclass(frozen=True, slots=True)
class ZeroShot:
    """A Measurer: the value whose text is nearest, where it leads the next by the margin in probability.

    confidence: the softmax share, at the model's own temperature, of the value over the attribute's values
    and the `none` prompts. texts: attribute -> float (values [+ 1], dim), unit rows.
    """

    name: str
    version: str
    attributes: Mapping[str, tuple[str, ...]]
    options: ZeroShotOptions
    model: Any
    processor: Any
    texts: Mapping[str, torch.Tensor]

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB; read one by one, so that no picture depends on
        another.
        """
        return [self._read(image) for image in images]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Unit embeddings, float32 (n, dim), of uint8 (n, height, width, 3)."""
        rows = [self._embedded(image).numpy() for image in images]
        return np.stack(rows) if rows else np.empty((0, self.model.config.projection_dim), np.float32)

    @torch.inference_mode()
    def _embedded(self, image: np.ndarray) -> torch.Tensor:
        inputs = self.processor.image_processor(
            images=[image], return_tensors="pt", input_data_format="channels_last"
        )
        return _unit(_features(self.model.get_image_features(pixel_values=inputs["pixel_values"])))[0]

    @torch.inference_mode()
    def _read(self, image: np.ndarray) -> dict[str, Reading]:
        if is_blank(image):
            return {attribute: Reading(None, 0.0, "blank picture") for attribute in self.attributes}
        embedded = self._embedded(image)
        heat = float(self.model.logit_scale.exp())
        return {
            attribute: self._chosen(values, (heat * self.texts[attribute] @ embedded).softmax(-1).tolist())
            for attribute, values in self.attributes.items()
        }

    def _chosen(self, values: Sequence[str], shares: Sequence[float]) -> Reading:
        order = sorted(range(len(shares)), key=lambda k: -shares[k])
        best = order[0]
        confidence = round(min(shares[best], 1.0), 6)
        if best >= len(values):
            return Reading(None, confidence, "none of the values")
        if shares[best] - shares[order[1]] < self.options.margin:
            return Reading(None, confidence, "unsure")
        return Reading(values[best], confidence)


def load_zero_shot(path: Path, options: Mapping[str, object] | ZeroShotOptions | None = None) -> ZeroShot:
    """The judge in a CLIP folder with `options`, or in a TOML card that names the folder (model = "...").

    Raises UsageError when no prompts are given or a key is wrong, RefusedInputError E_CLIP, which names the
    folder, when it holds no CLIP model with its processor.
    """
    if path.is_file():
        card = load_toml(ZeroShotOptions, path)
        if card.model is None:
            raise UsageError(f"{path}: model is missing: expected the CLIP folder; add it", code="E_CARD")
        return load_zero_shot(path.parent / card.model, card)
    if not path.is_dir():
        raise RefusedInputError(
            f"{path}: no such folder; expected a CLIP model saved on this machine (nothing is downloaded)",
            code="E_CLIP",
            file=str(path),
        )
    if not options:
        raise UsageError(
            f"clip:{path} needs prompts: write a card with model = '{path}' and [prompts.ATTRIBUTE] "
            'VALUE = ["..."], and name the card instead',
            code="E_CARD",
        )
    asked = (
        options
        if isinstance(options, ZeroShotOptions)
        else make_card(ZeroShotOptions, options, where=f"clip:{path}")
    )
    model, processor = _loaded(path)
    return ZeroShot(
        name=f"clip:{path.resolve().name}",
        version=_version(path, asked, type(processor.image_processor).__name__),
        attributes={attribute: tuple(values) for attribute, values in asked.prompts.items()},
        options=asked,
        model=model,
        processor=processor,
        texts={
            attribute: _texts(
                [*values.values(), *([asked.none] if asked.none else [])], asked, model, processor
            )
            for attribute, values in asked.prompts.items()
        },
    )


@torch.inference_mode()
def _texts(
    groups: Sequence[Sequence[str]], asked: ZeroShotOptions, model: Any, processor: Any
) -> torch.Tensor:
    rows = []
    for prompts in groups:
        texts = [template.replace("{}", prompt) for template in asked.templates for prompt in prompts]
        inputs = processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        features = model.get_text_features(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        )
        rows.append(_unit(_unit(_features(features)).mean(0, keepdim=True))[0])
    return torch.stack(rows)


def _features(answer: Any) -> torch.Tensor:
    """transformers 5 answers with an output object whose pooler_output is the projected features."""
    features: torch.Tensor = answer if isinstance(answer, torch.Tensor) else answer.pooler_output
    return features


def _unit(rows: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=-1)


def _loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import CLIPModel, CLIPProcessor

    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise _no_clip(folder, f"it has no {_WEIGHTS[0]}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, told = CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds on damaged folders
        raise _no_clip(folder, f"{type(error).__name__}: {error}") from error
    # transformers makes up what a file lacks, at random, and only warns.
    if told["missing_keys"] or told["mismatched_keys"]:
        absent = sorted(map(str, told["missing_keys"] or told["mismatched_keys"]))
        raise _no_clip(folder, f"{len(absent)} weights are missing or of another shape, {absent[0]} first")
    return model.eval().requires_grad_(False), processor


def _no_clip(folder: Path, why: str) -> RefusedInputError:
    return RefusedInputError(
        f"{folder} holds no CLIP model that transformers can load ({why}); expected config.json, "
        f"{_WEIGHTS[0]}, preprocessor_config.json and the tokenizer's files",
        code="E_CLIP",
        file=str(folder),
    )


def _version(folder: Path, asked: ZeroShotOptions, resizer: str) -> str:
    """Of the weights, the processor's files, what is asked, and which code resizes: each changes answers."""
    told = asked.model_dump(mode="json", exclude={"model"}) | {"resizer": resizer}
    digest = hashlib.sha256(canonical(told).encode())
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".txt", ".safetensors"):
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
