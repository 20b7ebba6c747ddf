"""`regional`: for a block, a stock pipeline draws these scenes; after it, however it ends, it is as before.

In: a pipeline's texts and scenes of one canvas. Out: the arguments with which to call the pipeline, n
pictures for n scenes. Attention processors are put in and forward pre-hooks tell them the grid and the step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from counterpoise.errors import UsageError
from counterpoise.scenes.sampler.families import SD3, divides, grids, latent_shape
from counterpoise.scenes.sampler.joint import JointFlux, JointSD3
from counterpoise.scenes.sampler.owners import check_cells
from counterpoise.scenes.sampler.run import Run, Text
from counterpoise.scenes.sampler.scene import Scene, check_scene
from counterpoise.scenes.sampler.settings import Regional
from counterpoise.scenes.sampler.texts import Texts, base_inputs, joint_inputs, people_texts
from counterpoise.scenes.sampler.unet import Reading, Seeing, Words, words_of

Inputs = Mapping[str, Tensor]


class Hold(Protocol):
    """A way of drawing scenes: for a block the pipeline behind `texts` draws them when called with what is
    given. guided: whether with classifier-free guidance."""

    def __call__(
        self, texts: Texts, scenes: Sequence[Scene], *, guided: bool
    ) -> AbstractContextManager[Inputs]: ...


def regional(settings: Regional | None = None) -> Hold:
    """Each person from their own prompt inside their own box; `scenes` of a call share one canvas.

    Errors: `check_scene`'s and `check_cells`', E_MODEL, E_PROCESSOR, and with people's adapters E_BATCH for
    several scenes at once, E_CANVAS for a canvas whose attention grids do not divide.
    """
    chosen = settings or Regional()

    @contextmanager
    def hold(texts: Texts, scenes: Sequence[Scene], *, guided: bool) -> Iterator[Inputs]:
        pipeline, family = texts.pipeline, texts.family
        levels = checked_levels(pipeline, scenes)
        run = Run(scenes, chosen, guided=guided, alternating=family.alternating)
        with ExitStack() as stack, torch.no_grad():
            if family.joint:
                if texts.people is not None:
                    raise UsageError("people's own adapters need a UNet so far", code="E_UNSUPPORTED")
                inputs, base, each = joint_inputs(texts, scenes, chosen, guided=guided)
                stack.enter_context(_joint_watched(run, pipeline, texts, base=base, each=each))
                swapped = _joint_processors(run, pipeline, texts)
            else:
                inputs = base_inputs(texts, scenes, guided=guided)
                stack.enter_context(watched_unet(run, pipeline))
                swapped = _unet_processors(run, texts, inputs)
            stack.enter_context(swapped_in(swapped))
            if texts.people is not None:
                if len(scenes) > 1 or not divides(levels):
                    raise _adapters_error(scenes, levels)
                shape = latent_shape(pipeline, scenes[0].width, scenes[0].height)
                stack.enter_context(texts.people.placed(scenes[0], shape[1:]))
            yield inputs

    return hold


def checked_levels(pipeline: Any, scenes: Sequence[Scene]) -> list[tuple[int, int]]:
    """The grids that attend on the scenes' common canvas, finest first; errors as `regional`."""
    if len({(scene.width, scene.height) for scene in scenes}) != 1:
        raise UsageError("scenes drawn together need one canvas size", code="E_CANVAS")
    levels = grids(pipeline, latent_shape(pipeline, scenes[0].width, scenes[0].height)[1:])
    for scene in scenes:
        check_scene(scene)
        check_cells(scene, levels[-1])
    return levels


def _adapters_error(scenes: Sequence[Scene], levels: Sequence[tuple[int, int]]) -> UsageError:
    if len(scenes) > 1:
        reason = f"{len(scenes)} scenes at once, but masks of people's adapters hold for a whole batch"
        return UsageError(f"{reason}; draw such scenes one by one", code="E_BATCH")
    shown = ", ".join(f"{h} x {w}" for h, w in levels)
    reason = f"the canvas's attention grids ({shown}) do not divide evenly, which masks of adapters need"
    return UsageError(f"{reason}; make width and height multiples of more", code="E_CANVAS")


