"""Convolutions with strides that torch computes wrong on CPUs, in some precisions and layouts.

Where a side is few pixels wide, the kernels of oneDNN (torch 2.13) read memory that nobody wrote: in bfloat16 with AMX,
and with channels last in float32 too, with strides that differ. In bfloat16 they are wrong at any size where a kernel
is no longer than its stride, as in patches side by side. Convolutions of one dimension go to the same kernels, as
images of one row. Contiguous float32 is right, and over few pixels it costs next to nothing.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
KINDS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED: Final = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}
_WIDE: Final = 4
"""Pixels from which on a side of an image is no cause for concern: the least base of a pyramid of layers."""


def is_doubtful(layer: Convolution, x: Tensor) -> bool:
    """Whether a layer with strides goes over few pixels, in its input or in its result, in any direction.

    Or whether, under autocast, none of its patches shares a pixel with the next. Only images can be wide enough: the
    kernels for one and for three dimensions were seen to fail at any size.
    """
    dimensions = len(layer.kernel_size)
    if all(stride == 1 for stride in layer.stride) or x.dim() < dimensions + 1:
        return False
    if torch.is_autocast_enabled("cpu") and any(
        kernel <= stride != 1 for kernel, stride in zip(layer.kernel_size, layer.stride, strict=True)
    ):
        return True
    sides = [int(side) for side in x.shape[-dimensions:]]
    return dimensions != 2 or min(*sides, *_result(layer, sides)) < _WIDE


def _result(layer: Convolution, sides: list[int]) -> list[int]:
    """The sides of what a layer makes of an input, but for an output size that is asked for."""
    found = []
    for axis, side in enumerate(sides):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        # Of the words that may stand for the padding, strides go with "valid" alone, which is none.
        stride, padding = layer.stride[axis], 0 if isinstance(layer.padding, str) else int(layer.padding[axis])
        if isinstance(layer, tuple(_TRANSPOSED)):
            found.append((side - 1) * stride - 2 * padding + reach + 1)
        else:
            found.append((side + 2 * padding - reach - 1) // stride + 1)
    return found


def carefully(layer: Convolution, x: Tensor, output_size: list[int] | None = None) -> Tensor:
    """What a layer of torch computes, in contiguous float32 or wider on a CPU, whatever its weights lie like."""
    with torch.autocast("cpu", enabled=False):
        x, weight = _full(x), _full(layer.weight)
        bias = None if layer.bias is None else _full(layer.bias)
        for kind, function in _TRANSPOSED.items():
            if isinstance(layer, kind):
                sizes: Any = layer.stride, layer.padding, layer.kernel_size, len(layer.kernel_size), layer.dilation
                left = layer._output_padding(x, output_size, *sizes)
                how: Any = layer.stride, layer.padding, left, layer.groups, layer.dilation
                plain: Tensor = function(x, weight, bias, *how)
                return plain
        result: Tensor = layer._conv_forward(x, weight, bias)
        return result


def _full(value: Tensor) -> Tensor:
    """A copy, since what has one channel is contiguous whatever its strides, by which torch chooses the kernel."""
    return value.to(torch.promote_types(value.dtype, torch.float32)).clone(memory_format=torch.contiguous_format)
