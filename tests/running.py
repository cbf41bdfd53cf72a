"""Small runs for the tests of what happens to runs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ganzoo.config import Layer, resolve
from ganzoo.training import checkpoint
from ganzoo.training.run import Run
from ganzoo.training.start import start

SMALL: dict[str, Any] = {
    "gen.width": 4,
    "disc.width": 4,
    "gen.latent_dim": 4,
    "run.batch_size": 8,
    "run.samples": 4,
}
POINTS = {**SMALL, "data": "ring"}
DIGITS = {**SMALL, "data": "digits", "data.size": 8}
TINY: dict[str, Any] = {
    **POINTS,
    "run.log_every": 3,
    "run.sample_every": 0,
    "run.checkpoint_every": 4,
    "run.keep_last": 20,
}


def train(out: Path, said: list[str] | None = None, *, resume: Path | None = None, **settings: Any) -> Run:
    values = {**TINY, "run.out": out, **settings}
    return start(resolve([Layer("test", values)]), resume=resume, say=(said if said is not None else []).append)


def also(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that are no words of Python."""
    return settings


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as they are written on a command line."""
    return [f"--{path.removeprefix('run.').replace('_', '-')}={value}" for path, value in settings.items()]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[Any], seconds: float = 60) -> None:
    """Wait until something is so, while a process goes on."""
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"it ended by itself: {process.communicate()[1]}"
        assert time.monotonic() < until, "it never came so far"
        time.sleep(0.02)


def weights(run: Run, step: int) -> tuple[bytes, ...]:
    folder = run.checkpoints / checkpoint.name_of(step)
    return tuple((folder / name).read_bytes() for name in (checkpoint.MODEL, checkpoint.OPTIMIZER))