@contextmanager
def swapped_in(swapped: Mapping[Any, Any]) -> Iterator[None]:
    """Puts each layer's processor in, and the ones that were there back."""
    before = {layer: layer.processor for layer in swapped}
    try:
        for layer, processor in swapped.items():
            layer.set_processor(processor)
        yield
    finally:
        for layer, processor in before.items():
            layer.set_processor(processor)


def _unet_processors(run: Run, texts: Texts, inputs: Inputs) -> dict[Any, Any]:
    scenes, pipeline = run.scenes, texts.pipeline
    own = people_texts(texts, scenes, run.texts)
    order = [scenes[s].people[i].adapter for s, i, _ in run.texts]
    base = None
    if texts.people is not None:
        halves = ("negative_prompt_embeds", "prompt_embeds")
        base = torch.cat([inputs[half] for half in halves if half in inputs])
    found: dict[Any, Any] = {}
    for name, layer in attentions(pipeline.unet).items():
        stock = layer.processor
        kind = type(stock).__name__
        if kind not in ("AttnProcessor", "AttnProcessor2_0") or getattr(layer, "fused_projections", False):
            raise _processor_error(name, kind)
        products = kind == "AttnProcessor"
        if name.endswith("attn2"):
            words, common = _words(texts, layer, own, adapters=order), None
            if base is not None:
                common = _words(texts, layer, base, adapters=[None] * len(base))
            found[layer] = Reading(run, stock, products=products, words=words, base=common)
        else:
            found[layer] = Seeing(run, stock, products=products)
    return found


def _words(texts: Texts, layer: Any, text: Tensor, *, adapters: Sequence[str | None]) -> Words:
    """Keys and values of the texts, each under its own person's adapter."""
    if texts.people is None:
        return words_of(layer, text)
    with texts.people.each(adapters):
        return words_of(layer, text)


def _joint_processors(run: Run, pipeline: Any, texts: Texts) -> dict[Any, Any]:
    known = "JointAttnProcessor2_0" if texts.family is SD3 else "FluxAttnProcessor"
    found: dict[Any, Any] = {}
    for name, layer in attentions(pipeline.transformer).items():
        kind = type(layer.processor).__name__
        if kind != known or getattr(layer, "fused_projections", False):
            raise _processor_error(name, kind)
        found[layer] = JointSD3(run) if texts.family is SD3 else JointFlux(run, layer.processor)
    return found


def attentions(network: Any) -> dict[str, Any]:
    """The network's attention layers by path."""
    return {
        name: module
        for name, module in network.named_modules()
        if hasattr(module, "processor") and hasattr(module, "set_processor")
    }


def _processor_error(name: str, kind: str) -> UsageError:
    reason = f"attention {name} has {kind} or fused projections: expected diffusers' standard processors"
    undo = "undo it first (disable_attention_slicing, disable_xformers..., unfuse_qkv_projections, unload...)"
    return UsageError(f"{reason}; {undo}", code="E_PROCESSOR")


@contextmanager
def _hooks(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def watched_unet(run: Run, pipeline: Any) -> AbstractContextManager[None]:
    """Hooks: the step from the timestep that the UNet is given, the grid from each transformer's input."""
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    def step(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.begin(pipeline.scheduler, kwargs["timestep"] if "timestep" in kwargs else args[1])

    def grid(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        run.grid = tuple(hidden.shape[-2:])

    blocks = [module for module in pipeline.unet.modules() if isinstance(module, Transformer2DModel)]
    handles = [pipeline.unet.register_forward_pre_hook(step, with_kwargs=True)]
    handles += [block.register_forward_pre_hook(grid, with_kwargs=True) for block in blocks]
    return _hooks(handles)


def _joint_watched(
    run: Run, pipeline: Any, texts: Texts, *, base: int, each: int
) -> AbstractContextManager[None]:
    """A hook: step, grid and text from what the transformer is given."""
    family = texts.family

    def look(module: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        run.begin(pipeline.scheduler, kwargs["timestep"], scale=family.clock)
        run.text = Text(kwargs["encoder_hidden_states"].shape[1], base, each)
        if family is SD3:
            patch = module.config.patch_size
            height, width = kwargs["hidden_states"].shape[-2:]
            run.grid = height // patch, width // patch
        else:
            last = kwargs["img_ids"].reshape(-1, 3).amax(0)
            run.grid = int(last[1]) + 1, int(last[2]) + 1

    return _hooks([pipeline.transformer.register_forward_pre_hook(look, with_kwargs=True)])
