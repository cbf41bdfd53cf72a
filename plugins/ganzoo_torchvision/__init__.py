"""Any classification network of torchvision as a discriminator, with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganzoo.api import MIXES_SAMPLES, Component, Rule, Spec, hookimpl, option

Norm = Literal["batch", "layer", "instance", "group", "none"]
NormOption = Literal["auto", "batch", "layer", "instance", "group", "none"]

_WITHOUT_BATCH_NORM = ("alexnet", "convnext", "squeezenet", "swin", "vit")


@dataclass(frozen=True)
class TorchvisionConfig:
    """Options of the discriminator ``torchvision``."""

    model: str = option("resnet18", help="Name of the network, as torchvision.models.list_models() has it.")
    norm: NormOption = option("auto", help="What replaces the model's batch norm layers; auto and batch: nothing.")
    min_size: int | None = option(None, min=1, help="Smaller images are enlarged to this side; none: what it needs.")

    @property
    def norm_used(self) -> Norm:
        """The normalisation that ``norm`` comes to."""
        return "batch" if self.norm == "auto" else self.norm

    @property
    def has_batch_norm(self) -> bool:
        """Whether torchvision builds the model with batch norm; known from the name, without torchvision."""
        if self.model.startswith("vgg"):
            return self.model.endswith("_bn")
        return not self.model.startswith(_WITHOUT_BATCH_NORM)


def torchvision_traits(config: TorchvisionConfig, _: Spec) -> Iterator[str]:
    """Facts about the discriminator ``torchvision``."""
    if config.norm_used == "batch" and config.has_batch_norm:
        yield MIXES_SAMPLES


NEEDS_IMAGES = Rule(
    lambda plan: not plan.spec.is_image,
    what="The discriminator torchvision cannot be used with the data set {data}",
    why="its networks classify images, and the samples are points of shape {spec}",
    instead="choose --disc mlp",
)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The discriminator."""
    yield Component(
        "discriminator",
        "torchvision",
        target="ganzoo_torchvision.model:TorchvisionDiscriminator",
        config=TorchvisionConfig,
        summary="Any classification network of torchvision (resnet18, vgg11, ...) with one logit.",
        rules=(NEEDS_IMAGES,),
        traits=torchvision_traits,
    )
