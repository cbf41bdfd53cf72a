"""From bytes to network input, and from one size to another, in batch and on the device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

_CHUNK = 4096


def to_unit(pixels: Tensor) -> Tensor:
    """Pixels uint8 (0 .. 255, any shape) as float32 in [-1, 1]; 0 is exactly -1 and 255 exactly 1."""
    return pixels.sub(127.5).div_(127.5)


def from_unit(values: Tensor) -> Tensor:
    """The inverse of :func:`to_unit`: values in [-1, 1] as uint8, rounded and clamped; what is no number is 0."""
    pixels: Tensor = values.detach().float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return pixels.nan_to_num_(0).to(torch.uint8)


def resize(pixels: Tensor, size: int) -> Tensor:
    """Images ``[N, C, H, W]`` uint8 as ``[N, C, size, size]`` uint8 by antialiased bicubic interpolation."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    resized = pixels.new_empty(*pixels.shape[:2], size, size)
    for source, target in zip(torch.split(pixels, _CHUNK), torch.split(resized, _CHUNK), strict=True):
        target.copy_(resample(source.float(), (size, size), "bicubic").round_().clamp_(0, 255))
    return resized


def resample(images: Tensor, size: tuple[int, int], mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """Images ``[N, C, H, W]`` float as ``[N, C, *size]`` by antialiased interpolation.

    Of those on MPS the CPU computes it: MPS has it since torch 2.8 only.
    """
    here = images.cpu() if images.device.type == "mps" else images
    made = interpolate(here, size, mode=mode, antialias=True, align_corners=False)
    return made.to(images.device)
