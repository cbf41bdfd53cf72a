"""Initialisations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ganzoo.errors import UsageError, did_you_mean

Init = Literal["normal", "orthogonal", "default"]
"""``normal``: N(0, 0.02) weights, batch-norm scales N(1, 0.02) (arXiv:1511.06434); ``default``: torch's own."""

M = TypeVar("M", bound=nn.Module)
_STD = 0.02
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@torch.no_grad()
def initialise(module: M, init: Init, gain: float = 1.0) -> M:
    """Initialise every linear, convolution and batch-norm layer within ``module`` in place, and return it.

    Args:
        module: the network.
        init: which scheme; biases become 0 under ``normal`` and ``orthogonal``.
        gain: factor of the orthogonal matrices.

    Raises:
        UsageError: there is no such scheme.
    """
    if init not in get_args(Init):
        raise UsageError(f"There is no initialisation {init!r}.{did_you_mean(str(init), get_args(Init))}")
    if init == "default":
        return module
    for layer in module.modules():
        if isinstance(layer, _WEIGHTED):
            if init == "normal":
                _fill(layer, lambda weight: nn.init.normal_(weight, 0.0, _STD))
            else:
                _fill(layer, lambda weight: nn.init.orthogonal_(weight, gain))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif init == "normal" and isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, _STD)
            nn.init.zeros_(layer.bias)
    return module


def _fill(layer: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    """Fill the weight that is learned, which a parametrisation (spectral norm, weight norm) keeps elsewhere."""
    if is_parametrized(layer, "weight"):
        kept = layer.get_submodule("parametrizations.weight")
        weight = getattr(kept, "original", None)
        if weight is None:  # there are several, which follow from the weight that they are to make
            made = layer.weight
            assert isinstance(made, Tensor)
            layer.weight = fill(torch.empty_like(made))
            return
    else:
        weight = getattr(layer, "weight_orig", layer.weight)  # torch's older spectral norm
    assert isinstance(weight, Tensor)
    fill(weight)
