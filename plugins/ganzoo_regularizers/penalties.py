"""The penalties as regularizers; the formulas are those of :mod:`ganzoo.nn.penalties`."""

from __future__ import annotations

from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn import CriticPass, Regularizer, dragan_penalty, gradient_penalty, r1_penalty, r2_penalty
from ganzoo_regularizers import NormPenaltyConfig, ZeroPenaltyConfig


class GradientPenalty(Regularizer):
    """``weight E (||grad D(x^)||_2 - target)^2`` between reals and fakes (arXiv:1704.00028, eq. 3)."""

    config: NormPenaltyConfig
    name = "gp"

    def __init__(self, config: NormPenaltyConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.slope = config.target

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        """The weighted penalty, a scalar."""
        return self.config.weight * gradient_penalty(critic_pass, self.config.target)


class Dragan(Regularizer):
    """``weight E (||grad D(x + delta)||_2 - target)^2`` around the reals (arXiv:1705.07215)."""

    config: NormPenaltyConfig
    name = "dragan"

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        """The weighted penalty, a scalar."""
        return self.config.weight * dragan_penalty(critic_pass, self.config.target)


class R1(Regularizer):
    """``gamma/2 E ||grad D(x)||^2`` at the reals (arXiv:1801.04406, eq. 9)."""

    config: ZeroPenaltyConfig
    differentiates = frozenset({"real"})
    name = "r1"

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        """The weighted penalty, a scalar."""
        return self.config.gamma * r1_penalty(critic_pass)


class R2(Regularizer):
    """``gamma/2 E ||grad D(G(z))||^2`` at the fakes (arXiv:1801.04406, eq. 10)."""

    config: ZeroPenaltyConfig
    differentiates = frozenset({"fake"})
    name = "r2"

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        """The weighted penalty, a scalar."""
        return self.config.gamma * r2_penalty(critic_pass)
