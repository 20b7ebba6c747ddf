"""Makes arms of a loaded model: base, with an adapter beside the weights, with it folded into them.

In: a Host around a pipeline, how to draw. Out: (Arm, Enter) pairs for `run_audit`; entering an arm changes
the host for as long as it is drawn, and leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import final

from counterpoise.audit.items import Plan
from counterpoise.audit.spec import Drawing
from counterpoise.diffusion.arm import Arm, Drawer
from counterpoise.diffusion.painter import Painter
from counterpoise.lora import Adapter, Host

Enter = Callable[[], AbstractContextManager[Drawer]]
Way = tuple[Arm, Enter]


@final
@dataclass(frozen=True, slots=True)
class Mount:
    """An adapter, matched to the model, that an audit looks at: its arm's name and its strength."""

    name: str
    adapter: Adapter
    strength: float = 1.0


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

    def painter(self, *, dtype: str | None = None, negative: str = "") -> Painter:
        """A fresh painter of the host's model as it is now; negative: as `Ways.base`'s."""
        return Painter(
            self.host.model,
            guidance=self.drawing.guidance,
            steps=self.drawing.steps,
            negative_prompt=self._negative(negative),
            batch_size=self.drawing.batch_size,
            dtype=dtype or self.dtype,
        )

    def base(self, name: str = "base", *, negative: str = "") -> Way:
        """The model as it is. negative: is added to the drawing's own negative prompt."""

        @contextmanager
        def enter() -> Iterator[Drawer]:
            yield self.painter(negative=negative)

        return self._arm(name, self.base_sha256, negative=negative), enter

    def mounted(self, adapter: Adapter, *, name: str, strength: float = 1.0, negative: str = "") -> Way:
        """The model with `adapter` beside its weights; negative: as `Ways.base`'s."""

        @contextmanager
        def enter() -> Iterator[Drawer]:
            with self.host.mounted(adapter, strength=strength, allow_extreme=self.allow_extreme):
                yield self.painter(negative=negative)

        adapters = ((adapter.fingerprint(), strength),)
        return self._arm(name, self.base_sha256, adapters, negative=negative), enter

    def folded(self, adapter: Adapter, *, name: str = "folded", strength: float = 1.0) -> Way:
        """The model with `adapter` in its weights; its arm carries the folded weights' own sha256."""
        with self.folding(adapter, strength=strength):
            sha256 = self.host.fingerprint()

        @contextmanager
        def enter() -> Iterator[Drawer]:
            with self.folding(adapter, strength=strength):
                yield self.painter()

        return self._arm(name, sha256), enter

    def asked(self, plan: Plan, mounts: Sequence[Mount] = ()) -> list[Way]:
        """Every arm that a plan needs: base, then each adapter's, each with its negative prompts' arms."""
        asked = dict(zip(plan.arms([""]), ("", *plan.negatives), strict=True))
        ways = [self.base(f"base{end}", negative=text) for end, text in asked.items()]
        for mount in mounts:
            ways += [
                self.mounted(mount.adapter, name=mount.name + end, strength=mount.strength, negative=text)
                for end, text in asked.items()
            ]
        return ways

    def check(self, mounts: Sequence[Mount]) -> None:
        """Mount each adapter once, so that one that does not fit is refused before the first picture."""
        for mount in mounts:
            with self.host.mounted(mount.adapter, strength=mount.strength, allow_extreme=self.allow_extreme):
                pass

    @contextmanager
    def folding(self, adapter: Adapter, *, strength: float = 1.0) -> Iterator[None]:
        """The adapter in the weights of a bare host for the length of a block; then W0 again."""
        try:
            self.host.mount(adapter, name="folded", strength=strength, allow_extreme=self.allow_extreme)
            self.host.fold()
            yield
        finally:
            self.host.restore()

    def _negative(self, added: str) -> str:
        return ", ".join(text for text in (self.drawing.negative_prompt, added) if text)

    def _arm(
        self, name: str, sha256: str, adapters: tuple[tuple[str, float], ...] = (), *, negative: str = ""
    ) -> Arm:
        return Arm(
            name=name,
            model=self.model,
            model_sha256=sha256,
            adapters=adapters,
            guidance=self.drawing.guidance,
            steps=self.drawing.steps,
            negative_prompt=self._negative(negative),
            batch_size=self.drawing.batch_size,
            dtype=self.dtype,
        )
