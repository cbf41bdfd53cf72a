"""Traits that can be seen in a network, whatever its component declares."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ganzoo.api import MIXES_SAMPLES


def observed_traits(module: nn.Module) -> frozenset[str]:
    """``mixes-samples`` if a batch norm with statistics of the batch is among its layers."""
    mixing = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
    return frozenset({MIXES_SAMPLES}) if mixing else frozenset()


def mixes_samples(critic: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether the first or the last logit depends on another sample of the batch ``x [B, *shape]``, B at least 2.

    A copy of the critic is looked at, whose parameters are changed a little, lest a zero hides what it multiplies: by
    its gradients while it trains, which must be zero, and by its values in both modes, which may differ by rounding.
    """
    put_back = _random_kept(x.device)
    try:
        critic = copy.deepcopy(critic)
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in critic.parameters():
                p.add_(0.1 * torch.randn(p.shape, generator=rng, dtype=torch.float32).to(p))
        x = x.detach().requires_grad_()
        logits = critic.train()(x, y)  # which may settle what it takes from its first batch
        firsts = torch.autograd.grad(logits[0], x, retain_graph=True)[0]
        lasts = torch.autograd.grad(logits[-1], x)[0]
        seen = bool(firsts[1:].count_nonzero() + lasts[:-1].count_nonzero())
        return seen or any(_values_change(critic.train(mode), x.detach(), y) for mode in (True, False))
    finally:
        put_back()


@torch.no_grad()
def _values_change(critic: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether the first or the last logit is another one where the rest of the batch is.

    Each time a new copy is asked, with the same random numbers. If it answers otherwise to the same batch, chance is in
    the way, and its values say nothing; so it is if they are not finite.
    """
    logits = []
    for batch in (x, x, _replaced(x, 0), _replaced(x, len(x) - 1)):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        logits.append(copy.deepcopy(critic)(batch, y))
    whole, again, first, last = logits
    if not torch.isfinite(whole).all() or not _close(whole, again):
        return False
    return not _close(torch.stack((first[0], last[-1])), whole[[0, -1]])


def _close(one: Tensor, other: Tensor) -> bool:
    """Up to rounding: a device need not add in the same order twice."""
    return torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def _random_kept(device: torch.device) -> Callable[[], None]:
    """A function that lets all generators stand where they stand now: torch's, the device's, Python's and NumPy's."""
    drawn, python, chance = torch.default_generator.get_state(), random.getstate(), np.random.get_state()
    module = None if device.type == "cpu" else torch.get_device_module(device)
    there = None if module is None else module.get_rng_state()

    def put_back() -> None:
        torch.default_generator.set_state(drawn)
        random.setstate(python)
        np.random.set_state(chance)
        if module is not None:
            module.set_rng_state(there)

    return put_back


def _replaced(x: Tensor, kept: int) -> Tensor:
    """The batch with other samples in the places of all but one."""
    other = -x.roll(1, 0)
    other[kept] = x[kept]
    return other
