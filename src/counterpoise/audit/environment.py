"""What a picture's float sums depend on besides the arm: library versions, processor, threads.

No path, host or user name is in it: it goes into environment.json and may be published.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from counterpoise.audit.pictures import write_atomically

FILE = "environment.json"
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "pillow", "counterpoise")


def describe_environment() -> dict[str, object]:
    """This process's environment as plain JSON values; imports nothing that is not loaded already."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else _threads_asked_for()
    accelerator = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "accelerator": accelerator,
        "threads": threads,
    }


def write_environments(folder: Path, described: Sequence[Mapping[str, object]]) -> None:
    """environment.json: every environment that drew pictures of this run, in the order of their coming."""
    text = json.dumps({"environments": list(described)}, sort_keys=True, indent=2) + "\n"
    path = folder / FILE
    if not path.is_file() or path.read_bytes() != text.encode("ascii"):
        write_atomically(path, text.encode("ascii"))


def _threads_asked_for() -> int | None:
    """What torch would take, were it loaded: without a wish of the user's, as many as the machine has."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    return int(wish) if wish.isdecimal() else os.cpu_count()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The kind of CPU: Linux tells it in a file only, elsewhere Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
