"""Discs and squares."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.data import Batch, SampledDataset
from ganzoo_example_plugin import ShapesConfig


class Shapes(SampledDataset):
    """Images ``[1, size, size]`` of a white disc (label 0) or square (label 1) on black, at any place, of any size."""

    def __init__(self, config: ShapesConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.softness = config.softness

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        """``n`` new samples; every random number comes from ``rng``, so a run can be repeated and resumed."""
        middle = torch.rand(2, n, 1, 1, generator=rng, device=self.device) - 0.5
        radius = 0.25 + 0.25 * torch.rand(n, 1, 1, generator=rng, device=self.device)
        label = torch.randint(2, (n,), generator=rng, device=self.device)
        ticks = torch.linspace(-1, 1, self.spec.shape[-1], device=self.device)
        across, down = (ticks - middle[0]).abs(), (ticks[:, None] - middle[1]).abs()
        distance = torch.where(label[:, None, None] == 0, (across**2 + down**2).sqrt(), torch.maximum(across, down))
        image: Tensor = torch.tanh((radius - distance) / self.softness)
        return Batch(image[:, None], label if self.spec.num_classes else None)
