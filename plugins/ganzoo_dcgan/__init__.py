"""DCGAN (arXiv:1511.06434): the classic convolutional networks, at any size of 4 to 7 times a power of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganzoo.api import MIXES_SAMPLES, Component, Rule, Spec, hookimpl, option

Init = Literal["normal", "orthogonal", "default"]
InitOption = Literal["auto", "normal", "orthogonal", "default"]
Norm = Literal["batch", "layer", "instance", "group", "spectral", "none"]
NormOption = Literal["auto", "batch", "layer", "instance", "group", "spectral", "none"]
Prior = Literal["normal", "uniform"]
Upsample = Literal["transposed", "nearest", "bilinear"]

PAPER = "arXiv:1511.06434"
ADAM = {"name": "adam", "lr": 2e-4, "betas": (0.5, 0.999)}


@dataclass(frozen=True)
class DcganConfig:
    """What both networks have."""

    width: int = option(64, min=1, help="Channels of the layer next to the image; each halving of the side doubles it.")
    norm: NormOption = option("auto", help="Normalisation; auto: batch, or what the loss asks for.")
    init: InitOption = option("auto", help="Initial weights; auto: N(0, 0.02) beside a norm layer, else torch's own.")

    @property
    def norm_used(self) -> Norm:
        """The normalisation that ``norm`` comes to."""
        return "batch" if self.norm == "auto" else self.norm

    @property
    def init_used(self) -> Init:
        """The initialisation that ``init`` comes to: without norm layers, N(0, 0.02) leads to collapse."""
        if self.init != "auto":
            return self.init
        return "default" if self.norm_used in ("none", "spectral") else "normal"


@dataclass(frozen=True)
class DcganGeneratorConfig(DcganConfig):
    """Options of the generator ``dcgan``."""

    latent_dim: int = option(100, min=1, help="Length of a latent.")
    prior: Prior = option("normal", help="Latents are N(0, I), or U(-1, 1) in each dimension as in the paper.")
    upsample: Upsample = option("transposed", help="How sides double: transposed 4x4, or resize and 3x3 convolution.")


@dataclass(frozen=True)
class DcganDiscriminatorConfig(DcganConfig):
    """Options of the discriminator ``dcgan``."""

    slope: float = option(0.2, min=0, help="Slope of leaky ReLU below zero.")
    dropout: float = option(0.0, min=0, max=1, help="Share of the activations that is dropped after each layer.")


def dcgan_traits(config: DcganDiscriminatorConfig, spec: Spec) -> Iterator[str]:
    """Facts about the discriminator ``dcgan``. Its first layer is never normalised."""
    if config.norm_used == "batch" and spec.pyramid is not None and spec.pyramid[0] >= 2:
        yield MIXES_SAMPLES


def image_rules(network: str, flag: str) -> tuple[Rule, ...]:
    """What a DCGAN network asks of the data."""
    return (
        Rule(
            lambda plan: not plan.spec.is_image,
            what=f"The {network} dcgan cannot be used with the data set {{data}}",
            why="its convolutions need images, and the samples are points of shape {spec}",
            instead=f"choose {flag} mlp",
        ),
        Rule(
            lambda plan: plan.spec.is_image and plan.spec.pyramid is None,
            what=f"The {network} dcgan cannot be built for images of {{spec}}",
            why="its layers double and halve the sides, from a base whose shorter side is 4 to 7 pixels",
            instead=(
                "make the sides 4 to 7 times a power of two, such as 28, 32, 48, 64, 80, 96 or 128, "
                f"or choose {flag} mlp"
            ),
        ),
    )


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The two networks."""
    yield Component(
        "generator",
        "dcgan",
        target="ganzoo_dcgan.model:DcganGenerator",
        config=DcganGeneratorConfig,
        summary="Transposed convolutions from one latent vector up to the image.",
        paper=PAPER,
        recipe={"gen.norm": "batch", "run.batch_size": 64} | {f"gen_optim.{k}": v for k, v in ADAM.items()},
        rules=image_rules("generator", "--gen"),
    )
    yield Component(
        "discriminator",
        "dcgan",
        target="ganzoo_dcgan.model:DcganDiscriminator",
        config=DcganDiscriminatorConfig,
        summary="Strided convolutions from the image down to one logit.",
        paper=PAPER,
        recipe={"disc.norm": "batch"} | {f"disc_optim.{k}": v for k, v in ADAM.items()},
        rules=image_rules("discriminator", "--disc"),
        traits=dcgan_traits,
    )
