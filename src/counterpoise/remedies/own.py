"""A user's own adapter files, held against the model that they are to be used with."""

from __future__ import annotations

from pathlib import Path

from counterpoise.errors import RefusedInputError
from counterpoise.lora import Adapter, Host

BASE_KEY = "counterpoise.base_sha256"
"""In an adapter's metadata: the sha256 of the weights that it was made for."""


def fitting(host: Host, path: Path, strength: float) -> tuple[Adapter, float]:
    """The file's adapter and its strength.

    RefusedInputError where it does not fit the host's model, E_OTHER_BASE where it says that it was made for
    another one.
    """
    adapter = Adapter.load(path, model=host.model)
    made_for = adapter.metadata.get(BASE_KEY)
    if made_for is not None and made_for != host.fingerprint():
        raise RefusedInputError(
            f"{path} was made for another base model (sha256 {made_for[:12]}..., this one's is "
            f"{host.fingerprint()[:12]}...): expected an adapter for this model; repair that model, or leave "
            "the adapter out",
            code="E_OTHER_BASE",
            file=str(path),
        )
    with host.mounted(adapter, strength=strength):
        return adapter, strength
