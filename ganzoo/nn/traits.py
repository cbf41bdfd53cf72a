"""Traits that can be seen in a network, whatever its component declares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganzoo.api import MIXES_SAMPLES
from ganzoo.nn.critic_pass import Critic


def observed_traits(module: nn.Module) -> frozenset[str]:
    """``mixes-samples`` if a batch norm with statistics of the batch is among its layers."""
    mixing = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
    return frozenset({MIXES_SAMPLES}) if mixing else frozenset()


def mixes_samples(critic: Critic, x: Tensor, y: Tensor | None) -> bool:
    """Whether the first logit depends on any other sample of the batch ``x [B, *shape]``, B at least 2."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x, y)[0], x)
    return bool(gradient[1:].count_nonzero())
