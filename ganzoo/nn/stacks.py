"""The stacks of layers that the built-in networks, and many others, consist of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ganzoo.api import Spec
from ganzoo.errors import UsageError
from ganzoo.nn.norms import Norm, Norm1dName, has_own_bias, norm_layer, spectral

Upsample = Literal["transposed", "nearest", "bilinear"]


def one_hot(y: Tensor | None, num_classes: int, like: Tensor) -> Tensor:
    """Labels ``[B]`` as one-hot vectors ``[B, num_classes]`` of the type and device of ``like``.

    Raises:
        UsageError: ``y`` is None.
    """
    if y is None:
        raise UsageError("A conditional network needs labels; pass y, or choose an unconditional one.")
    return F.one_hot(y, num_classes).to(like.dtype)


def conv_decoder(
    latent_dim: int, spec: Spec, *, width: int, norm: Norm, upsample: Upsample = "transposed"
) -> nn.Sequential:
    """DCGAN's generator stack (arXiv:1511.06434): ``[B, latent_dim, 1, 1]`` -> ``[B, C, H, W]`` in (-1, 1).

    Project and reshape to the base of :attr:`Spec.pyramid`, then double the side and halve the channels until
    ``width`` channels are left, then the output. Norm and ReLU after all but the last, which ends in tanh. At 64x64
    with width 64 and transposed convolutions it is the classic network, layer by layer.

    Raises:
        UsageError: the shape has no pyramid.
    """
    doublings, base = _pyramid(spec)
    channels = [width * 2 ** (doublings - 1 - level) for level in range(doublings)]
    bias = has_own_bias(norm)
    layers: list[nn.Module] = [spectral(nn.ConvTranspose2d(latent_dim, channels[0], base, bias=bias), norm)]
    for here, above in zip(channels, [*channels[1:], None], strict=True):
        layers += _with_norm(norm, here)
        layers.append(nn.ReLU(inplace=True))
        out = spec.shape[0] if above is None else above
        if upsample == "transposed":
            layers.append(spectral(nn.ConvTranspose2d(here, out, 4, 2, 1, bias=bias), norm))
        else:
            corners = None if upsample == "nearest" else False
            layers.append(nn.Upsample(scale_factor=2, mode=upsample, align_corners=corners))
            layers.append(spectral(nn.Conv2d(here, out, 3, 1, 1, bias=bias), norm))
    layers.append(nn.Tanh())
    return nn.Sequential(*layers)


def conv_encoder(
    in_channels: int, spec: Spec, *, width: int, norm: Norm, slope: float = 0.2, dropout: float = 0.0
) -> nn.Sequential:
    """DCGAN's discriminator stack (arXiv:1511.06434): ``[B, in_channels, H, W]`` -> logits ``[B, 1, 1, 1]``.

    Strided 4x4 convolutions halve the side and double the channels, from ``width``, down to the base of
    :attr:`Spec.pyramid`, which one last convolution reads. Leaky ReLU throughout; no norm after the first layer.
    All but the last layer give the features.

    Raises:
        UsageError: the shape has no pyramid.
    """
    halvings, base = _pyramid(spec)
    bias = has_own_bias(norm)
    layers: list[nn.Module] = []
    here = in_channels
    for level in range(halvings):
        out = width * 2**level
        layers.append(spectral(nn.Conv2d(here, out, 4, 2, 1, bias=bias), norm))
        layers += _with_norm(norm, out) if level else []
        layers.append(nn.LeakyReLU(slope, inplace=True))
        if dropout:
            layers.append(nn.Dropout(dropout))
        here = out
    layers.append(spectral(nn.Conv2d(here, 1, base, bias=bias), norm))
    return nn.Sequential(*layers)


def mlp(
    sizes: Sequence[int], activation: nn.Module, *, norm: Norm1dName = "none", dropout: float = 0.0
) -> nn.Sequential:
    """Fully connected layers of these sizes: ``[B, sizes[0]]`` -> ``[B, sizes[-1]]``.

    Norm, activation and dropout after each but the last. ``activation`` must hold no state, as it is shared.
    """
    layers: list[nn.Module] = []
    for here, out in pairwise(sizes[:-1]):
        layers.append(spectral(nn.Linear(here, out), norm))
        layers += _with_norm(norm, out, dims=1)
        layers.append(activation)
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(spectral(nn.Linear(sizes[-2], sizes[-1]), norm))
    return nn.Sequential(*layers)


def _with_norm(norm: Norm, channels: int, dims: Literal[1, 2] = 2) -> list[nn.Module]:
    layer = norm_layer(norm, channels, dims)
    return [] if layer is None else [layer]


def _pyramid(spec: Spec) -> tuple[int, tuple[int, int]]:
    if spec.pyramid is None:
        raise UsageError(f"A DCGAN stack needs images whose sides are 4 to 7 times a power of two, not {spec}.")
    return spec.pyramid
