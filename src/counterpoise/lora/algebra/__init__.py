"""Algebra of adapters in the low-rank core: compose, resize, extract, and how adapters interfere.

In: adapters, checkpoints, input covariances. Out: adapters, each with a report of what was lost. A layer is
worked on as thin factors and small matrices (`core.py`); where a method's own definition needs a dense
update, one layer's is made at a time. Ways to compose are rows of `merges.METHODS`.
"""

from counterpoise.lora.algebra.compose import Composition, compose
from counterpoise.lora.algebra.covariance import input_covariances
from counterpoise.lora.algebra.extract import Extraction, extract
from counterpoise.lora.algebra.interference import interference
from counterpoise.lora.algebra.merges import METHODS
from counterpoise.lora.algebra.resize import Resizing, resize
from counterpoise.lora.algebra.retention import Retention, retention
from counterpoise.lora.algebra.shares import Interference

__all__ = [
    "METHODS",
    "Composition",
    "Extraction",
    "Interference",
    "Resizing",
    "Retention",
    "compose",
    "extract",
    "input_covariances",
    "interference",
    "resize",
    "retention",
]
