"""Moving average of a generator's weights."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from ganzoo.nn.buffers import copied, fill_memory
from ganzoo.nn.contracts import Generator

_PARTS: Final = 8
"""Of a half-life, that are averaged at least."""
_MOST: Final = 3
"""Steps that are taken at once at most, as a power of two."""


class EMA:
    """Exponential moving average by half-life, as StyleGAN2 states it (arXiv:1912.04958).

    ``beta = 0.5 ** (batch / half_life)``, where the half-life is at most ``ramp`` times the images seen, so that the
    average forgets the first steps soon. Parameters are averaged; buffers (batch-norm statistics) are copied.

    Args:
        gen: the generator to follow; the average starts as its copy.
        half_life: in images.
        ramp: share of the images seen that bounds the half-life; 0 for no bound.
    """

    def __init__(self, gen: Generator, half_life: int, ramp: float = 0.05) -> None:
        self.half_life = half_life
        self.ramp = ramp
        self.module = copied(gen).requires_grad_(False).eval()
        fill_memory(self.module)
        self._follow(gen)

    def beta(self, images: int, batch_size: int) -> float:
        """How much of the old average stays, after ``images`` seen in all."""
        half_life = min(self.half_life, self.ramp * images) if self.ramp else self.half_life
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0

    def follow(self, gen: Generator, step: int, batch_size: int) -> None:
        """:meth:`update` after step ``step`` (from 1), or leave it to a later step, which then counts for several.

        To read and write all weights costs small networks more than a layer, and changes next to nothing where the
        half-life is many times as long as what is taken at once. Which steps are left out depends on the step alone,
        so a run that is resumed has the same average.
        """
        if step % self._at_once(step, batch_size):
            return
        taken = 1
        while taken < step and (step - taken) % self._at_once(step - taken, batch_size):
            taken += 1
        self.update(gen, step * batch_size, taken * batch_size)

    def _at_once(self, step: int, batch_size: int) -> int:
        """How many steps are taken at once: a power of two, a small part of the half-life and of the steps so far."""
        images = step * batch_size
        half_life = min(self.half_life, self.ramp * images) if self.ramp else self.half_life
        part = min(half_life / batch_size, step) / _PARTS
        return 2 ** min(int(math.log2(part)), _MOST) if part >= 2 else 1

    @torch.no_grad()
    def update(self, gen: Generator, images: int, batch_size: int) -> None:
        """Take the generator's present weights into the average."""
        if gen is not self._followed:
            self._follow(gen)
        (averaged, mine), (present, its) = ((list(some), list(others)) for some, others in self._parameters)
        torch._foreach_lerp_(averaged, present, 1 - self.beta(images, batch_size))
        for own, other in zip(*self._buffers, strict=True):
            for name, value in other.items():
                if value is None:
                    continue
                held = own.get(name)
                if held is None or held.shape != value.shape:  # a layer has made it since
                    held = own[name] = value.detach().clone()
                mine.append(held)
                its.append(value)
        if mine:
            torch._foreach_copy_(mine, its)

    def _follow(self, gen: Generator) -> None:
        """Find what is averaged. To walk through a network costs as much as a small layer, so it is done once.

        Parameters stay the same tensors, as for optimisers; a buffer may be another one after each forward pass.
        """
        both = (self.module, gen)
        self._followed = gen
        self._parameters = [_by_type(net) for net in both]
        self._buffers = tuple([module._buffers for module in net.modules()] for net in both)


def _by_type(net: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters that can be averaged, and those that count something, say."""
    found: tuple[list[Tensor], list[Tensor]] = [], []
    for parameter in net.parameters():
        whole = not (parameter.is_floating_point() or parameter.is_complex())
        found[whole].append(parameter)
    return found
