"""Traits that can be seen in a network, whatever its component declares."""

from __future__ import annotations

from torch import nn

from ganzoo.api import MIXES_SAMPLES


def observed_traits(module: nn.Module) -> frozenset[str]:
    """``mixes-samples`` if a batch norm with statistics of the batch is among its layers."""
    mixing = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
    return frozenset({MIXES_SAMPLES}) if mixing else frozenset()
