"""What every part of the bench is given."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.plugins import add_local
from ganzoo.training.loop import Session
from ganzoo.training.run import Run
from measure.timing import LEAST, Result, Turn, Work, against, as_turn, take_turns

ENDLESS = {"run.steps": 10**9, "run.sample_every": 0, "run.checkpoint_every": 0, "run.ema_ramp": 0.0}
"""A run in its long middle: no grids, no checkpoints, and the moving average past its ramp."""


@dataclass
class Context:
    """How long to measure, on what, and where files may be written.

    Attributes:
        seconds: for each comparison.
        device: what to compute on.
        folder: for runs and data; removed at the end.
        small: tiny networks and two rounds, which only show that everything works.
        at_close: what else is to be done then.
    """

    seconds: float
    device: torch.device
    folder: Path
    small: bool = False
    at_close: list[Callable[[], None]] = field(default_factory=list)
    _runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        here = str(Path(__file__).parent.parent)  # the processes that try --compile find the tutorials there, too
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        add_local(["tutorials.parts"])

    @property
    def least(self) -> int:
        """Rounds that a comparison has in any case."""
        return 2 if self.small else LEAST

    def session(self, config: RunConfig) -> Session:
        """The live objects of a new run on the device."""
        run = Run.create(config, config.spec(), {})
        self._runs.append(run)
        return Session(run, self.device, say=lambda _: None)

    def resolve(self, settings: dict[str, Any]) -> RunConfig:
        """The configuration of an endless run with these settings.

        Raises:
            UsageError: there is no such setting, or a value does not fit.
        """
        asked = {**settings, "run.out": str(self.folder / "runs"), **ENDLESS}
        plain = {}
        if asked.get("run.layout") == "contiguous":  # where there is no such setting, everything is
            plain["run.layout"] = asked.pop("run.layout")
        return resolve([Layer("bench", asked), Layer("bench", plain, optional=True)])

    def times(self, contenders: dict[str, Work | Turn]) -> dict[str, list[float]]:
        """Let contenders take turns."""
        if self.small:
            contenders = {key: replace(as_turn(each), seconds=0.0) for key, each in contenders.items()}
        return take_turns(contenders, self.seconds, self.least)

    def compare(self, name: str, contenders: dict[str, Work | Turn]) -> list[Result]:
        """Let contenders take turns, and compare them with the first."""
        return against(name, self.times(contenders))

    def close(self) -> None:
        """Give the runs back, and end what else was begun."""
        while self.at_close:
            self.at_close.pop()()
        for run in self._runs:
            if run.lock is not None:
                run.lock.release()
        self._runs.clear()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
