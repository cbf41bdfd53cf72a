"""The two losses of the original GAN.

With logits ``a [B]`` of reals and ``b [B]`` of fakes, and softplus ``sp(t) = log(1 + e^t)``.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

from ganzoo.nn import Loss
from ganzoo_gan import CrossEntropyConfig


class _CrossEntropy(Loss):
    """The discriminator's side: the sum of the cross-entropies of reals and fakes, never halved."""

    config: CrossEntropyConfig

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """``E sp(-a) + E sp(b)``, a scalar, from logits ``[B]``.

        With one-sided label smoothing ``s`` (arXiv:1606.03498) the target of reals is ``1 - s``, which adds ``s E a``:
        ``(1 - s) sp(-a) + s sp(a) = sp(-a) + s a``.
        """
        loss = softplus(-real).mean() + softplus(fake).mean()
        smoothing = self.config.label_smoothing
        return loss + smoothing * real.mean() if smoothing else loss


class Minimax(_CrossEntropy):
    """The zero-sum game of arXiv:1406.2661, eq. 1; its gradient vanishes where the discriminator is sure of a fake."""

    zero_sum = True

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``-E sp(b)``, that is ``E log(1 - sigmoid(b))``: a scalar, at most 0."""
        return -softplus(fake).mean()


class NonSaturating(_CrossEntropy):
    """The generator maximises ``E log sigmoid(b)`` instead (arXiv:1406.2661, end of section 3)."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``E sp(-b)``, a scalar, at least 0."""
        return softplus(-fake).mean()
