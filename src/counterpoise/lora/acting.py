"""An update at work on a layer whose weight stays as it is: the hooks, and nothing of what they compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from counterpoise.lora.layers import Site

Beside = Callable[[tuple[Any, ...], dict[str, Any], Tensor], Tensor]
Instead = Callable[[], Tensor | None]


@final
class Acting:
    """Hooks on the owner of a site, before other hooks: they see the output that the folded layer would give.

    beside(args, kwargs, output) -> output. instead, where it is given and answers, is asked first: the
    owner's forward then finds its answer in the parameter's place, for the length of the call alone.
    """

    def __init__(self, site: Site, *, beside: Beside, instead: Instead | None = None) -> None:
        self.site = site
        self._beside = beside
        self._instead = instead
        self._after: RemovableHandle | None = None
        self._before: RemovableHandle | None = None
        self._own: nn.Parameter | None = None

    def attach(self) -> None:
        """Hook on; again is the same."""
        # The owner itself is asked, so that an interrupt anywhere in here or in detach leaves no wrong note.
        owner, swaps = self.site.owner, self._instead is not None
        if self._after is None or self._after.id not in owner._forward_hooks:
            self._after = owner.register_forward_hook(
                self._act, with_kwargs=True, prepend=True, always_call=swaps
            )
        if swaps and (self._before is None or self._before.id not in owner._forward_pre_hooks):
            self._before = owner.register_forward_pre_hook(self._put)

    def detach(self) -> None:
        """Leave the owner; again is the same."""
        for handle in (self._before, self._after):
            if handle is not None:
                handle.remove()

    def _put(self, _owner: nn.Module, _args: tuple[Any, ...]) -> None:
        value = self._instead() if self._instead is not None else None
        if value is not None:
            self._own = self.site.weight
            # Past nn.Module's own check, which takes parameters alone.
            self.site.holder._parameters[self.site.name] = value  # type: ignore[assignment]

    def _act(self, _owner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self._own is not None:
            self.site.holder._parameters[self.site.name], self._own = self._own, None
            return output
        # None: the forward raised, and this hook is called nevertheless.
        return None if output is None else self._beside(args, kwargs, output)
