"""The two networks of a GAN."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn.buffers import Loadable

Prior = Literal["normal", "uniform"]
"""Distribution of the latents: N(0, I), or U(-1, 1) in each dimension."""


class Generator(Loadable, ABC):
    """Maps latents to samples. Built as ``Target(config, spec)``.

    Args:
        spec: the task.
        latent_dim: length of a latent.
        prior: distribution of the latents.
    """

    def __init__(self, spec: Spec, latent_dim: int, prior: Prior = "normal") -> None:
        super().__init__()
        self.spec = spec
        self.latent_dim = latent_dim
        self.prior: Prior = prior

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` latents ``[n, latent_dim]`` from the prior, on the device of ``rng`` (or of the network)."""
        device = rng.device if rng is not None else next(self.parameters()).device
        if self.prior == "uniform":
            return torch.rand(n, self.latent_dim, generator=rng, device=device) * 2 - 1
        return torch.randn(n, self.latent_dim, generator=rng, device=device)

    @abstractmethod
    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Samples ``[B, *spec.shape]`` for latents ``[B, latent_dim]`` and labels ``[B]`` int64 or None.

        Images are in [-1, 1].
        """


def prior_of(gen: Generator) -> str:
    """The distribution of a generator's latents: ``normal``, ``uniform``, or ``own`` if it draws them by itself."""
    return gen.prior if type(gen).latent is Generator.latent else "own"


class Discriminator(Loadable, ABC):
    """Tells real from generated samples; also called the critic. Built as ``Target(config, spec)``.

    Args:
        spec: the task.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Raw logits ``[B]`` for samples ``[B, *spec.shape]``; high on real for every loss, never a sigmoid."""

    @abstractmethod
    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """What the last layer sees, ``[B, F]``, for use by a classifier or a metric."""
