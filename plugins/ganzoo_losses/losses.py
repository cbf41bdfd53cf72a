"""The objectives. With logits ``a [B]`` of reals and ``b [B]`` of fakes, softplus ``sp(t) = log(1 + e^t)``."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.functional import relu, softplus

from ganzoo.nn import Loss


class LeastSquares(Loss):
    """LSGAN with the 0-1 coding (arXiv:1611.04076, eq. 9)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """``1/2 E (a - 1)^2 + 1/2 E b^2``."""
        return ((real - 1).square().mean() + fake.square().mean()) / 2

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``1/2 E (b - 1)^2``."""
        return (fake - 1).square().mean() / 2


class Hinge(Loss):
    """The hinge loss (arXiv:1705.02894; arXiv:1802.05957, eq. 16 and 17)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """``E relu(1 - a) + E relu(1 + b)``."""
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``-E b``."""
        return -fake.mean()


class RelativisticPairing(Loss):
    """Real i against fake i of the same batch (arXiv:1807.00734; arXiv:2501.05441, eq. 2)."""

    uses_real: ClassVar[bool] = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """``E sp(-(a - b))``."""
        return softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``E sp(-(b - a))``; ``real`` must be given."""
        assert real is not None
        return softplus(real - fake).mean()
