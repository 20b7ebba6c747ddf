"""The key dialects that adapter files come in: how each is recognised, read and written.

In: a path. Out: layers, metadata and the dialects met, or a refusal; and back. `spellings.SPELLINGS` is the
table of what is read, `writing.DIALECTS` of what is written, `models` of the layers of the known models.
"""

from counterpoise.lora.dialects.metadata import RESERVED_METADATA
from counterpoise.lora.dialects.reading import Loaded, read
from counterpoise.lora.dialects.writing import DIALECTS, write

__all__ = ["DIALECTS", "RESERVED_METADATA", "Loaded", "read", "write"]
