"""The original GAN (arXiv:1406.2661): fully connected networks, its two losses, and alternating training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganzoo.api import MIXES_SAMPLES, Component, Spec, hookimpl, option

Activation = Literal["relu", "leaky-relu", "tanh"]
Init = Literal["default", "orthogonal", "normal"]
Norm = Literal["batch", "layer", "spectral", "none"]
NormOption = Literal["auto", "batch", "layer", "spectral", "none"]
Prior = Literal["normal", "uniform"]

PAPER = "arXiv:1406.2661"


@dataclass(frozen=True)
class MlpConfig:
    """What both fully connected networks have."""

    width: int = option(128, min=1, help="Units of each hidden layer.")
    depth: int = option(2, min=1, help="Hidden layers.")
    norm: NormOption = option("auto", help="Normalisation of the hidden layers; auto: none, or what the loss asks for.")
    slope: float = option(0.2, min=0, help="Slope of leaky ReLU below zero.")
    init: Init = option("default", help="Initial weights: torch's own, orthogonal matrices, or N(0, 0.02).")
    init_gain: float = option(1.0, above=0, help="Factor of orthogonal initial weights.")

    @property
    def norm_used(self) -> Norm:
        """The normalisation that ``norm`` comes to."""
        return "none" if self.norm == "auto" else self.norm


@dataclass(frozen=True)
class MlpGeneratorConfig(MlpConfig):
    """Options of the generator ``mlp``."""

    latent_dim: int = option(64, min=1, help="Length of a latent.")
    prior: Prior = option("normal", help="Latents are N(0, I), or U(-1, 1) in each dimension.")
    activation: Activation = option("relu", help="Activation of the hidden layers.")


@dataclass(frozen=True)
class MlpDiscriminatorConfig(MlpConfig):
    """Options of the discriminator ``mlp``."""

    activation: Activation = option("leaky-relu", help="Activation of the hidden layers.")
    dropout: float = option(0.0, min=0, max=1, help="Share of the hidden units that is dropped.")


@dataclass(frozen=True)
class CrossEntropyConfig:
    """Options of the losses ``minimax`` and ``ns``."""

    label_smoothing: float = option(0.0, min=0, max=1, help="The target of reals is 1 minus this; fakes stay at 0.")


@dataclass(frozen=True)
class AlternatingConfig:
    """Options of the trainer ``alternating``."""

    critic_steps: int = option(1, min=1, help="Discriminator steps before each generator step.")


def mlp_traits(config: MlpDiscriminatorConfig, _: Spec) -> Iterator[str]:
    """Facts about the discriminator ``mlp``."""
    if config.norm_used == "batch":
        yield MIXES_SAMPLES


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The components of the original GAN."""
    yield Component(
        "generator",
        "mlp",
        target="ganzoo_gan.model:MlpGenerator",
        config=MlpGeneratorConfig,
        summary="Fully connected layers, for points and for images of any shape.",
        paper=PAPER,
    )
    yield Component(
        "discriminator",
        "mlp",
        target="ganzoo_gan.model:MlpDiscriminator",
        config=MlpDiscriminatorConfig,
        summary="Fully connected layers, for points and for images of any shape.",
        paper=PAPER,
        traits=mlp_traits,
    )
    yield Component(
        "loss",
        "minimax",
        target="ganzoo_gan.losses:Minimax",
        config=CrossEntropyConfig,
        summary="The saturating zero-sum game: the generator maximises the discriminator's cross-entropy.",
        paper=PAPER,
    )
    yield Component(
        "loss",
        "ns",
        target="ganzoo_gan.losses:NonSaturating",
        config=CrossEntropyConfig,
        summary="Cross-entropy with the non-saturating generator objective; the usual GAN loss.",
        paper=PAPER,
        aliases=("bce", "vanilla"),
    )
    yield Component(
        "trainer",
        "alternating",
        target="ganzoo_gan.trainer:Alternating",
        config=AlternatingConfig,
        summary="Some discriminator steps, then one generator step.",
        paper=PAPER,
    )
