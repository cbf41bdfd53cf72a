"""An observer: it writes ``diary.txt`` into the run's folder. Without torch, like every module that holds hooks.

Observers see a run and change nothing in it. A hook may leave out arguments that it does not need.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ganzoo.api import hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ganzoo import Run


@hookimpl
def ganzoo_run_start(run: Run) -> None:
    """The first line."""
    _write(run, f"{run.config.gen.id} begins to learn from {run.config.disc.id}, by {run.config.loss.id}")


@hookimpl
def ganzoo_samples(run: Run, step: int, images: Tensor) -> None:
    """A line whenever samples are drawn. They are on the CPU, so looking at them makes nobody wait."""
    _write(run, f"step {step}: {len(images)} samples from {images.min():.2f} to {images.max():.2f}")


@hookimpl
def ganzoo_checkpoint_saved(run: Run, path: Path) -> None:
    """A line for each checkpoint."""
    _write(run, f"saved {path.name}")


@hookimpl
def ganzoo_run_end(run: Run, error: BaseException | None) -> None:
    """The last line."""
    _write(run, "the end" if error is None else f"ended by {type(error).__name__}: {error}")


def _write(run: Run, line: str) -> None:
    with (run.path / "diary.txt").open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
