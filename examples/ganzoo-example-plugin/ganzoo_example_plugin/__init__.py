"""Records and options of the components. This module must not import torch: it is loaded to list and to help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ganzoo.api import Component, Rule, Spec, hookimpl, option


@dataclass(frozen=True)
class CppnConfig:
    """Options of the generator ``cppn``."""

    width: int = option(32, min=1, help="Units of each hidden layer.")
    depth: int = option(3, min=1, help="Hidden layers.")
    latent_dim: int = option(16, min=1, help="Length of a latent.")
    zoom: float = option(3.0, above=0, help="Coordinates go from minus this to this along the longer side.")


@dataclass(frozen=True)
class SmoothHingeConfig:
    """Options of the loss ``smooth-hinge``."""

    margin: float = option(1.0, min=0, help="How far from 0 a logit must be before it is left alone.")


@dataclass(frozen=True)
class DriftConfig:
    """Options of the regularizer ``drift``."""

    weight: float = option(1e-3, min=0, help="Weight of the penalty.")


@dataclass(frozen=True)
class ShapesConfig:
    """Options of the data set ``shapes``."""

    size: int = option(16, min=4, help="Height and width.")
    softness: float = option(0.1, above=0, help="Width of the edge, as a share of half the side.")


NEEDS_IMAGES = Rule(
    lambda plan: not plan.spec.is_image,
    what="The generator cppn cannot be used with the data set {data}",
    why="it paints a picture pixel by pixel, and the samples are points of shape {spec}",
    instead="choose images, or --gen mlp",
)


def shapes_spec(config: ShapesConfig) -> Spec:
    """What ``shapes`` holds: grey squares of pixels, in two classes."""
    return Spec((1, config.size, config.size), 2)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """What this package brings. The classes are imported when they are used, and not before."""
    yield Component(
        "generator",
        "cppn",
        target="ganzoo_example_plugin.cppn:Cppn",
        config=CppnConfig,
        summary="Paints each pixel from its place and the latent, so one network has any size.",
        paper="doi:10.1007/s10710-007-9028-8",
        rules=(NEEDS_IMAGES,),
    )
    yield Component(
        "loss",
        "smooth-hinge",
        target="ganzoo_example_plugin.objectives:SmoothHinge",
        config=SmoothHingeConfig,
        summary="The hinge loss with a rounded corner.",
    )
    yield Component(
        "regularizer",
        "drift",
        target="ganzoo_example_plugin.objectives:Drift",
        config=DriftConfig,
        summary="Keeps the logits of reals from drifting away from 0.",
        paper="arXiv:1710.10196",
    )
    yield Component(
        "dataset",
        "shapes",
        target="ganzoo_example_plugin.shapes:Shapes",
        config=ShapesConfig,
        spec=shapes_spec,
        summary="Discs and squares anywhere in the image, drawn without end.",
        recipe={"run.steps": 2000},
    )
