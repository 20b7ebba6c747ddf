"""Any ONNX classifier as a judge, by the card that says how to feed it (extra `onnx`)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image, ImageOps

from counterpoise.errors import RefusedInputError, UsageError
from counterpoise.measure.calibration import Confusion
from counterpoise.measure.cards import canonical, load_toml, nearest
from counterpoise.measure.extras import require
from counterpoise.measure.onnx_card import OnnxAttribute, OnnxCard, OnnxInput
from counterpoise.measure.pictures import is_blank
from counterpoise.measure.reading import Reading


@final
@dataclass(frozen=True, slots=True)
class OnnxJudge:
    """A Measurer around a network: the most probable label where it reaches the attribute's threshold.

    inputs: the name of the input that takes pictures. confusion: what the card knows of its error.
    """

    name: str
    version: str
    attributes: Mapping[str, tuple[str, ...]]
    card: OnnxCard
    session: Any
    inputs: str
    confusion: tuple[Confusion, ...] = ()

    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB; read one by one, so that no picture depends on
        another.
        """
        return [self._read(image) for image in images]

    def embed(self, images: np.ndarray) -> np.ndarray:
        """The card's embedding output, float32 (n, dim); UsageError E_EMBED when the card names none."""
        if self.card.embedding is None:
            raise UsageError(f"{self.name}: its card names no embedding output; add it", code="E_EMBED")
        rows = [self._run([self.card.embedding], image)[0].astype(np.float32).ravel() for image in images]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def _read(self, image: np.ndarray) -> dict[str, Reading]:
        if is_blank(image):
            return {attribute: Reading(None, 0.0, "blank picture") for attribute in self.attributes}
        outputs = [output.name for output in self.session.get_outputs()]
        found = dict(zip(outputs, self._run(outputs, image), strict=True))
        return {
            attribute: _chosen(found[asked.output or outputs[0]].ravel(), asked)
            for attribute, asked in self.card.attributes.items()
        }

    def _run(self, outputs: list[str], image: np.ndarray) -> list[np.ndarray]:
        answers: list[np.ndarray] = self.session.run(outputs, {self.inputs: _tensor(image, self.card.input)})
        return [np.asarray(answer) for answer in answers]


def load_onnx(path: Path) -> OnnxJudge:
    """The judge that a TOML card describes.

    Raises UsageError E_CARD where the card is wrong or does not fit the network, RefusedInputError E_ONNX
    where the file is missing, damaged or of another sha256, EnvironmentLackError E_EXTRA without onnxruntime.
    """
    card = load_toml(OnnxCard, path)
    runtime = require("onnxruntime", extra="onnx", why=f"the judge {card.name}")
    file = path.parent / card.file
    if not file.is_file():
        raise _refused(file, f"no such file; {path} names it")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if card.sha256 is not None and digest != card.sha256:
        raise _refused(file, f"its sha256 is {digest}; {path} expects {card.sha256}")
    session = _session(runtime, file)
    inputs = _named(card.input.name, [each.name for each in session.get_inputs()], f"{path}: input.name")
    outputs = [each.name for each in session.get_outputs()]
    for name, asked in card.attributes.items():
        _named(asked.output, outputs, f"{path}: attributes.{name}.output")
    if card.embedding is not None:
        _named(card.embedding, outputs, f"{path}: embedding")
    # What is known of its error, and where the card lies, change no answer: a card may be calibrated later.
    asked_of_it = card.model_dump(mode="json", exclude={"confusion", "file", "sha256", "source", "name"})
    version = hashlib.sha256((digest + canonical(asked_of_it)).encode()).hexdigest()[:16]
    judge = OnnxJudge(
        name=card.name,
        version=version,
        attributes={name: asked.values for name, asked in card.attributes.items()},
        card=card,
        session=session,
        inputs=inputs,
        confusion=card.confusion,
    )
    _try(judge, path)
    return judge


def _session(runtime: Any, file: Path) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own kinds, none of them public
        raise _refused(file, f"onnxruntime cannot load it ({error})") from error


def _try(judge: OnnxJudge, path: Path) -> None:
    """One noisy picture through it: a card that does not fit is refused now, not at picture 1 of an audit."""
    height, width = judge.card.input.size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    try:
        judge._read(noise)
        if judge.card.embedding is not None:
            judge.embed(noise[None])
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{path}: the network refuses what the card feeds it ({error}); correct [input] or [attributes]",
            code="E_CARD",
            file=str(path),
        ) from error


def _tensor(image: np.ndarray, asked: OnnxInput) -> np.ndarray:
    height, width = asked.size
    picture = Image.fromarray(image)
    way = Image.Resampling.BILINEAR
    if asked.resize == "crop":
        picture = ImageOps.fit(picture, (width, height), way)
    elif asked.resize == "pad":
        picture = ImageOps.pad(picture, (width, height), way)
    else:
        picture = picture.resize((width, height), way)
    pixels = np.asarray(picture, np.float32)
    if asked.colour == "BGR":
        pixels = pixels[..., ::-1]
    mean, std = np.array(asked.mean, np.float32), np.array(asked.std, np.float32)
    scaled = (pixels * np.float32(asked.scale) - mean) / std
    if asked.layout == "NCHW":
        scaled = scaled.transpose(2, 0, 1)
    tensor: np.ndarray = np.ascontiguousarray(scaled[None], np.float32)
    return tensor


def _chosen(scores: np.ndarray, asked: OnnxAttribute) -> Reading:
    shares = _probabilities(scores.astype(np.float64), asked)
    best = int(np.argmax(shares))
    confidence = round(float(shares[best]), 6)
    if asked.labels[best] in asked.abstain:
        return Reading(None, confidence, asked.labels[best])
    if confidence < asked.threshold:
        return Reading(None, confidence, "unsure")
    return Reading(asked.labels[best], confidence)


def _probabilities(scores: np.ndarray, asked: OnnxAttribute) -> np.ndarray:
    """One number a label, from 0 to 1; ValueError where the network gave something else (a nan, too few)."""
    wanted = 1 if asked.activation == "sigmoid" else len(asked.labels)
    picked = scores[asked.start : asked.start + wanted]
    if len(picked) != wanted:
        raise ValueError(f"{len(scores)} numbers in the output; {wanted} are wanted from {asked.start} on")
    if not np.isfinite(picked).all():
        raise ValueError(f"the network gave {picked.tolist()}")
    if asked.activation == "sigmoid":
        second = 1 / (1 + math.exp(-min(max(float(picked[0]), -700.0), 700.0)))
        return np.array([1 - second, second])
    if asked.activation == "softmax":
        powers = np.exp(picked - picked.max())
        return np.asarray(powers / powers.sum())
    if picked.min() < -1e-4 or picked.max() > 1 + 1e-4:
        raise ValueError(f"no probabilities with activation 'none': {picked.tolist()}")
    return np.asarray(np.clip(picked, 0, 1))


def _named(name: str | None, known: list[str], where: str) -> str:
    if name is None:
        if len(known) > 1:
            raise UsageError(
                f"{where} is missing: the network has {', '.join(known)}; name one", code="E_CARD"
            )
        return known[0]
    if name not in known:
        raise UsageError(
            f"{where} is {name!r:.60}, which the network has not; {nearest(name, known)}", code="E_CARD"
        )
    return name


def _refused(file: Path, why: str) -> RefusedInputError:
    return RefusedInputError(f"{file}: {why}", code="E_ONNX", file=str(file))
