"""Wasserstein GAN with weight clipping (arXiv:1701.07875) and with gradient penalty (arXiv:1704.00028)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganzoo.api import NEEDS_SAMPLE_GRADIENTS, SAMPLE_GRADIENT_RULES, Component, hookimpl, option


@dataclass(frozen=True)
class WganClipConfig:
    """Options of the loss ``wgan-clip``."""

    clip: float = option(0.01, above=0, help="Every critic parameter is kept within plus and minus this.")
    warmup: bool = option(False, help="100 critic steps in the first 25 steps and each 500th, as the authors' code.")


@dataclass(frozen=True)
class WganGpConfig:
    """Options of the loss ``wgan-gp``."""

    gp_weight: float = option(10.0, min=0, help="Weight of the gradient penalty.")


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The two losses."""
    yield Component(
        "loss",
        "wgan-clip",
        target="ganzoo_wgan.losses:WganClip",
        config=WganClipConfig,
        summary="Wasserstein distance, with a critic kept Lipschitz by clipping its weights.",
        paper="arXiv:1701.07875",
        recipe={"optim.name": "rmsprop", "optim.lr": 5e-5, "trainer.critic_steps": 5, "run.batch_size": 64},
        aliases=("wgan",),
    )
    yield Component(
        "loss",
        "wgan-gp",
        target="ganzoo_wgan.losses:WganGp",
        config=WganGpConfig,
        summary="Wasserstein distance, with a critic kept Lipschitz by a gradient penalty.",
        paper="arXiv:1704.00028",
        recipe={
            "optim.name": "adam",
            "optim.lr": 1e-4,
            "optim.betas": (0.0, 0.9),
            "trainer.critic_steps": 5,
            "run.batch_size": 64,
            "disc.norm": "none",
        },
        rules=SAMPLE_GRADIENT_RULES,
        traits=(NEEDS_SAMPLE_GRADIENTS,),
    )
