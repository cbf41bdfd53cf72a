"""The layers of the digit classifier, which ``tools/train_digit_cnn.py`` trains and ``model.py`` uses."""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn

from ganzoo.data import resample

SIDE: Final = 28
CLASSES: Final = 10
DIM: Final = 96
_CONVOLUTIONS: Final = ((1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, DIM, 2))
"""Channels in, channels out, stride."""


def body(*, batch_norm: bool) -> nn.Sequential:
    """Pixels ``[B, 1, 28, 28]`` in [0, 1] -> features ``[B, 96]``: six 3x3 convolutions with ReLU, and the mean.

    For training with batch norm; for use without, its numbers being part of the weights, so that an image's features
    cannot depend on its neighbours.
    """
    layers: list[nn.Module] = []
    for width_in, width_out, stride in _CONVOLUTIONS:
        layers.append(nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(width_out))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def head() -> nn.Linear:
    """Features ``[B, 96]`` -> logits ``[B, 10]``."""
    return nn.Linear(DIM, CLASSES)


def as_mnist(grey: Tensor) -> Tensor:
    """Grey pixels ``[B, 1, H, W]`` of 0 .. 255 as float32 ``[B, 1, 28, 28]`` in [0, 1], by antialiased bilinear."""
    grey = grey.float() / 255
    if grey.shape[-2:] == (SIDE, SIDE):
        return grey
    return resample(grey, (SIDE, SIDE), "bilinear")
