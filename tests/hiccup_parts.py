"""A plugin with a loss that breaks at certain steps; the tests of bad numbers train with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganzoo.api import Component, hookimpl, option
from ganzoo.nn import CriticPass, Loss
from ganzoo.nn.bundle import derive_seed


@dataclass(frozen=True)
class Options:
    """Options of the loss."""

    at: tuple[int, ...] = option((), help="Steps, from 1, at which the critic's loss is NaN.")
    once: bool = option(False, help="Whether new noise cures it: the i-th of these steps breaks in attempt i alone.")


class Hiccup(Loss):
    """The non-saturating loss, but NaN at some steps."""

    config: Options

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()

    def critic_steps(self, step: int, asked: int) -> int:
        self._step = step
        return asked

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        (loss,) = super().discriminator_terms(critic_pass).values()
        broken = self._step + 1 in self.config.at
        if broken and self.config.once:
            attempt = self.config.at.index(self._step + 1)
            which = (self._step, 0, "attempt", attempt) if attempt else (self._step, 0)
            assert critic_pass.rng is not None
            broken = critic_pass.rng.initial_seed() == derive_seed(0, "noise", *which)
        return {"loss": loss * torch.tensor(float("nan") if broken else 1.0)}


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The loss."""
    yield Component("loss", "hiccup", target="hiccup_parts:Hiccup", config=Options, summary="Breaks now and then.")
