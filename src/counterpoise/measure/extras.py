"""Optional packages: imported when a judge needs them, or refused with the command that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from counterpoise.errors import EnvironmentLackError


def require(module: str, *, extra: str, why: str) -> Any:
    """The module; EnvironmentLackError E_EXTRA (exit 6) with the pip command when it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentLackError(
            f"{why} needs {module} ({error}); install it: python -m pip install 'counterpoise[{extra}]'",
            code="E_EXTRA",
        ) from error
