"""Distributions in the plane."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.data import Batch, GaussianMixture, SampledDataset
from ganzoo_datasets import GridConfig, RingConfig, SwissRollConfig


class Ring(GaussianMixture):
    """Gaussians at the angles ``2 pi k / modes`` of a circle; the label is ``k``."""

    def __init__(self, config: RingConfig, spec: Spec) -> None:
        # Not linspace(0, 2 pi, modes): with both ends in it, two modes would coincide.
        angles = torch.arange(config.modes, dtype=torch.float64) * (2 * math.pi / config.modes)
        centers = torch.stack([angles.cos(), angles.sin()], 1) * config.radius
        super().__init__(centers.float(), config.std, spec)


class Grid(GaussianMixture):
    """Gaussians on a square grid around the origin; the label counts along the second axis first."""

    def __init__(self, config: GridConfig, spec: Spec) -> None:
        ticks = (torch.arange(config.side, dtype=torch.float32) - (config.side - 1) / 2) * config.spacing
        super().__init__(torch.cartesian_prod(ticks, ticks), config.std, spec)


class SwissRoll(SampledDataset):
    """The spiral ``t (cos t, sin t)`` with t uniform in 1.5 pi .. 4.5 pi, plus noise, scaled; no labels."""

    def __init__(self, config: SwissRollConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.config = config

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        t = torch.rand(n, generator=rng, device=self.device).mul_(3 * math.pi).add_(1.5 * math.pi)
        spiral: Tensor = torch.stack([t * t.cos(), t * t.sin()], 1)
        noise = torch.randn(n, 2, generator=rng, device=self.device)
        return Batch(spiral.add_(noise, alpha=self.config.noise).div_(self.config.scale))
