"""Judges from other packages, by the entry point group "counterpoise.measurers".

A detector whose licence is not ours (NudeNet's weights are AGPL-3) comes in this way: its package depends on
us, never the other way round. The entry point is a function of the judge's options that returns a Measurer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, final

import numpy as np

from counterpoise.errors import EnvironmentLackError, UsageError
from counterpoise.measure.cards import nearest
from counterpoise.measure.reading import Measurer, Reading

GROUP = "counterpoise.measurers"


@final
@dataclass(frozen=True, slots=True)
class Plugged:
    """A Measurer from another package, its distribution's version added to its own."""

    name: str
    version: str
    attributes: Mapping[str, tuple[str, ...]]
    judge: Measurer

    def __call__(self, images: np.ndarray) -> Sequence[Mapping[str, Reading]]:
        """images: uint8 (n, height, width, 3), RGB."""
        return self.judge(images)


def plugin_names() -> list[str]:
    """The judges that installed packages offer."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_plugin(name: str, options: Mapping[str, object]) -> Plugged:
    """The judge that an installed package offers under this name.

    Raises EnvironmentLackError E_PLUGIN when there is none or it cannot be imported, UsageError E_PLUGIN when
    two packages offer the name, its options are wrong, or what it makes is no Measurer.
    """
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise EnvironmentLackError(
            f"no installed package offers a judge named {name!r:.60}; {nearest(name, plugin_names())}; "
            "install the "
            f"package that has it (entry point group {GROUP}, docs/judges.md)",
            code="E_PLUGIN",
        )
    if len(found) > 1:
        told = ", ".join(sorted(_distribution(entry) for entry in found))
        raise UsageError(
            f"{len(found)} packages offer {name!r}: {told}; uninstall all but one", code="E_PLUGIN"
        )
    entry = found[0]
    try:
        make: Any = entry.load()
    except Exception as error:  # another package's import may fail in any way
        raise EnvironmentLackError(
            f"the judge {name!r} of {_distribution(entry)} cannot be imported ({type(error).__name__}: "
            f"{error})",
            code="E_PLUGIN",
        ) from error
    try:
        judge = make(**options)
    except TypeError as error:
        raise UsageError(
            f"the judge {name!r} of {_distribution(entry)} refuses its options ({error})", code="E_PLUGIN"
        ) from error
    return _checked(judge, entry)


def _checked(judge: Any, entry: EntryPoint) -> Plugged:
    attributes = getattr(judge, "attributes", None)
    sound = (
        callable(judge)
        and all(
            isinstance(getattr(judge, field, None), str) and getattr(judge, field)
            for field in ("name", "version")
        )
        and isinstance(attributes, Mapping)
        and len(attributes) > 0
        and all(isinstance(name, str) and len(values) > 0 for name, values in attributes.items())
    )
    if not sound or attributes is None:
        raise UsageError(
            f"{entry.value} of {_distribution(entry)} made {type(judge).__name__}, which is no Measurer: "
            "expected "
            "name, version, attributes and a call on pictures",
            code="E_PLUGIN",
        )
    values = {name: tuple(values) for name, values in attributes.items()}
    return Plugged(judge.name, f"{judge.version}+{_distribution(entry)}", values, judge)


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name}-{entry.dist.version}" if entry.dist is not None else "an unnamed package"
