"""The training steps of tutorials and scripts, batch by batch, as plainly as they write them.

Where a script ends its critic in a sigmoid, the logit and the stable form of the same loss stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[[Tensor], dict[str, float]]
"""One batch of reals ``[B, C, H, W]``; returns the losses that a script would print."""


@dataclass
class Pair:
    """Both networks with what they train on.

    Attributes:
        gen: latents ``[B, latent_dim]`` to images.
        disc: images to logits ``[B]``.
    """

    gen: nn.Module
    disc: nn.Module
    latent_dim: int
    device: torch.device

    def latent(self, n: int) -> Tensor:
        """``n`` latents N(0, I), drawn as the scripts do: on the CPU where they use NumPy, here on the device."""
        return torch.randn(n, self.latent_dim, device=self.device)

    def adam(self, module: nn.Module) -> torch.optim.Optimizer:
        """Adam as everybody writes it: neither fused nor foreach is asked for."""
        return torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.5, 0.999))


def official_dcgan(pair: Pair) -> Step:
    """The official example: critic on reals, critic on fakes, step; then generator, through an unfrozen critic."""
    gen, disc, criterion = pair.gen, pair.disc, nn.BCEWithLogitsLoss()
    opt_disc, opt_gen = pair.adam(disc), pair.adam(gen)

    def step(images: Tensor) -> dict[str, float]:
        disc.zero_grad()
        real = images.to(pair.device)
        label = torch.full((len(real),), 1.0, device=pair.device)
        output = disc(real)
        loss_real = criterion(output, label)
        loss_real.backward()
        mean_real = output.mean().item()

        fake = gen(pair.latent(len(real)))
        label.fill_(0.0)
        output = disc(fake.detach())
        loss_fake = criterion(output, label)
        loss_fake.backward()
        mean_fake = output.mean().item()
        loss_disc = loss_real + loss_fake
        opt_disc.step()

        gen.zero_grad()
        label.fill_(1.0)
        output = disc(fake)
        loss_gen = criterion(output, label)
        loss_gen.backward()
        opt_gen.step()
        return {
            "loss_d": loss_disc.item(),
            "loss_g": loss_gen.item(),
            "d_real": mean_real,
            "d_fake": mean_fake,
        }

    return step


def script_gan(pair: Pair) -> Step:
    """The common script: the generator's step first, then the critic's on the mean of its two halves."""
    gen, disc, criterion = pair.gen, pair.disc, nn.BCEWithLogitsLoss()
    opt_gen, opt_disc = pair.adam(gen), pair.adam(disc)

    def step(images: Tensor) -> dict[str, float]:
        valid = torch.ones(len(images), device=pair.device)
        fake = torch.zeros(len(images), device=pair.device)
        real = images.to(pair.device)

        opt_gen.zero_grad()
        made = gen(pair.latent(len(real)))
        loss_gen = criterion(disc(made), valid)
        loss_gen.backward()
        opt_gen.step()

        opt_disc.zero_grad()
        loss_disc = (criterion(disc(real), valid) + criterion(disc(made.detach()), fake)) / 2
        loss_disc.backward()
        opt_disc.step()
        return {"loss_d": loss_disc.item(), "loss_g": loss_gen.item()}

    return step


def script_wgan(pair: Pair, clip: float = 0.01, every: int = 5) -> Step:
    """Weight clipping and RMSProp at 5e-5; the generator takes a step at every fifth batch."""
    gen, disc = pair.gen, pair.disc
    opt_gen = torch.optim.RMSprop(gen.parameters(), lr=5e-5)
    opt_disc = torch.optim.RMSprop(disc.parameters(), lr=5e-5)

    def critic(real: Tensor, z: Tensor) -> Any:
        opt_disc.zero_grad()
        loss = disc(gen(z).detach()).mean() - disc(real).mean()
        loss.backward()
        opt_disc.step()
        for p in disc.parameters():
            p.data.clamp_(-clip, clip)
        return loss

    return _critic_first(pair, critic, opt_gen, every)


def script_wgan_gp(pair: Pair, weight: float = 10.0, every: int = 5) -> Step:
    """Gradient penalty of weight 10, Adam at 2e-4; the generator takes a step at every fifth batch."""
    gen, disc = pair.gen, pair.disc
    opt_gen, opt_disc = pair.adam(gen), pair.adam(disc)

    def penalty(real: Tensor, fake: Tensor) -> Tensor:
        mix = torch.rand(len(real), 1, 1, 1, device=pair.device)
        between = (mix * real + (1 - mix) * fake).requires_grad_(True)
        logits = disc(between)
        (gradient,) = torch.autograd.grad(logits, between, torch.ones_like(logits), create_graph=True)
        excess: Tensor = gradient.flatten(1).norm(2, dim=1) - 1
        return (excess**2).mean()

    def critic(real: Tensor, z: Tensor) -> Any:
        opt_disc.zero_grad()
        fake = gen(z)
        loss = disc(fake).mean() - disc(real).mean() + weight * penalty(real.data, fake.data)
        loss.backward()
        opt_disc.step()
        opt_gen.zero_grad()  # at every batch, because the fakes are not detached
        return loss

    return _critic_first(pair, critic, opt_gen, every)


def _critic_first(
    pair: Pair, critic: Callable[[Tensor, Tensor], Any], optimizer: torch.optim.Optimizer, every: int
) -> Step:
    """The critic's step on reals and latents at each batch; the generator's on the same latents at every so many."""
    gen, disc = pair.gen, pair.disc
    batches, told = 0, {"loss_g": 0.0}

    def step(images: Tensor) -> dict[str, float]:
        nonlocal batches
        real = images.to(pair.device)
        z = pair.latent(len(real))
        loss_disc = critic(real, z)
        if batches % every == 0:
            optimizer.zero_grad()
            loss_gen = -disc(gen(z)).mean()
            loss_gen.backward()
            optimizer.step()
            told["loss_g"] = loss_gen.item()
        batches += 1
        return {"loss_d": loss_disc.item(), **told}

    return step
