"""Initialisations by name."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

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
    """
    if init == "default":
        return module
    for layer in module.modules():
        if isinstance(layer, _WEIGHTED):
            weight = _raw_weight(layer)
            if init == "normal":
                nn.init.normal_(weight, 0.0, _STD)
            else:
                nn.init.orthogonal_(weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif init == "normal" and isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, _STD)
            nn.init.zeros_(layer.bias)
    return module


def _raw_weight(layer: nn.Module) -> Tensor:
    """The tensor that is learned, which a parametrisation (spectral norm) keeps elsewhere."""
    parametrised = getattr(layer, "parametrizations", None)
    weight = layer.weight if parametrised is None else parametrised.weight.original
    assert isinstance(weight, Tensor)
    return weight
