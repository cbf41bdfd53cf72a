"""The algorithm of a training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn.bundle import Bundle, Stream


class Trainer(ABC):
    """One generator iteration with the critic steps that belong to it. Built as ``Target(config, spec)``.

    It sees a :class:`~ganzoo.nn.Bundle`, whose methods draw, evaluate, differentiate and step; so a trainer is the
    algorithm and nothing else. A trainer with tensors of its own to resume keeps them in :meth:`state_dict`.
    """

    bundle: Bundle
    differentiates_once: ClassVar[bool] = False
    """Whether its own algorithm never differentiates a gradient of the critic; then ``--compile`` may compile it."""

    def __init__(self, config: object, spec: Spec) -> None:
        self.config = config
        self.spec = spec

    def setup(self, bundle: Bundle) -> None:
        """Called once, before the first step."""
        self.bundle = bundle

    @abstractmethod
    def step(self, stream: Stream) -> dict[str, Tensor]:
        """Take one step and return its metrics: detached scalars on the device, at least loss_d and loss_g."""

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what :meth:`state_dict` gave."""
