"""The hooks. Two register what a plugin brings; the others observe a run and return nothing.

An observer cannot change numbers: whatever does must be a component, so that it stands in the saved configuration.
An observer that raises is named once and left out for the rest of the run; ``GANZOO_STRICT_PLUGINS=1`` raises instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pluggy import HookspecMarker

from ganzoo.api import Component, Preset

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ganzoo.training.run import Run

hookspec = HookspecMarker("ganzoo")


@hookspec
def ganzoo_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Yield the components of this plugin. Called once, when plugins are loaded; must not import torch.

    Example::

        @hookimpl
        def ganzoo_components():
            yield Component("loss", "smooth-hinge", target="my_gan.losses:SmoothHinge",
                            summary="Hinge with a rounded corner.")
    """


@hookspec
def ganzoo_presets() -> Iterable[Preset]:  # type: ignore[empty-body]
    """Yield named bundles of settings for ``ganzoo run --preset NAME``. Called once; must not import torch.

    Example::

        @hookimpl
        def ganzoo_presets():
            yield Preset("quick", "A minute on a laptop.", {"run.steps": 500, "gen.width": 32})
    """


@hookspec
def ganzoo_run_start(run: Run) -> None:
    """A run is about to take its first step, or its first one after resuming.

    Example::

        @hookimpl
        def ganzoo_run_start(run):
            print("training in", run.path)
    """


@hookspec
def ganzoo_step_end(run: Run, step: int, metrics: Mapping[str, Tensor]) -> None:
    """A step was taken. ``metrics`` are tensors on the device; reading their values waits for it, so do so rarely.

    Example::

        @hookimpl
        def ganzoo_step_end(run, step, metrics):
            if step % 1000 == 0:
                log(step, float(metrics["loss_d"]))
    """


@hookspec
def ganzoo_samples(run: Run, step: int, images: Tensor) -> None:
    """The fixed latents were drawn: ``images`` is ``[n, *shape]`` on the CPU, images in [-1, 1].

    Example::

        @hookimpl
        def ganzoo_samples(run, step, images):
            window.show(images[0])
    """


@hookspec
def ganzoo_checkpoint_saved(run: Run, path: Path) -> None:
    """A checkpoint is complete on the disk at ``path``.

    Example::

        @hookimpl
        def ganzoo_checkpoint_saved(run, path):
            upload(path)
    """


@hookspec
def ganzoo_eval_end(run: Run, metrics: Mapping[str, Any]) -> None:
    """An evaluation ended; ``metrics`` maps the name of each score to its value.

    Example::

        @hookimpl
        def ganzoo_eval_end(run, metrics):
            board.add(run.name, metrics)
    """


@hookspec
def ganzoo_run_end(run: Run, error: BaseException | None) -> None:
    """A run is over: ``error`` is None when it took all its steps, its time was over or its score got no better.

    Else it is what ended it.

    Example::

        @hookimpl
        def ganzoo_run_end(run, error):
            mail("done" if error is None else str(error))
    """
