"""The card of an ONNX classifier: what goes into the network, what comes out, and what is known of its
error.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, final

from pydantic import AfterValidator, Field, model_validator

from counterpoise.measure.calibration import Confusion
from counterpoise.measure.cards import Card

_Three = Annotated[tuple[float, float, float], Field(description="a list of three numbers, one a channel")]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise ValueError(f"is {names!r:.80}: expected distinct names, none of them blank")
    return names


Labels = Annotated[tuple[str, ...], AfterValidator(_distinct)]


@final
class OnnxInput(Card):
    """Pixels to tensor: resize, order channels, (pixel * scale - mean) / std, lay out."""

    size: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)]] = Field(
        description="[height, width] in pixels"
    )
    layout: Literal["NCHW", "NHWC"] = Field(default="NCHW", description='"NCHW" or "NHWC"')
    colour: Literal["RGB", "BGR"] = Field(default="RGB", description='"RGB" or "BGR"')
    resize: Literal["stretch", "crop", "pad"] = Field(
        default="stretch",
        description='"stretch" to the size, "crop" (shorter side to the size, middle kept) or "pad" (with '
        "black)",
    )
    scale: float = Field(default=1 / 255, gt=0, description="what 0..255 is multiplied by: 1/255 or 1")
    mean: _Three = Field(
        default=(0.0, 0.0, 0.0), description="three numbers in the order of `colour`, after `scale`"
    )
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ] = Field(
        default=(1.0, 1.0, 1.0), description="three numbers above 0 in the order of `colour`, after `scale`"
    )
    name: str | None = Field(default=None, description="the input's name, where the network has several")


@final
class OnnxAttribute(Card):
    """One attribute: which numbers of which output are its labels' scores, and when one is believed."""

    labels: Labels = Field(
        min_length=2, description="a list of two or more distinct values, in the network's order"
    )
    output: str | None = Field(default=None, description="the output's name, where the network has several")
    start: int = Field(
        default=0, strict=True, ge=0, description="the first label's place in the output's last axis"
    )
    activation: Literal["softmax", "sigmoid", "none"] = Field(
        default="softmax",
        description='"softmax", "sigmoid" (one number, the second label\'s) or "none" (already '
        "probabilities)",
    )
    threshold: float = Field(
        default=0.0,
        strict=True,
        ge=0,
        le=1,
        description="a number from 0 to 1: the least probability believed",
    )
    abstain: tuple[str, ...] = Field(
        default=(), description='labels that are no answer, such as "no face": they become abstentions'
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.activation == "sigmoid" and len(self.labels) != 2:
            raise ValueError(f"activation is sigmoid with {len(self.labels)} labels: expected two")
        strange = [label for label in self.abstain if label not in self.labels]
        if strange or len(self.labels) - len(self.abstain) < 1:
            raise ValueError(
                f"abstain is {self.abstain!r:.60}: expected some, not all, of {self.labels!r:.60}"
            )
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """The labels that are answers."""
        return tuple(label for label in self.labels if label not in self.abstain)


@final
class OnnxCard(Card):
    """A whole card, as its TOML file is laid out (docs/judges.md)."""

    name: str = Field(min_length=1, max_length=200, description="the judge's name")
    file: str = Field(min_length=1, description="the .onnx file, relative to the card")
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits: the file's sha256"
    )
    source: str = Field(default="", description="where the network comes from, and its licence")
    input: OnnxInput = Field(description="a table [input]")
    attributes: dict[str, OnnxAttribute] = Field(min_length=1, description="tables [attributes.NAME]")
    embedding: str | None = Field(default=None, description="the name of an output to compare pictures by")
    confusion: tuple[Confusion, ...] = Field(
        default=(), description="tables [[confusion]]: attribute, group, truth, read, counts"
    )

    @model_validator(mode="after")
    def _confusions_fit(self) -> Self:
        for each in self.confusion:
            known = self.attributes.get(each.attribute)
            if known is None or each.read[:-1] != known.values:
                raise ValueError(
                    f"confusion of {each.attribute!r:.60} reads {each.read[:-1]!r:.80}: expected an "
                    "attribute of "
                    "this card with its labels in their order"
                )
        return self
