"""One step of the critic's optimiser as a differentiable function of its gradients.

Optimisers act on each number by itself, so all parameters are stepped as one flat vector: a handful of operations
instead of a handful a parameter. The formulas are those of ``torch.optim``, moments and step counter included, so that
K detached steps give the parameters that K real ones would. In place of ``sqrt(v)`` stands ``sqrt(v + eps^2)``: the
derivative of the square root is infinite at 0, where a parameter whose gradient has always been 0 (a dead ReLU) would
turn the generator's gradient into NaN. The difference is below float32's resolution wherever the moment is not
negligible beside eps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from ganzoo.api import UsageError
from ganzoo.nn.light_optim import torch_class

Moments = dict[str, Tensor]
Step = Callable[[Tensor, Tensor, Moments, Mapping[str, Any]], tuple[Tensor, Moments]]


def differentiable_step(optimizer: Optimizer) -> Step:
    """The function ``(parameter, gradient, moments, group) -> (parameter, moments)`` of one step of ``optimizer``.

    Raises:
        UsageError: the optimiser has none.
    """
    for kind, step in _STEPS.items():
        if torch_class(optimizer) is kind:
            return step
    names = ", ".join(kind.__name__ for kind in _STEPS)
    raise UsageError(f"{type(optimizer).__name__} cannot be unrolled; choose one of {names} for the discriminator.")


def _adam(parameter: Tensor, gradient: Tensor, moments: Moments, group: Mapping[str, Any]) -> tuple[Tensor, Moments]:
    """Kingma and Ba 2014 (arXiv:1412.6980), algorithm 1, with L2 or decoupled weight decay."""
    (beta1, beta2), eps, lr, decay = group["betas"], group["eps"], group["lr"], group["weight_decay"]
    if decay and group.get("decoupled_weight_decay"):
        parameter = parameter * (1 - lr * decay)
    elif decay:
        gradient = gradient + decay * parameter
    count = moments.get("step", gradient.new_zeros(())) + 1
    first = beta1 * moments.get("exp_avg", 0.0) + (1 - beta1) * gradient
    second = beta2 * moments.get("exp_avg_sq", 0.0) + (1 - beta2) * gradient.square()
    # One number stays where the optimiser counts, on the host or, if it is fused, on the device: nobody waits for it.
    where = gradient.device if count.dim() else count.device
    n = count.to(where, gradient.dtype, non_blocking=gradient.is_cuda)
    denominator = (second / _bias(beta2, n) + eps**2).sqrt() + eps
    moved = parameter - lr / _bias(beta1, n) * first / denominator
    return moved, {"step": count, "exp_avg": first, "exp_avg_sq": second}


def _adamw(parameter: Tensor, gradient: Tensor, moments: Moments, group: Mapping[str, Any]) -> tuple[Tensor, Moments]:
    """Loshchilov and Hutter 2017 (arXiv:1711.05101); before torch 2.7, its groups do not tell that they are of it."""
    return _adam(parameter, gradient, moments, {**group, "decoupled_weight_decay": True})


def _bias(beta: float, n: Tensor) -> Tensor | float:
    """``1 - beta^n``, without cancellation."""
    return -torch.expm1(n * math.log(beta)) if beta else 1.0


def _rmsprop(parameter: Tensor, gradient: Tensor, moments: Moments, group: Mapping[str, Any]) -> tuple[Tensor, Moments]:
    """RMSProp as ``torch.optim`` has it: eps outside the root, not centred, no momentum."""
    gradient = gradient + group["weight_decay"] * parameter if group["weight_decay"] else gradient
    alpha, eps = group["alpha"], group["eps"]
    square = alpha * moments.get("square_avg", 0.0) + (1 - alpha) * gradient.square()
    return parameter - group["lr"] * gradient / ((square + eps**2).sqrt() + eps), {"square_avg": square}


def _sgd(parameter: Tensor, gradient: Tensor, moments: Moments, group: Mapping[str, Any]) -> tuple[Tensor, Moments]:
    """Gradient descent, with heavy-ball momentum if asked for."""
    gradient = gradient + group["weight_decay"] * parameter if group["weight_decay"] else gradient
    if not group["momentum"]:
        return parameter - group["lr"] * gradient, {}
    before = moments.get("momentum_buffer")
    velocity = gradient if before is None else group["momentum"] * before + gradient
    return parameter - group["lr"] * velocity, {"momentum_buffer": velocity}


_STEPS: dict[type[Optimizer], Step] = {Adam: _adam, AdamW: _adamw, RMSprop: _rmsprop, SGD: _sgd}
