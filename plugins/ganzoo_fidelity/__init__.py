"""Feature networks for scores: those of torch-fidelity, and the discriminator of any run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ganzoo.api import Component, hookimpl, option


@dataclass(frozen=True)
class WeightsConfig:
    """Options of every extractor with published weights."""

    weights: Path | None = option(
        None, help="File of its weights, or a folder that has it; none: look for it, then download it.", live=True
    )
    download: bool = option(True, help="Download the weights when they are not here.", live=True)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Options of the extractor ``discriminator``."""

    run: Path | None = option(None, help="Folder of a run, or of an export that holds its discriminator.")


CLIP = ("rn50", "rn101", "rn50x4", "rn50x16", "rn50x64", "vit-b-32", "vit-b-16", "vit-l-14", "vit-l-14-336px")
"""Image networks of CLIP, after ``clip-``."""


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The extractors."""
    yield Component(
        "extractor",
        "inception",
        target="ganzoo_fidelity.networks:Inception",
        config=WeightsConfig,
        summary="Inception-v3 of 2015, as FID was defined with: 2,048 features, 1,008 classes.",
        paper="arXiv:1706.08500",
        aliases=("inception-v3-compat",),
    )
    yield Component(
        "extractor",
        "vgg16",
        target="ganzoo_fidelity.networks:Vgg16",
        config=WeightsConfig,
        summary="VGG-16, as precision and recall were defined with: 4,096 features.",
        paper="arXiv:1904.06991",
    )
    for name in CLIP:
        yield Component(
            "extractor",
            f"clip-{name}",
            target=f"ganzoo_fidelity.networks:Clip{name.replace('-', '').capitalize()}",
            config=WeightsConfig,
            summary=f"The image network {name} of CLIP.",
            paper="arXiv:2103.00020",
        )
    yield Component(
        "extractor",
        "discriminator",
        target="ganzoo_fidelity.critic:DiscriminatorFeatures",
        config=DiscriminatorConfig,
        summary="What the discriminator of a run sees before its last layer; needs no other weights.",
    )
