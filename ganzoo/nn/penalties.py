"""Gradient penalties, each a function of one critic pass. Every norm is per sample, over all its dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.nn.critic_pass import CriticPass


def sample_norms(gradient: Tensor) -> Tensor:
    """Euclidean norm of each sample's gradient ``[B, ...]`` over all dimensions but the first: ``[B]``.

    ``vector_norm`` has the subgradient 0 at 0, where ``sqrt(sum(g**2))`` would give NaN.
    """
    norms: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return norms


def _per_sample(x: Tensor) -> tuple[int, ...]:
    """The shape of one number for each sample, which spreads over its dimensions."""
    return (len(x), *([1] * (x.dim() - 1)))


def gradient_penalty(critic_pass: CriticPass, target: float = 1.0) -> Tensor:
    """Two-sided gradient penalty of WGAN-GP (arXiv:1704.00028, eq. 3), without its weight.

    ``E (||grad D(e x + (1 - e) G(z))||_2 - target)^2`` with one ``e ~ U(0, 1)`` per sample. The labels are those of
    the fakes, which the trainers draw from the reals of the same batch.
    """
    real, fake = critic_pass.real, critic_pass.fake
    mix = torch.rand(_per_sample(real), generator=critic_pass.rng, device=real.device)
    between = mix * real + (1 - mix) * fake  # 0 <= mix < 1
    gradient = critic_pass.gradient_at(between, critic_pass.fake_labels)
    return (sample_norms(gradient) - target).square().mean()


def dragan_penalty(critic_pass: CriticPass, target: float = 1.0) -> Tensor:
    """DRAGAN's penalty around the data (arXiv:1705.07215), without its weight.

    ``E (||grad D(x + delta)||_2 - target)^2``, ``delta = alpha 0.5 std(batch) U(0, 1)`` as in the authors' code: one
    ``alpha ~ U(0, 1)`` per sample, another ``U`` in every dimension, and one standard deviation for the whole batch of
    all processes.
    """
    real = critic_pass.real.detach()
    noise = torch.rand(real.shape, generator=critic_pass.rng, device=real.device)
    alpha = torch.rand(_per_sample(real), generator=critic_pass.rng, device=real.device)
    middle = critic_pass.mean(real.mean())
    spread = critic_pass.mean((real - middle).square().mean()).sqrt()
    gradient = critic_pass.gradient_at(real + alpha * 0.5 * spread * noise, critic_pass.real_labels)
    return (sample_norms(gradient) - target).square().mean()


def r1_penalty(critic_pass: CriticPass) -> Tensor:
    """R1 (arXiv:1801.04406, eq. 9): ``1/2 E ||grad D(x)||^2`` at the reals, without its gamma."""
    return critic_pass.real_gradient().square().flatten(1).sum(1).mean() / 2


def r2_penalty(critic_pass: CriticPass) -> Tensor:
    """R2 (arXiv:1801.04406, eq. 10): ``1/2 E ||grad D(G(z))||^2`` at the fakes, without its gamma."""
    return critic_pass.fake_gradient().square().flatten(1).sum(1).mean() / 2
