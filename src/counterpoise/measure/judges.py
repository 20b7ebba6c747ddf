"""The table of judges: from what a spec's `measurer` says to a Measurer. A new kind is one row.

"skin-tone", "nudity", "clip:FOLDER or card.toml", "onnx:card.toml", "labels:FILE", "plugin:NAME". The "
"world's own
reader lies in a room above: whoever may import it passes it in as `also`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from counterpoise.errors import UsageError
from counterpoise.measure.cards import Card, make_card, nearest
from counterpoise.measure.human import load_labels
from counterpoise.measure.joint import joint
from counterpoise.measure.nudity import NudityOptions, make_nudity
from counterpoise.measure.onnx_judge import load_onnx
from counterpoise.measure.plugins import load_plugin
from counterpoise.measure.reading import Measurer
from counterpoise.measure.skin import SkinTone

Options = Mapping[str, object]


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of judge. takes: what follows the colon, empty where nothing does; path: whether that is a
    path.
    """

    name: str
    takes: str
    path: bool
    make: Callable[[str, Options], Measurer]
    told: str

    @property
    def usage(self) -> str:
        """As a user writes it."""
        return f"{self.name}:{self.takes}" if self.takes else self.name


@final
class _NoOptions(Card):
    """For judges that have none."""


def _skin_tone(where: str, options: Options) -> Measurer:
    make_card(_NoOptions, options, where="skin-tone")
    return SkinTone()


def _nudity(where: str, options: Options) -> Measurer:
    return make_nudity(make_card(NudityOptions, options, where="nudity"))


def _clip(where: str, options: Options) -> Measurer:
    from counterpoise.measure.zero_shot import load_zero_shot  # torch and transformers take seconds

    return load_zero_shot(Path(where), options)


def _onnx(where: str, options: Options) -> Measurer:
    make_card(_NoOptions, options, where=f"onnx:{where}")
    return load_onnx(Path(where))


def _labels(where: str, options: Options) -> Measurer:
    make_card(_NoOptions, options, where=f"labels:{where}")
    return load_labels(Path(where))


KINDS = (
    Kind("skin-tone", "", False, _skin_tone, "Monk tone and ITA class of skin pixels"),
    Kind("nudity", "", False, _nudity, "Yahoo's open_nsfw; extra nsfw; options threshold, margin"),
    Kind("clip", "FOLDER", True, _clip, "zero-shot with a local CLIP model, or a card that names one"),
    Kind("onnx", "CARD.toml", True, _onnx, "any ONNX classifier, by its card; extra onnx"),
    Kind("labels", "FILE", True, _labels, "what people said, from `counterpoise measure import`"),
    Kind("plugin", "NAME", False, load_plugin, "a judge of another package"),
)


def make_measurer(
    named: str | Sequence[str],
    options: Mapping[str, Options] | None = None,
    *,
    base: Path | None = None,
    also: Mapping[str, Callable[[], Measurer]] | None = None,
) -> Measurer:
    """The judge of this name, or one that asks all judges of these names.

    options: name (as in `named`) -> that judge's options. base: the folder that relative paths start from,
    such as the spec's; default the working folder. also: further judges without options, such as the world's
    reader. Raises UsageError E_MEASURER for an unknown name, and what the judge itself raises.
    """
    names = [named] if isinstance(named, str) else list(named)
    given = dict(options or {})
    stray = sorted(set(given) - set(names))
    if stray:
        raise UsageError(
            f"options are given for {stray[0]!r:.80}, which is not asked; {nearest(stray[0], names)}",
            code="E_MEASURER",
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(f"measurer {twice[0]!r:.80} is named twice; name it once", code="E_MEASURER")
    return joint([_one(name, given.get(name, {}), base or Path(), also or {}) for name in names])


def _one(named: str, options: Options, base: Path, also: Mapping[str, Callable[[], Measurer]]) -> Measurer:
    if named in also:
        make_card(_NoOptions, options, where=named)
        return also[named]()
    name, colon, where = named.partition(":")
    kind = next((each for each in KINDS if each.name == name), None)
    if kind is None:
        usages = [each.usage for each in KINDS] + sorted(also)
        raise UsageError(f"measurer {named!r:.80} is unknown; {nearest(named, usages)}", code="E_MEASURER")
    if bool(kind.takes) != bool(colon and where):
        raise UsageError(f"measurer {named!r:.80}: expected {kind.usage}", code="E_MEASURER")
    return kind.make(str(base / where) if kind.path else where, options)
