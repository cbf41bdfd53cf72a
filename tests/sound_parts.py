"""A plugin without a fault but that it is one file, which imports torch to be listed; ``broken_parts`` builds on it."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ganzoo.api import Component, Spec, hookimpl
from ganzoo.data import Batch, SampledDataset
from ganzoo.nn import Discriminator, Generator, Loss


class Net(Generator):
    """One layer."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec, 6)
        self.main = nn.Linear(6, spec.numel)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.tanh(self.main(z)).reshape(len(z), *self.spec.shape)


class Critic(Discriminator):
    """Two layers."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec)
        self.main = nn.Sequential(nn.Flatten(), nn.Linear(spec.numel, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.main(x).squeeze(1)

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.main[:-1](x)


class Sound(Loss):
    """Least squares."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - 1).square().mean() + fake.square().mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - 1).square().mean()


def images(config: object) -> Spec:
    """Small and labelled."""
    return Spec((1, 8, 8), 3)


class Drawn(SampledDataset):
    """Noise."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        x = torch.rand(n, *self.spec.shape, generator=rng) * 2 - 1
        y = torch.randint(self.spec.num_classes, (n,), generator=rng) if self.spec.num_classes else None
        return Batch(x, y)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    yield Component("generator", "net", "sound_parts:Net", summary="One layer.")
    yield Component("discriminator", "critic", "sound_parts:Critic", summary="Two layers.")
    yield Component("loss", "sound", "sound_parts:Sound", summary="Least squares.")
    yield Component("dataset", "drawn", "sound_parts:Drawn", summary="Noise.", spec=images)
