"""Makes arms of a loaded model: base, with an adapter beside the weights, with it folded into them.

In: a Host around a pipeline, how to draw. Out: (Arm, Enter) pairs for `run_audit`; entering an arm changes
the host for as long as it is drawn, and leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import final

from counterpoise.audit.spec import Drawing
from counterpoise.diffusion.arm import Arm, Drawer
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Adapter, Host

Enter = Callable[[], AbstractContextManager[Drawer]]
Way = tuple[Arm, Enter]


@final
class Ways:
    """The ways in which one host can draw. dtype: "float32", or "bfloat16" autocast over its weights.

    allow_extreme: as Host.mount's.
    """

    def __init__(
        self,
        host: Host,
        drawing: Drawing,
        *,
        model: str,
        dtype: str = "bfloat16",
        allow_extreme: bool = False,
    ) -> None:
        self.host = host
        self.drawing = drawing
        self.model = model
        self.dtype = dtype
        self.allow_extreme = allow_extreme
        self.base_sha256 = host.fingerprint()

    def painter(self, *, dtype: str | None = None) -> Painter:
        """A fresh painter of the host's model as it is now."""
        return Painter(
            self.host.model,
            guidance=self.drawing.guidance,
            steps=self.drawing.steps,
            negative_prompt=self.drawing.negative_prompt,
            batch_size=self.drawing.batch_size,
            dtype=dtype or self.dtype,
        )

    def base(self, name: str = "base") -> Way:
        """The model as it is."""

        @contextmanager
        def enter() -> Iterator[Drawer]:
            yield self.painter()

        return self._arm(name, self.base_sha256), enter

    def mounted(self, adapter: Adapter, *, name: str, strength: float = 1.0) -> Way:
        """The model with `adapter` beside its weights."""

        @contextmanager
        def enter() -> Iterator[Drawer]:
            with self.host.mounted(adapter, strength=strength, allow_extreme=self.allow_extreme):
                yield self.painter()

        return self._arm(name, self.base_sha256, ((adapter.fingerprint(), strength),)), enter

    def folded(self, adapter: Adapter, *, name: str = "folded", strength: float = 1.0) -> Way:
        """The model with `adapter` in its weights; its arm carries the folded weights' own sha256."""
        with self.folding(adapter, strength=strength):
            sha256 = self.host.fingerprint()

        @contextmanager
        def enter() -> Iterator[Drawer]:
            with self.folding(adapter, strength=strength):
                yield self.painter()

        return self._arm(name, sha256), enter

    @contextmanager
    def folding(self, adapter: Adapter, *, strength: float = 1.0) -> Iterator[None]:
        """The adapter in the weights of a bare host for the length of a block; then W0 again."""
        try:
            self.host.mount(adapter, name="folded", strength=strength, allow_extreme=self.allow_extreme)
            self.host.fold()
            yield
        finally:
            self.host.restore()

    def _arm(self, name: str, sha256: str, adapters: tuple[tuple[str, float], ...] = ()) -> Arm:
        return Arm(
            name=name,
            model=self.model,
            model_sha256=sha256,
            adapters=adapters,
            guidance=self.drawing.guidance,
            steps=self.drawing.steps,
            negative_prompt=self.drawing.negative_prompt,
            batch_size=self.drawing.batch_size,
            dtype=self.dtype,
        )
