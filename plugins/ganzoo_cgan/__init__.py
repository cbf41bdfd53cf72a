"""Conditional GAN (arXiv:1411.1784) with one-hot labels: DCGAN networks for images, fully connected ones for points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganzoo.api import CONDITIONAL, MIXES_SAMPLES, Component, Rule, Spec, hookimpl, option

Init = Literal["normal", "orthogonal", "default"]
InitOption = Literal["auto", "normal", "orthogonal", "default"]
Norm = Literal["batch", "layer", "spectral", "none"]
NormOption = Literal["auto", "batch", "layer", "spectral", "none"]
Prior = Literal["normal", "uniform"]
Upsample = Literal["transposed", "nearest", "bilinear"]

PAPER = "arXiv:1411.1784"
ADAM = {"name": "adam", "lr": 2e-4, "betas": (0.5, 0.999)}


@dataclass(frozen=True)
class CganConfig:
    """What both networks have."""

    width: int = option(64, min=1, help="Images: channels of the layer next to the image; points: units of each layer.")
    depth: int = option(2, min=1, help="Points only: hidden layers.")
    slope: float = option(0.2, min=0, help="Slope of leaky ReLU below zero; the generator has it for points only.")
    norm: NormOption = option("auto", help="Normalisation; auto: batch for images, none for points.")
    init: InitOption = option("auto", help="Initial weights; auto: N(0, 0.02) beside a norm layer, else torch's own.")

    def norm_for(self, spec: Spec) -> Norm:
        """The normalisation that ``norm`` comes to."""
        if self.norm != "auto":
            return self.norm
        return "batch" if spec.is_image else "none"

    def init_for(self, spec: Spec) -> Init:
        """The initialisation that ``init`` comes to: without norm layers, N(0, 0.02) leads to collapse."""
        if self.init != "auto":
            return self.init
        return "default" if self.norm_for(spec) in ("none", "spectral") else "normal"


@dataclass(frozen=True)
class CganGeneratorConfig(CganConfig):
    """Options of the generator ``cgan``."""

    latent_dim: int = option(100, min=1, help="Length of a latent, without the label.")
    prior: Prior = option("normal", help="Latents are N(0, I), or U(-1, 1) in each dimension.")
    upsample: Upsample = option("transposed", help="How sides double: transposed 4x4, or resize and 3x3 convolution.")


@dataclass(frozen=True)
class CganDiscriminatorConfig(CganConfig):
    """Options of the discriminator ``cgan``."""

    dropout: float = option(0.0, min=0, max=1, help="Share of the activations that is dropped after each layer.")


def disc_traits(config: CganDiscriminatorConfig, spec: Spec) -> Iterator[str]:
    """Facts about the discriminator ``cgan``. Its first convolution is never normalised."""
    yield CONDITIONAL
    normalised = not spec.is_image or (spec.pyramid is not None and spec.pyramid[0] >= 2)
    if config.norm_for(spec) == "batch" and normalised:
        yield MIXES_SAMPLES


NEEDS_LABELS = Rule(
    lambda plan: plan.spec.num_classes is None,
    what="cgan cannot be trained on the data set {data}",
    why="it learns samples of a wanted class, and these have no labels, or are to be used without them",
    instead="choose labelled data without --cond off, or an unconditional pair such as dcgan, or mlp for points",
)
NEEDS_PYRAMID = Rule(
    lambda plan: plan.spec.is_image and plan.spec.pyramid is None,
    what="cgan cannot be built for images of {spec}",
    why="its layers double and halve the sides, from a base whose shorter side is 4 to 7 pixels",
    instead="make the sides 4 to 7 times a power of two, such as 28, 32, 48, 64, 80, 96 or 128",
)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The two networks."""
    yield Component(
        "generator",
        "cgan",
        target="ganzoo_cgan.model:CganGenerator",
        config=CganGeneratorConfig,
        summary="DCGAN's generator (an MLP for points) that gets the one-hot label beside the latent.",
        paper=PAPER,
        recipe={"disc": "cgan", "run.batch_size": 64} | {f"gen_optim.{k}": v for k, v in ADAM.items()},
        rules=(NEEDS_LABELS, NEEDS_PYRAMID),
        traits=(CONDITIONAL,),
    )
    yield Component(
        "discriminator",
        "cgan",
        target="ganzoo_cgan.model:CganDiscriminator",
        config=CganDiscriminatorConfig,
        summary="DCGAN's discriminator (an MLP for points) that sees the one-hot label as constant channels.",
        paper=PAPER,
        recipe={f"disc_optim.{k}": v for k, v in ADAM.items()},
        rules=(NEEDS_LABELS, NEEDS_PYRAMID),
        traits=disc_traits,
    )
