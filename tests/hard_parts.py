"""Plugins that are hard to save, and trainers that go wrong in one process or take their time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganzoo import processes
from ganzoo.api import Component, MissingError, Spec, hookimpl, option
from ganzoo.nn import Bundle, CriticPass, Generator, Loss, Regularizer, Stream
from ganzoo_gan import AlternatingConfig
from ganzoo_gan.trainer import Alternating


@dataclass(frozen=True)
class Options:
    """Options of most of them."""

    after: int = option(7, help="Calls after which it happens.")


class Counting(Regularizer):
    """Changes its buffer for the worse after some calls."""

    config: Options
    held: Tensor

    def __init__(self, config: Options, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("held", torch.zeros((), dtype=torch.int64 if self.name == "retyping" else torch.float32))
        self.calls = 0

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        self.calls += 1
        if self.calls > self.config.after:
            self.worsen()
        return 0.0 * critic_pass.real_logits.mean()

    def worsen(self) -> None:
        self.held.fill_(float("inf"))


class Retyping(Counting):
    name = "retyping"

    def worsen(self) -> None:
        self.held = torch.full((), 0.5)


class Reshaping(Counting):
    name = "reshaping"

    def worsen(self) -> None:
        self.held = torch.zeros(3)


class Steep(Loss):
    """Of gradients whose squares are infinite, though they are not."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 1e25 * (softplus(-real).mean() + softplus(fake).mean())

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()


class Empty(Generator):
    """With a parameter that has no numbers."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec, 4)
        self.main = nn.Linear(4, spec.numel)
        self.nothing = nn.Parameter(torch.zeros(0))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x: Tensor = self.main(z) + self.nothing.sum()
        return x.view(-1, *self.spec.shape)


class Averaging(Alternating):
    """Keeps a running mean of the critic's loss, in another tensor at each step."""

    def setup(self, bundle: Bundle) -> None:
        super().setup(bundle)
        self.mean = torch.zeros(())

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean = state["mean"]

    def step(self, stream: Stream) -> dict[str, Tensor]:
        found = super().step(stream)
        self.mean = 0.9 * self.mean + 0.1 * found["loss_d"]
        return found


class Copying(Averaging):
    """The same, but gives copies of what it keeps."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean.clone()}


class First(Alternating):
    """Finds something missing in the first process."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        if processes.place().rank == 0:
            raise MissingError("The moon is missing; look for it.")
        return super().step(stream)


class Dying(Alternating):
    """The last process is killed in its first step."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        if processes.place().rank == processes.place().world - 1 > 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(stream)


class Slow(Alternating):
    """Takes its time for each step after the first one."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        if self.bundle.step:
            time.sleep(2.5)
        return super().step(stream)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """All."""
    for reg in (Counting, Retyping, Reshaping):
        name = reg.__name__.lower()
        yield Component("regularizer", name, target=f"{__name__}:{reg.__name__}", config=Options, summary="Hard.")
    yield Component("loss", "steep", target=f"{__name__}:Steep", summary="Hard.")
    yield Component("generator", "empty", target=f"{__name__}:Empty", summary="Hard.")
    for trainer in (Averaging, Copying, First, Dying, Slow):
        name = trainer.__name__.lower()
        yield Component("trainer", name, target=f"{__name__}:{trainer.__name__}", config=AlternatingConfig, summary="x")
