"""Convolutions with strides are right in every precision and layout, those among them that torch computes wrong too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganzoo.nn import convolution

PRECISIONS = {"fp32": 1e-4, "bf16": 0.2}
"""Largest error of a result, by its norm. Few products cancel to 7 % in bfloat16; what torch computes wrong is off by
40 % and more."""


def both(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def computed(layer: nn.Module, x: Tensor, g: Tensor, precision: str) -> Sequence[Tensor]:
    """The result and its gradients; of memory that nobody writes, large numbers are left where it may be."""
    x = x.clone().requires_grad_()
    litter = [torch.full((size,), 1e30) for size in (1000, 100_000)]
    del litter
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        y = layer(x)
    return y, *torch.autograd.grad(y, [x, *layer.parameters()], g.to(y.dtype))


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]),
    channels=st.tuples(*[st.sampled_from([1, 3, 4, 8, 16, 32, 64])] * 2),
    kernel=both(1, 6),
    stride=both(1, 4),
    padding=both(0, 2),
    dilation=st.sampled_from([1, 1, 1, 2]),
    side=both(1, 16),
    batch=st.sampled_from([2, 4, 8]),
    last=st.booleans(),
)
def test_a_convolution_with_strides_is_right(
    *,
    precision: str,
    kind: Any,
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    side: tuple[int, int],
    batch: int,
    last: bool,
) -> None:
    if precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor computes no bfloat16")
    assume(stride != (1, 1))
    layer, x = kind(*channels, kernel, stride, padding, dilation=dilation), torch.randn(batch, channels[0], *side)
    try:
        shape = layer(x).shape
    except RuntimeError:
        assume(False)
    assume(min(shape) > 0)
    g = torch.randn(shape)
    expected = computed(layer.double(), x.double(), g.double(), "fp32")
    layer.float()
    if last:
        layer, x = layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    convolution.guard(layer, on=True)
    for found, true in zip(computed(layer, x, g, precision), expected, strict=True):
        assert (found - true).norm() <= PRECISIONS[precision] * true.norm() + 1e-6
