"""Losses that a CPU alone forgives."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ganzoo.api import Component, hookimpl
from ganzoo.nn import Loss


class AtHome(Loss):
    """Makes a tensor on the host."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - (real * torch.ones(len(real))).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Asking(AtHome):
    """Asks the device for a number."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean() * (2.0 if real.mean().item() > 0 else 1.0)


class Double(AtHome):
    """Counts in float64."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (fake.double().mean() - real.double().mean()).float()


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    yield Component("loss", "at-home", target=f"{__name__}:AtHome", summary="On the host.")
    yield Component("loss", "asking", target=f"{__name__}:Asking", summary="Waits.")
    yield Component("loss", "double", target=f"{__name__}:Double", summary="In float64.")
