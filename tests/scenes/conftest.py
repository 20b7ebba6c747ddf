"""One thread, and the tiny pipelines of `regional_models`, made once a family."""

from __future__ import annotations

from typing import Any

import pytest
import regional_models
import torch

from counterpoise.diffusion.load import quieten

_MADE: dict[str, Any] = {}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def _model(name: str, factory: pytest.TempPathFactory) -> Any:
    if name not in _MADE:
        quieten()
        _MADE[name] = regional_models.made(name, factory.mktemp(name))
    return _MADE[name]


@pytest.fixture(params=list(regional_models.MAKERS), scope="session")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny pipeline of each family."""
    return _model(request.param, tmp_path_factory)


@pytest.fixture(params=["sd", "sdxl"], scope="session")
def unet_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _model(request.param, tmp_path_factory)


@pytest.fixture(params=["sd3", "flux"], scope="session")
def joint_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _model(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return _model("sd", tmp_path_factory)
