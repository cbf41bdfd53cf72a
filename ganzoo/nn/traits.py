"""Traits that can be seen in a network, whatever its component declares."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ganzoo.api import MIXES_SAMPLES
from ganzoo.nn.buffers import copied, unchanged_buffers
from ganzoo.nn.precision import full_float32

_ROUNDING: Final = 1e-3
"""How far logits of batches of other sizes may be apart, relative to the largest."""


def observed_traits(module: nn.Module) -> frozenset[str]:
    """``mixes-samples`` if a batch norm with statistics of the batch is among its layers.

    Layers are looked at as they train: one that is frozen stays in evaluation then, as the network's ``train`` tells.
    """
    modes = [(layer, layer.training) for layer in module.modules()]
    module.train()
    try:
        mixing = any(
            isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or layer.running_mean is None)
            for layer in module.modules()
        )
    finally:
        for layer, mode in modes:
            layer.training = mode
    return frozenset({MIXES_SAMPLES}) if mixing else frozenset()


@torch.no_grad()
def nudge(module: nn.Module, size: float, rng: torch.Generator, *, scale: float = 1.0) -> None:
    """Move each parameter by numbers of about this size, lest a zero hides what it multiplies, and then scale it.

    Whole numbers, such as an order of features, stay what they are.
    """
    for p in module.parameters():
        if p.is_floating_point() or p.is_complex():
            p.add_(size * torch.randn(p.shape, generator=rng, dtype=torch.float32).to(p)).mul_(scale)


class Dependence(NamedTuple):
    """What the first or the last logit of a batch depends on, beside its own sample.

    Attributes:
        others: on other samples of the batch.
        place: on where in the batch it stands, on how many there are, or on the pass before; not on other samples.
    """

    others: bool
    place: bool


def mixes_samples(critic: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether the first or the last logit depends on another sample of the batch ``x [B, *shape]``, B at least 2."""
    return dependence(critic, x, y).others


def dependence(critic: nn.Module, x: Tensor, y: Tensor | None) -> Dependence:
    """On what logits of the batch ``x [B, *shape]`` are seen to depend, B at least 4 and even.

    A copy of the critic is looked at, whose parameters are changed a little, lest a zero hides what it multiplies: by
    its gradients while it trains, which must be zero, and by its values in both modes, which may differ by rounding.
    Those of one class may be mixed with each other alone, so the labels ``y [B]`` should have two of some.
    """
    put_back = _random_kept(x.device)
    try:
        # A hook that is a closure changes not the copy, but what it was made for.
        with unchanged_buffers(critic), full_float32(x.device):
            critic = copied(critic)
            rng = torch.Generator().manual_seed(0)
            nudge(critic, 0.1, rng)
            others = _reaches(critic, x, y) or any(_values_change(critic.train(mode), x, y) for mode in (True, False))
            return Dependence(others, not others and _place_counts(critic, x, y))
    finally:
        put_back()


def _reaches(critic: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether the first or the last logit has a gradient at another sample, in a pass which may settle the critic."""
    x = x.detach().requires_grad_()
    logits = critic.train()(x, y)
    firsts = torch.autograd.grad(logits[0], x, retain_graph=True)[0]
    lasts = torch.autograd.grad(logits[-1], x)[0]
    return bool(firsts[1:].count_nonzero() + lasts[:-1].count_nonzero())


@torch.no_grad()
def _values_change(critic: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether the first or the last logit is another one where the rest of the batch is.

    If it answers otherwise to the same batch, chance is in the way, and its values say nothing; so it is if they are
    not finite.
    """
    whole, again, first, last = (_answer(critic, each, y) for each in (x, x, _replaced(x, 0), _replaced(x, len(x) - 1)))
    if not torch.isfinite(whole).all() or not _close(whole, again):
        return False
    return not _close(torch.stack((first[0], last[-1])), whole[[0, -1]])


@torch.no_grad()
def _place_counts(critic: nn.Module, x: Tensor, y: Tensor | None) -> bool:
    """Whether logits are other ones in half of the batch, or after a pass of other samples.

    In half of the batch, random numbers fall to other samples; so where they count in training, evaluation is seen.
    """
    for mode in (True, False):
        critic.train(mode)
        whole, drawn = _answer(critic, x, y), _answer(critic, x, y, seed=1)
        if not torch.isfinite(whole).all() or not _close(whole, drawn):
            continue
        half = len(x) // 2
        parts = (slice(half), slice(half, None))
        halves = torch.cat([_answer(critic, x[part], None if y is None else y[part]) for part in parts])
        some, labels = x[:half], None if y is None else y[:half]
        after = [_answer(critic, some, labels, before=before) for before in (some, -some.roll(1, 0))]
        rounding = _ROUNDING * whole.abs().max()  # kernels are chosen by the size of a batch
        return not bool((halves - whole).abs().max() <= rounding) or not _close(*after)
    return False


def _answer(critic: nn.Module, x: Tensor, y: Tensor | None, *, seed: int = 0, before: Tensor | None = None) -> Tensor:
    """Logits of a new copy of a critic, which may have seen another batch before, with these random numbers."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    critic = copied(critic)
    if before is not None:
        critic(before, y)
    answer: Tensor = critic(x, y)
    return answer


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
