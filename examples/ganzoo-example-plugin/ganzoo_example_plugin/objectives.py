"""A loss and a regularizer."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from ganzoo.nn import CriticPass, Loss, Regularizer
from ganzoo_example_plugin import DriftConfig, SmoothHingeConfig


class SmoothHinge(Loss):
    """``E sp(m - a) + E sp(m + b)`` and ``-E b``, for logits ``a`` of reals and ``b`` of fakes; ``sp`` is softplus.

    The hinge loss has ``max(0, t)`` in the place of ``sp(t) = log(1 + e^t)``.
    """

    config: SmoothHingeConfig

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises, a scalar."""
        margin = self.config.margin
        return softplus(margin - real).mean() + softplus(margin + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """What the generator minimises, a scalar."""
        return -fake.mean()


class Drift(Regularizer):
    """``weight E D(x)^2`` at the reals (arXiv:1710.10196, appendix A.1)."""

    config: DriftConfig
    name = "drift"

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        """The weighted penalty, a scalar; it stands in the metrics under ``name``."""
        return self.config.weight * critic_pass.real_logits.square().mean()
