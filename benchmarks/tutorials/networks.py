"""The networks of the common scripts. Images are ``[B, C, H, W]`` in [-1, 1]; critics return ``[B]`` logits."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]


class MlpGenerator(nn.Module):
    """100 to 128, 256, 512, 1024, and the pixels; batch norm but in the first layer, whose epsilon is 0.8."""

    latent_dim = 100

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.main = nn.Sequential(*self._layers(), nn.Linear(1024, prod(shape)), nn.Tanh())

    def _layers(self) -> Iterator[nn.Module]:
        before = self.latent_dim
        for width in (128, 256, 512, 1024):
            yield nn.Linear(before, width)
            if before != self.latent_dim:
                yield nn.BatchNorm1d(width, 0.8)
            yield nn.LeakyReLU(0.2, inplace=True)
            before = width

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``[B, 100]``."""
        images: Tensor = self.main(z)
        return images.view(len(z), *self.shape)


class MlpDiscriminator(nn.Module):
    """The pixels to 512, 256 and one logit."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(prod(shape), 512),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(512, 256),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(256, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B]``."""
        logits: Tensor = self.main(x.flatten(1))
        return logits.squeeze(1)


class UpsamplingGenerator(nn.Module):
    """A linear layer to 128 maps of a quarter of the side, doubled twice by nearest neighbours and 3x3 convolutions."""

    latent_dim = 100

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, side = shape[0], shape[1] // 4
        self.side = side
        self.first = nn.Linear(self.latent_dim, 128 * side**2)
        self.main = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.BatchNorm2d(128, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.BatchNorm2d(64, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(64, channels, 3, padding=1),
            nn.Tanh(),
        )
        self.apply(normal)

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``[B, 100]``."""
        maps = self.first(z).view(len(z), 128, self.side, self.side)
        images: Tensor = self.main(maps)
        return images


class DropoutDiscriminator(nn.Module):
    """3x3 convolutions of stride 2 to 16, 32, 64 and 128 maps, each with dropout of whole maps, and one logit."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.main = nn.Sequential(*self._blocks(shape[0]))
        self.last = nn.Linear(128 * (shape[1] // 16) ** 2, 1)
        self.apply(normal)

    @staticmethod
    def _blocks(before: int) -> Iterator[nn.Module]:
        for width in (16, 32, 64, 128):
            yield nn.Conv2d(before, width, 3, 2, 1)
            yield nn.LeakyReLU(0.2, inplace=True)
            yield nn.Dropout2d(0.25)
            if width > 16:
                yield nn.BatchNorm2d(width, 0.8)
            before = width

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B]``."""
        logits: Tensor = self.last(self.main(x).flatten(1))
        return logits.squeeze(1)


class DcganGenerator(nn.Module):
    """The official example's: transposed 4x4 convolutions from 1x1 up to 64x64, batch norm, ReLU, tanh."""

    latent_dim = 100

    def __init__(self, shape: Shape, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = self.latent_dim
        for factor in (8, 4, 2, 1):
            stride, padding = (1, 0) if factor == 8 else (2, 1)
            layers += [
                nn.ConvTranspose2d(before, width * factor, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width * factor),
                nn.ReLU(True),
            ]
            before = width * factor
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(width, shape[0], 4, 2, 1, bias=False), nn.Tanh())
        self.apply(normal)

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``[B, 100]``."""
        images: Tensor = self.main(z[:, :, None, None])
        return images


class DcganDiscriminator(nn.Module):
    """The official example's: 4x4 convolutions of stride 2 from 64x64 down to 4x4, then one logit."""

    def __init__(self, shape: Shape, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        for factor in (1, 2, 4):
            layers += [
                nn.Conv2d(width * factor, 2 * width * factor, 4, 2, 1, bias=False),
                nn.BatchNorm2d(2 * width * factor),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.main = nn.Sequential(*layers, nn.Conv2d(width * 8, 1, 4, bias=False))
        self.apply(normal)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B]``."""
        logits: Tensor = self.main(x)
        return logits.flatten()


@torch.no_grad()
def normal(module: nn.Module) -> None:
    """Weights N(0, 0.02) of convolutions, N(1, 0.02) of batch norms, whose biases are 0; linear layers as they are."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        module.weight.normal_(0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        module.weight.normal_(1, 0.02)
        module.bias.zero_()
