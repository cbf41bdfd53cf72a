"""A plugin with a sound extractor, and one for each fault that the conformance kit catches in extractors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ganzoo.api import Component, Spec, UsageError, hookimpl
from ganzoo.nn import Extractor, Features


class Sight(Extractor):
    """Eight features, the same for every size: means over a grid of the image, mixed."""

    dim = 8
    digest = "5e" * 32

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(spec)
        if not spec.is_image:
            raise UsageError(f"It sees images, not {spec}.")
        self.mix = nn.Linear(16, 8).requires_grad_(False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)))
            self.mix.bias.zero_()

    def forward(self, images: Tensor) -> Features:
        grid = nn.functional.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), 4)
        return Features(self.mix(grid.flatten(1)))


class Wider(Sight):
    """Has fewer features than it says."""

    dim = 9


class Centred(Sight):
    """Takes the mean of the batch away."""

    def forward(self, images: Tensor) -> Features:
        features = super().forward(images).features
        return Features(features - features.mean(0))


class Fresh(Sight):
    """Has other weights each time that it is built."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        nn.init.normal_(self.mix.weight)


class Learner(Sight):
    """Would train."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.requires_grad_(True)


class Blind(Sight):
    """Does not look."""

    def forward(self, images: Tensor) -> Features:
        return super().forward(torch.zeros_like(images))


class Nameless(Sight):
    """Has a digest that is none."""

    digest = "version 1"


class Hopeful(Sight):
    """Takes anything for an image."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec if spec.is_image else Spec((1, 8, 8)))


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    for made in (Sight, Wider, Centred, Fresh, Learner, Blind, Nameless, Hopeful):
        name = made.__name__
        yield Component("extractor", name.lower(), f"{made.__module__}:{name}", summary="For a test.")
