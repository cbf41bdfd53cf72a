"""Normalisation layers by name."""

from __future__ import annotations

import math
from typing import Literal, TypeVar, get_args

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from ganzoo.errors import UsageError, did_you_mean

NormName = Literal["batch", "layer", "instance", "group", "spectral", "none"]
"""Normalisations of a convolutional network. ``batch`` alone mixes the samples of a batch."""
Norm1dName = Literal["batch", "layer", "spectral", "none"]
"""Normalisations of a fully connected network."""
Norm = NormName | Norm1dName

M = TypeVar("M", bound=nn.Module)
_GROUPS = 32


def norm_layer(name: Norm, channels: int, dims: Literal[1, 2] = 2) -> nn.Module | None:
    """The layer that normalises ``channels`` features; None for ``none``, and for ``spectral``, which acts on weights.

    Args:
        name: which. ``layer`` normalises each sample over channels and positions (``GroupNorm(1, C)``), ``group``
            over 32 groups of channels, or as many as divide both.
        channels: size of the feature dimension.
        dims: 2 for maps ``[B, C, H, W]``, 1 for vectors ``[B, C]``.

    Raises:
        UsageError: there is no such normalisation.
    """
    if name not in get_args(NormName):
        raise UsageError(f"There is no normalisation {name!r}.{did_you_mean(str(name), get_args(NormName))}")
    match name:
        case "batch":
            return nn.BatchNorm2d(channels) if dims == 2 else nn.BatchNorm1d(channels)
        case "layer":
            return nn.GroupNorm(1, channels) if dims == 2 else nn.LayerNorm(channels)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=True)
        case "group":
            return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
        case "spectral" | "none":
            return None


def spectral(layer: M, norm: Norm) -> M:
    """The layer with its weight divided by its spectral norm (arXiv:1802.05957) if ``norm`` is ``spectral``."""
    if norm == "spectral":
        spectral_norm(layer)  # in place; what it returns is the same layer
    return layer


def has_own_bias(norm: Norm) -> bool:
    """Whether a convolution needs a bias beside this normalisation."""
    return norm in ("none", "spectral")
