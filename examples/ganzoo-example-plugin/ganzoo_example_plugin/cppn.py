"""A compositional pattern-producing network (K. O. Stanley 2007)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.api import Spec
from ganzoo.nn import Generator, mlp
from ganzoo_example_plugin import CppnConfig


class Cppn(Generator):
    """``[B, latent_dim]`` -> images ``[B, C, H, W]``: a function of a pixel's place ``(x, y, r)`` and the latent.

    Every pixel goes through the same small network, so the number of parameters does not depend on the size.
    """

    places: Tensor

    def __init__(self, config: CppnConfig, spec: Spec) -> None:
        super().__init__(spec, config.latent_dim)
        channels, height, width = spec.shape
        # No weight, so a buffer: it moves with the network. It follows from the options, so it is not saved.
        self.register_buffer("places", _places(height, width, config.zoom), persistent=False)
        self.of_place = nn.Linear(3, config.width)
        self.of_latent = nn.Linear(config.latent_dim, config.width, bias=False)
        self.paint = mlp([*[config.width] * config.depth, channels], nn.Tanh())

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images in (-1, 1); labels are not used."""
        hidden = self.of_place(self.places) + self.of_latent(z)[:, None]  # [B, H * W, width]
        pixels: Tensor = torch.tanh(self.paint(torch.tanh(hidden)))
        return pixels.transpose(1, 2).reshape(len(z), *self.spec.shape)


def _places(height: int, width: int, zoom: float) -> Tensor:
    """Place ``(x, y)`` of every pixel around the middle and its distance ``r`` from it, ``[H * W, 3]``."""
    rows = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    place = torch.stack([x, y], -1).reshape(-1, 2) * (2 * zoom / max(height, width))
    return torch.cat([place, place.norm(dim=1, keepdim=True)], 1)
