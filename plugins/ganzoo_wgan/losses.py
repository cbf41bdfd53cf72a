"""The Wasserstein losses. With logits ``a`` of reals and ``b`` of fakes; the critic is high on reals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganzoo.nn import CriticPass, Discriminator, Loss, Regularizer, gradient_penalty
from ganzoo_wgan import WganClipConfig, WganGpConfig

_WARM_STEPS, _WARM_EVERY, _WARM_CRITIC_STEPS = 25, 500, 100


class _Wasserstein(Loss):
    """``sup E D(x) - E D(G(z))`` over 1-Lipschitz critics (arXiv:1701.07875, eq. 2)."""

    zero_sum = True

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """``E b - E a``, a scalar, from logits ``[B]``: minus the estimate of the distance."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """``-E b``, a scalar."""
        return -fake.mean()


class WganClip(_Wasserstein):
    """WGAN (arXiv:1701.07875, algorithm 1): step, then clip all parameters of the critic, batch norm's too."""

    config: WganClipConfig

    def regularizers(self) -> Sequence[Regularizer]:
        """The clip."""
        return (WeightClip(self.config, self.spec),)

    def critic_steps(self, step: int, asked: int) -> int:
        """``asked``, or 100 on the warm-up steps of the authors' code if the option ``warmup`` is on."""
        warm = self.config.warmup and (step < _WARM_STEPS or step % _WARM_EVERY == 0)
        return _WARM_CRITIC_STEPS if warm else asked


class WeightClip(Regularizer):
    """Keeps every parameter that the critic learns within ``[-clip, clip]``."""

    config: WganClipConfig
    name = "clip"

    def project(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The clamped parameters, as new tensors."""
        bound = self.config.clip
        return {name: value.clamp(-bound, bound) for name, value in parameters.items()}

    @torch.no_grad()
    def after_step(self, disc: Discriminator) -> None:
        """:meth:`project` in place, in two launches."""
        parameters: list[Tensor] = [p for p in disc.parameters() if p.requires_grad]
        if parameters:
            torch._foreach_clamp_min_(parameters, -self.config.clip)
            torch._foreach_clamp_max_(parameters, self.config.clip)


class WganGp(_Wasserstein):
    """WGAN-GP (arXiv:1704.00028, eq. 3)."""

    config: WganGpConfig

    def regularizers(self) -> Sequence[Regularizer]:
        """The gradient penalty, unless its weight is 0."""
        return (WganGradientPenalty(self.config, self.spec),) if self.config.gp_weight else ()


class WganGradientPenalty(Regularizer):
    """``gp_weight * E (||grad D||_2 - 1)^2`` between reals and fakes."""

    config: WganGpConfig
    name = "gp"
    slope = 1.0

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        """The weighted penalty, a scalar."""
        return self.config.gp_weight * gradient_penalty(critic_pass)
