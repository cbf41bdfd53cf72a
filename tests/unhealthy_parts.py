"""A plugin whose parts fail in one way each; the tests of the monitor train with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganzoo.api import Component, Spec, hookimpl, option
from ganzoo.data import ArrayDataset
from ganzoo.nn import CriticPass, Generator, Regularizer


@dataclass(frozen=True)
class Options:
    """Options of everything here."""

    latent_dim: int = option(8, help="Length of a latent.")
    at: int = option(0, help="Index of the sample that is broken, or the step from which a part fails.")


class Simple(Generator):
    """One layer."""

    def __init__(self, config: Options, spec: Spec) -> None:
        super().__init__(spec, config.latent_dim)
        self.layer = nn.Linear(config.latent_dim, spec.numel)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x: Tensor = torch.tanh(self.layer(z))
        return x.reshape(len(z), *self.spec.shape)


class Constant(Simple):
    """Learns, but looks at no latent."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(0 * z, y)


class Frozen(Simple):
    """No gradient reaches it."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z, y).detach()


class Holed(ArrayDataset):
    """Points, one of which is NaN."""

    def __init__(self, config: Options, spec: Spec) -> None:
        points = torch.randn(256, 2, generator=torch.Generator().manual_seed(0))
        points[config.at] = float("nan")
        super().__init__(points, None, spec)


class Rooted(Regularizer):
    """``sqrt`` at 0 in one step: its value is finite, its gradient is not."""

    name = "rooted"
    seen: Tensor

    def __init__(self, config: Options, spec: Spec) -> None:
        super().__init__(config, spec)
        self.at = config.at
        self.register_buffer("seen", torch.zeros(()))

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        self.seen += 1
        hole = 1 - (self.seen == self.at).float()
        return (critic_pass.fake_logits.mean() * 0 + hole).sqrt()


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """Everything here."""
    for name in ("constant", "frozen", "simple"):
        target = f"{__name__}:{name.title()}"
        yield Component("generator", name, target=target, config=Options, summary=f"A {name} generator.")
    yield Component(
        "dataset", "holed", target=f"{__name__}:Holed", config=Options, summary="Holed.", spec=lambda _: Spec((2,))
    )
    yield Component("regularizer", "rooted", target=f"{__name__}:Rooted", config=Options, summary="Rooted.")
