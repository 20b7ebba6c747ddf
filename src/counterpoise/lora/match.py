"""Which of a model's layers an adapter's names mean, where the names alone do not say.

In: an adapter as its file names it, a model. Out: the adapter with the model's own paths. Names are compared
with every "." as "_", so that a flattened name finds its layer whatever underscores are in it; never by
order or shape. A name that fits no layer, or two, is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

from torch import nn

from counterpoise.errors import RefusedInputError, shown
from counterpoise.lora.dialects.grammar import flat
from counterpoise.lora.dialects.spellings import FLAT_PREFIXES, flat_prefix, split_component
from counterpoise.lora.layers import Layout, roots
from counterpoise.lora.names import nearest
from counterpoise.lora.update import Update

# transformers 5 dropped this part of CLIP's paths, files have it.
_OPTIONAL = "text_model_"
_DOTTED_OPEN = "diffusion_model."


@final
class NameIndex:
    """A model's layers by component and flattened path; weights: what each of them has by its path."""

    def __init__(self, model: object) -> None:
        layout = Layout.of(model)
        found = {path: getattr(module, "weight", None) for path, module in layout.modules.items()}
        self.weights = {path: weight for path, weight in found.items() if isinstance(weight, nn.Parameter)}
        self.weights |= {path: site.weight for path, site in layout.sites.items()}
        self.components = set(roots(model))
        self._by_name: dict[tuple[str, str], list[str]] = {}
        for path in self.weights:
            component, inside = split_component(path) if "" not in self.components else ("", path)
            self._by_name.setdefault((component, _bare(inside)), []).append(path)

    def find(self, name: str) -> list[str]:
        """The paths that an adapter's layer name may mean, best knowledge first."""
        if name in self.weights:
            return [name]
        homes, inside = _homes(name)
        homes = [""] if "" in self.components else homes or sorted(self.components)
        return [path for home in homes for path in self._by_name.get((home, _bare(inside)), [])]


def _bare(inside: str) -> str:
    return flat(inside).replace(_OPTIONAL, "", 1)


def _homes(name: str) -> tuple[list[str], str]:
    """The components that `name` may lie in (none: any), and its rest."""
    prefix = flat_prefix(name)
    if prefix is not None:
        places = sorted({place.component for place in FLAT_PREFIXES[prefix]} - {""})
        return places, name.removeprefix(prefix)
    if name.startswith(_DOTTED_OPEN):
        return ["transformer", "unet"], name.removeprefix(_DOTTED_OPEN)
    component, inside = split_component(name)
    return ([component] if component else []), inside


def matched_layers(
    layers: Mapping[str, Update], model: object, *, source: str | None = None
) -> dict[str, Update]:
    """`layers` under the model's own paths, with the kernels that files leave open.

    RefusedInputError E_NO_MATCH where a name fits no layer (the nearest are listed), E_AMBIGUOUS where it
    fits several, E_DUP_MODULE where two names fit one; nothing is changed.
    """
    index = NameIndex(model)
    found: dict[str, Update] = {}
    names: dict[str, str] = {}
    missing = [name for name in layers if not index.find(name)]
    if missing:
        listed = " | ".join(
            shown(name) + (near(name, index) if i < 2 else "") for i, name in enumerate(missing[:5])
        )
        reason = f"{len(missing)} of {len(layers)} layers are not in this model: {listed}"
        raise _refused(source, "E_NO_MATCH", reason)
    for name, update in layers.items():
        paths = index.find(name)
        if len(paths) > 1:
            fit = " and ".join(map(shown, paths[:3]))
            reason = f"{shown(name)!r} can be {fit}; name the layer in full, with diffusers' names"
            raise _refused(source, "E_AMBIGUOUS", reason)
        if paths[0] in found:
            both = f"{shown(names[paths[0]])!r} and {shown(name)!r} are both layer {shown(paths[0])}"
            raise _refused(source, "E_DUP_MODULE", f"{both}; keep one")
        found[paths[0]], names[paths[0]] = update.shaped(tuple(index.weights[paths[0]].shape)), name
    return found


def near(name: str, index: NameIndex) -> str:
    """A clause naming the model's layers whose names are most like `name`, or ""."""
    homes, inside = _homes(name)
    if homes and flat_prefix(name) is None:
        return nearest(name, index.weights)
    meant = {_bare(split_component(path)[1]): path for path in index.weights}
    return nearest(_bare(inside), meant, meant=meant)


def _refused(source: str | None, code: str, reason: str) -> RefusedInputError:
    where = f"{shown(source, 300)}: " if source else ""
    return RefusedInputError(f"{where}{reason}", code=code, file=source)
