"""Optimisers from their configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from ganzoo.config import OptimConfig
from ganzoo.errors import UsageError
from ganzoo.nn.light_optim import SGD, Adam, AdamW, RMSprop

Schedule = Callable[[int], float]
"""Learning rate at a step (from 0)."""

_FUSED_DEVICES = {"cpu", "cuda", "mps", "xpu"}


def build_optimizer(config: OptimConfig, parameters: Iterable[Tensor]) -> Optimizer:
    """The optimiser that ``config`` describes, fused where torch has a fused one (same numbers, fewer launches).

    Raises:
        UsageError: a moment would never change.
    """
    params = list(parameters)
    fused = all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in params) or None
    if fused and any(p.dtype not in (torch.float32, torch.float64) for p in params):
        fused = None
    if config.name in ("adam", "adamw") and max(config.betas) == 1:
        raise UsageError(
            f"The betas {','.join(map(str, config.betas))} never change a moment of {config.name}; take less than 1."
        )
    decay = config.weight_decay
    match config.name:
        case "adam":
            return Adam(params, config.lr, config.betas, config.eps, decay, fused=fused)
        case "adamw":
            return AdamW(params, config.lr, config.betas, config.eps, decay, fused=fused)
        case "rmsprop":
            return RMSprop(params, config.lr, config.alpha, config.eps, decay, foreach=True)
        case "sgd":
            return SGD(params, config.lr, config.momentum, weight_decay=decay, fused=fused)


def build_schedule(config: OptimConfig) -> Schedule | None:
    """The learning rate as a function of the step, so that there is nothing to save; None if it stays.

    Half a cosine from ``lr`` to 0 over ``decay_steps`` steps (arXiv:1608.03983, eq. 5, without restarts).
    """
    if not config.decay_steps:
        return None

    def rate(step: int) -> float:
        done = min(step / config.decay_steps, 1.0)
        return config.lr * (1 + math.cos(math.pi * done)) / 2

    return rate
