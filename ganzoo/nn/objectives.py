"""What the two players minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ganzoo.api import Spec
from ganzoo.nn.buffers import Loadable
from ganzoo.nn.contracts import Discriminator
from ganzoo.nn.critic_pass import CriticPass


def learned(module: nn.Module) -> dict[str, Tensor]:
    """The parameters of a module that are learned, by name: a frozen part, or an order of features, is not."""
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


class Loss(Loadable, ABC):
    """A pair of objectives. It returns terms and never steps an optimiser. Built as ``Target(config, spec)``.

    A loss may own parameters (a class head, say): they are trained, saved and moved with the discriminator.
    """

    uses_real: ClassVar[bool] = False
    """Whether the generator's term looks at the logits of reals; then it gets a fresh batch of them."""
    zero_sum: ClassVar[bool] = False
    """Whether the generator's term is minus the discriminator's, up to what does not depend on the generator."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's objective, a scalar to minimise, from the logits ``[B]`` of reals and fakes."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The generator's objective, a scalar to minimise, from logits ``[B]``; ``real`` if :attr:`uses_real`."""

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        """All terms of the discriminator by name. Override it to use more of the pass than the logits."""
        return {"loss": self.discriminator(critic_pass.real_logits, critic_pass.fake_logits)}

    def generator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        """All terms of the generator by name. The reals of the pass are empty unless :attr:`uses_real`."""
        real = critic_pass.real_logits if self.uses_real else None
        return {"loss": self.generator(critic_pass.fake_logits, real)}

    def regularizers(self) -> Sequence[Regularizer]:
        """The regularizers that belong to this loss, as the gradient penalty to WGAN-GP."""
        return ()

    def critic_steps(self, step: int, asked: int) -> int:
        """How many critic steps come before generator step ``step`` (from 0), where the trainer has ``asked``."""
        return asked


class Regularizer(Loadable, ABC):
    """Something added to the discriminator's side. Built as ``Target(config, spec)``.

    It overrides :meth:`penalty`, :meth:`project`, or both.
    """

    differentiates: ClassVar[frozenset[Literal["real", "fake"]]] = frozenset()
    """Where the critic's input gradient is taken, so that the loss's own forward pass can be shared."""

    name: ClassVar[str] = "penalty"
    """Its term in the metrics."""

    slope: float | None = None
    """The norm that it draws the critic's gradients to; whether they come near it is watched while training."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec

    def penalty(self, critic_pass: CriticPass) -> Tensor | None:
        """A scalar to add to the discriminator's objective, weight included; None if it has none."""
        return None

    def project(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The discriminator's parameters after the constraint, as new tensors; None if it sets none.

        It is given those that are learned. A function of tensors, so that the unrolled trainer can differentiate it.
        """
        return None

    @torch.no_grad()
    def after_step(self, disc: Discriminator) -> None:
        """Put the constraint of :meth:`project` on the discriminator, after each of its steps."""
        parameters = learned(disc)
        for name, value in (self.project(parameters) or {}).items():
            parameters[name].copy_(value)
