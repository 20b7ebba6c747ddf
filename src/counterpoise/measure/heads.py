"""A small convolutional reader with one head an attribute, which says nothing when it is unsure.

Comes in: uint8 pictures of the size it was trained on. Goes out: a Reading for every attribute.
A folder holds it: reader.safetensors and reader.json (values, thresholds, measured error).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from counterpoise.errors import RefusedInputError
from counterpoise.measure.reading import Reading

WIDTHS = (24, 48, 96, 128)


@final
class HeadNetwork(nn.Module):
    """Strided convolutions to a 4 x 4 map, then one linear layer for each attribute."""

    def __init__(self, attributes: Mapping[str, Sequence[str]], *, size: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            before = width
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.1))
        flat = WIDTHS[-1] * (size // 2 ** len(WIDTHS)) ** 2
        self.heads = nn.ModuleDict({name: nn.Linear(flat, len(v)) for name, v in attributes.items()})

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """pictures: float (n, 3, size, size) in [-1, 1]; logits (n, values) for each attribute."""
        features = self.body(pictures)
        return {name: head(features) for name, head in self.heads.items()}


@final
class HeadReader:
    """A Measurer around a trained HeadNetwork: a value where its probability reaches the threshold."""

    def __init__(
        self,
        network: HeadNetwork,
        attributes: Mapping[str, tuple[str, ...]],
        *,
        name: str,
        version: str,
        threshold: float,
        card: Mapping[str, object] | None = None,
    ) -> None:
        self.network = network.eval()
        self.attributes = attributes
        self.name = name
        self.version = version
        self.threshold = threshold
        self.card = dict(card or {})

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> list[dict[str, Reading]]:
        """images: uint8 (n, size, size, 3); one mapping attribute -> Reading a picture."""
        pictures = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        rows: list[dict[str, Reading]] = [{} for _ in range(len(images))]
        for start in range(0, len(images), 128):
            logits = self.network(pictures[start : start + 128])
            for attribute, values in self.attributes.items():
                best = logits[attribute].softmax(-1).max(-1)
                for i, (p, k) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
                    sure = p >= self.threshold
                    rows[start + i][attribute] = Reading(
                        values[k] if sure else None, round(p, 6), "" if sure else "unsure"
                    )
        return rows

    def save(self, folder: Path) -> None:
        """Writes reader.safetensors (fp16) and reader.json into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().contiguous() for k, v in self.network.state_dict().items()}
        save_file(weights, folder / "reader.safetensors")
        card = {
            **self.card,
            "name": self.name,
            "threshold": self.threshold,
            "attributes": {name: list(values) for name, values in self.attributes.items()},
        }
        (folder / "reader.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def load_reader(folder: Path) -> HeadReader:
    """The reader in `folder`; its version is the digest of its weights and card.

    Raises RefusedInputError when a file is missing or does not fit the card.
    """
    weights_file, card_file = folder / "reader.safetensors", folder / "reader.json"
    try:
        card = json.loads(card_file.read_text("utf-8"))
        attributes = {name: tuple(values) for name, values in card["attributes"].items()}
        network = HeadNetwork(attributes)
        weights = load_file(weights_file)
        network.load_state_dict({k: v.float() for k, v in weights.items()})
    except Exception as error:
        raise RefusedInputError(
            f"the reader in {folder} cannot be loaded ({type(error).__name__}: {error}); "
            "expected reader.safetensors and reader.json of one training",
            code="E_READER",
            file=str(folder),
        ) from error
    digest = hashlib.sha256(weights_file.read_bytes() + card_file.read_bytes()).hexdigest()
    return HeadReader(
        network,
        attributes,
        name=card["name"],
        version=digest[:16],
        threshold=card["threshold"],
        card={k: v for k, v in card.items() if k not in ("name", "threshold", "attributes")},
    )
