"""Makes arms of a loaded model: base, with a remedy's treatment, with an adapter folded into the weights.

In: a Host around a pipeline, how to draw. Out: (Arm, Enter) pairs for `run_audit`; entering an arm changes
the host for as long as it is drawn, and leaves it as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import final

from counterpoise.audit.items import Plan
from counterpoise.audit.spec import Drawing
from counterpoise.audit.treatment import Treatment
from counterpoise.diffusion.arm import Arm, Drawer, Rewriting
from counterpoise.diffusion.load import load_pipeline
from counterpoise.diffusion.painter import Painter
from counterpoise.diffusion.precision import resolved
from counterpoise.errors import StateError
from counterpoise.lora import Adapter, Host

Enter = Callable[[], AbstractContextManager[Drawer]]
Way = tuple[Arm, Enter]
_NONE: Mapping[str, Treatment] = MappingProxyType({})


@final
@dataclass(frozen=True, slots=True)
class Mount:
    """An adapter, matched to the model, that an audit looks at: its arm's name and its strength."""

    name: str
    adapter: Adapter
    strength: float = 1.0


@final
class Ways:
    """The ways in which one host can draw. dtype: "float32", "bfloat16" autocast over its
    weights, or "auto", the faster of the two on the machine.

    allow_extreme: as Host.mount's.
    """

    def __init__(
        self,
        host: Host,
        drawing: Drawing,
        *,
        model: str,
        dtype: str = "auto",
        allow_extreme: bool = False,
    ) -> None:
        self.host = host
        self.drawing = drawing
        self.model = model
        self.dtype: str = resolved(dtype, getattr(host.model, "device", "cpu"))
        self.allow_extreme = allow_extreme
        self.base_sha256 = host.fingerprint()

    def painter(
        self, *, dtype: str | None = None, negative: str = "", pushed: str = "", push: float = 1.0
    ) -> Painter:
        """A fresh painter of the host's model as it is now; negative: as `Ways.base`'s."""
        return Painter(
            self.host.model,
            guidance=self.drawing.guidance,
            steps=self.drawing.steps,
            negative_prompt=_listed(self.drawing.negative_prompt, negative),
            batch_size=self.drawing.batch_size,
            dtype=dtype or self.dtype,
            pushed=pushed,
            push=push,
        )

    def base(self, name: str = "base", *, negative: str = "") -> Way:
        """The model as it is. negative: is added to the drawing's own negative prompt."""
        return self.treated(Treatment(), name=name, negative=negative)

    def mounted(self, adapter: Adapter, *, name: str, strength: float = 1.0, negative: str = "") -> Way:
        """The model with `adapter` beside its weights; negative: as `Ways.base`'s."""
        return self.treated(Treatment(((adapter, strength),)), name=name, negative=negative)

    def treated(self, treatment: Treatment, *, name: str, negative: str = "") -> Way:
        """The model as a remedy's treatment has it drawn; negative: as `Ways.base`'s, at its usual strength.

        A treatment with a model of its own is drawn with that: loaded here for its sha256, and again for as
        long as the arm is drawn, so that two models are in memory no longer than they must. UsageError or
        RefusedInputError where it does not load; StateError E_CHANGED where it is another one by then.
        """
        if treatment.model is not None:
            return self._another(treatment, treatment.model, name=name, negative=negative)
        pushed = treatment.negative if treatment.push != 1.0 else ""
        usual = _listed(negative, "" if pushed else treatment.negative)
        # The user's negative prompt, not a remedy's own, is what a rewriting must not ask for.
        unwanted, rewrite = _listed(self.drawing.negative_prompt, negative), treatment.rewrite
        if rewrite is not None and unwanted:
            rewrite = rewrite.avoiding(unwanted)
        arm = Arm(
            name=name,
            model=self.model,
            model_sha256=self.base_sha256,
            adapters=tuple((adapter.fingerprint(), strength) for adapter, strength in treatment.adapters),
            guidance=self.drawing.guidance,
            steps=self.drawing.steps,
            negative_prompt=_listed(self.drawing.negative_prompt, usual),
            batch_size=self.drawing.batch_size,
            dtype=self.dtype,
            pushed=pushed,
            push=treatment.push if pushed else 1.0,
            rewrite=rewrite.identity if rewrite is not None else "",
        )

        @contextmanager
        def enter() -> Iterator[Drawer]:
            with ExitStack() as stack:
                for adapter, strength in treatment.adapters:
                    mounting = self.host.mounted(adapter, strength=strength, allow_extreme=self.allow_extreme)
                    stack.enter_context(mounting)
                painter = self.painter(negative=usual, pushed=pushed, push=arm.push)
                yield painter if rewrite is None else Rewriting(painter, rewrite)

        return arm, enter

    def _another(self, treatment: Treatment, folder: Path, *, name: str, negative: str) -> Way:
        rest = replace(treatment, model=None)

        def loaded() -> Ways:
            device = getattr(self.host.model, "device", "cpu")
            return Ways(
                Host(load_pipeline(folder, device=str(device))),
                self.drawing,
                model=str(folder),
                dtype=self.dtype,
                allow_extreme=self.allow_extreme,
            )

        arm, _ = loaded().treated(rest, name=name, negative=negative)

        @contextmanager
        def enter() -> Iterator[Drawer]:
            again, into = loaded().treated(rest, name=name, negative=negative)
            if again != arm:
                raise StateError(
                    f"the model in {folder} is another one than when the arm {name} was made (sha256 "
                    f"{again.model_sha256[:12]}, expected {arm.model_sha256[:12]}); put it back, or use a "
                    "new folder for the run",
                    code="E_CHANGED",
                    file=str(folder),
                )
            with into() as drawer:
                yield drawer

        return arm, enter

    def folded(self, adapter: Adapter, *, name: str = "folded", strength: float = 1.0) -> Way:
        """The model with `adapter` in its weights; its arm carries the folded weights' own sha256."""
        with self.folding(adapter, strength=strength):
            sha256 = self.host.fingerprint()

        @contextmanager
        def enter() -> Iterator[Drawer]:
            with self.folding(adapter, strength=strength):
                yield self.painter()

        base, _ = self.base(name)
        return replace(base, model_sha256=sha256), enter

    def asked(
        self, plan: Plan, mounts: Sequence[Mount] = (), treatments: Mapping[str, Treatment] = _NONE
    ) -> list[Way]:
        """Every arm that a plan needs: base, each adapter's, each treatment's by its name; each with its
        negative prompts' arms."""
        asked = dict(zip(plan.arms([""]), ("", *plan.negatives), strict=True))
        every = [("base", Treatment())]
        every += [(mount.name, Treatment(((mount.adapter, mount.strength),))) for mount in mounts]
        every += treatments.items()
        return [
            self.treated(treatment, name=name + end, negative=text)
            for name, treatment in every
            for end, text in asked.items()
        ]

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


def _listed(*texts: str) -> str:
    return ", ".join(text for text in texts if text)
