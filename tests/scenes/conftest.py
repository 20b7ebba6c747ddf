"""What scenes' tests share: a language model's server that answers as it is told to (real HTTP, on this
machine), and the tiny pipelines of `regional_models`, made once a family."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import regional_models
import torch

from counterpoise.diffusion.load import quieten

Answer = tuple[int, str] | tuple[int, str, float]


@dataclass
class Served:
    """url, and what was asked; `answers` is called with each request's number and body."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    answers: Callable[[int, dict[str, Any]], Answer] = lambda number, body: (500, "")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.asked.append({"path": self.path, "headers": dict(self.headers), **body})
            status, text, *pause = found.answers(len(found.asked), body)
            time.sleep(pause[0] if pause else 0)
            try:
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("Location", text)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(text.encode())
            except OSError:  # the client gave up: that is the test
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


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
