"""A model's weights by name, from wherever they are: a mapping, a module or pipeline, safetensors files.

Out: names with shapes, and a tensor at a time, so that two checkpoints on disk are compared without either
being in memory. Files are read as strictly as adapters are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import Tensor, nn

from counterpoise.errors import UsageError, shown
from counterpoise.lora.container import read_tensor
from counterpoise.lora.header import opened, read_header, refuse
from counterpoise.lora.layers import all_modules, join, layer_fault, roots


@final
@dataclass(frozen=True, eq=False)
class State:
    """Names and shapes of tensors, and how to have one of them.

    `layers`: the paths of the Linear and Conv2d layers where a module says so; None where only names and
    shapes are known.
    """

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Tensor]
    layers: frozenset[str] | None = None


@contextmanager
def state_of(source: object) -> Iterator[State]:
    """The tensors of `source`: a {name: tensor} mapping, a module or pipeline, or a path.

    A path is a .safetensors file or a folder of them (shards). RefusedInputError as for adapter files,
    E_DUP_KEY where two shards hold one name; UsageError E_MODEL for anything else.
    """
    with ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            yield _files(Path(source), stack)
        elif isinstance(source, Mapping):
            yield _mapping(source)
        else:
            modules = all_modules(source)  # UsageError E_MODEL for what is no model
            tensors = {
                join(prefix, name): tensor
                for prefix, root in roots(source).items()
                for name, tensor in root.state_dict().items()
            }
            plain = frozenset(path for path, module in modules.items() if _takes_update(module))
            yield State({n: tuple(t.shape) for n, t in tensors.items()}, tensors.__getitem__, plain)


def _takes_update(module: nn.Module) -> bool:
    return layer_fault(module) is None


def _mapping(source: Mapping[object, object]) -> State:
    tensors: dict[str, Tensor] = {}
    for name, tensor in source.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            reason = f"entry {shown(name)!r} is a {type(tensor).__name__}: expected name -> tensor"
            raise UsageError(reason, code="E_MODEL")
        tensors[name] = tensor
    return State({name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__)


def _files(path: Path, stack: ExitStack) -> State:
    shards = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not shards:
        raise refuse(path, "E_MISSING", "holds no .safetensors file; give a checkpoint's file or folder")
    shapes: dict[str, tuple[int, ...]] = {}
    readers: dict[str, Callable[[], Tensor]] = {}
    for shard in shards:
        file = stack.enter_context(opened(shard))
        header = read_header(shard, file)
        for key, slot in header.slots.items():
            if key in shapes:
                reason = f"tensor {shown(key)!r} is in two of its files; give one file, or a folder of shards"
                raise refuse(path, "E_DUP_KEY", reason)
            shapes[key] = slot.shape
            readers[key] = lambda shard=shard, file=file, header=header, key=key: read_tensor(  # type: ignore[misc]
                shard, file, header, key=key
            )
    return State(shapes, lambda key: readers[key]())
