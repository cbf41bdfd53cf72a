"""Networks that are right, and unlike ganzoo's own in some way that a run has to bear."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Self

import torch
from sound_parts import Critic, Net
from torch import Tensor, nn

from ganzoo.api import Component, Spec, hookimpl


class Asking(Net):
    """Asks what numbers it has while it is built."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]


class Orthogonal(Net):
    """Has a parametrized layer that decomposes its weight while it is built."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.first = nn.utils.parametrizations.orthogonal(nn.Linear(6, 6))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(self.first(z), y)


class Replacing(Net):
    """Puts another tensor in the place of its buffer, in evaluation too."""

    seen: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("seen", torch.zeros(6))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        self.seen = 0.9 * self.seen + 0.1 * z.detach().mean(0)
        return super().forward(z + self.seen, y)


class Counting(Net):
    """Has whole numbers among its parameters."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.order = nn.Parameter(torch.arange(6), requires_grad=False)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z[:, self.order], y)


class Centred(Critic):
    """Takes the batch's mean away while it trains, by numbers and not by gradients."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.main[:-1](x)
        return self.main[-1](h - h.detach().mean(0) if self.training else h).squeeze(1)


class Powered(Critic):
    """Has a spectral norm whose vector is a parameter that forward() writes to, as an old implementation has it."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.u = nn.Parameter(torch.randn(5), requires_grad=False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        layer = self.main[1]
        assert isinstance(layer, nn.Linear)
        weight = layer.weight
        if self.training:
            v = weight.t() @ self.u
            self.u.data = nn.functional.normalize(weight @ v, dim=0).detach()
        return super().forward(x, y) / (1 + self.u.dot(weight.sum(1)).abs())


class Chancy(Critic):
    """Draws from Python's random numbers."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(x, y) * (1 + 0.1 * random.random())


class Picking(Critic):
    """Has whole numbers among its parameters, and a backbone that does not learn."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.order = nn.Parameter(torch.arange(spec.numel).flip(0), requires_grad=False)
        self.backbone = nn.Linear(spec.numel, spec.numel).requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(self.backbone(x.flatten(1)[:, self.order]))


class Kept(Critic):
    """Looks through a part that it keeps in evaluation."""

    part: nn.Module

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.part.eval()
        return self

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(self.part(x.flatten(1)))


class Settled(Kept):
    """Has a frozen backbone with batch norm, as pretrained ones are used."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.part = nn.Sequential(nn.Linear(spec.numel, spec.numel), nn.BatchNorm1d(spec.numel))
        self.part.eval().requires_grad_(False)


class Unsettled(Kept):
    """Has a batch norm that keeps no statistics, so that it uses those of the batch in evaluation too."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.part = nn.BatchNorm1d(spec.numel, track_running_stats=False).eval()


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    for made in (Asking, Orthogonal, Replacing, Counting):
        yield Component("generator", made.__name__.lower(), f"unusual_parts:{made.__name__}")
    for critic in (Centred, Chancy, Picking, Powered, Settled, Unsettled):
        yield Component("discriminator", critic.__name__.lower(), f"unusual_parts:{critic.__name__}")
