"""A quick extractor and sets of images that the tests of scores share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn import Extractor, Features

SPEC = Spec((1, 8, 8), 4)


class Linear(Extractor):
    """Features and logits that are linear in the pixels; ``seen`` counts the images that it was shown."""

    def __init__(self, spec: Spec = SPEC, dim: int = 24, classes: int | None = 4, seed: int = 1) -> None:
        super().__init__(spec)
        rng = torch.Generator().manual_seed(seed)
        self.dim, self.num_classes = dim, classes
        self.first = torch.randn(spec.numel, dim, generator=rng) / spec.numel**0.5
        self.second = torch.randn(dim, classes or 1, generator=rng)
        self.digest = hashlib.sha256(f"linear {seed} {dim}".encode()).hexdigest()
        self.seen = 0

    def forward(self, images: Tensor) -> Features:
        self.seen += len(images)
        features = (images.flatten(1).float() / 255) @ self.first
        return Features(features, features @ self.second if self.num_classes else None)


def images(n: int, seed: int, spec: Spec = SPEC, low: int = 0) -> Tensor:
    """Noise of pixels from ``low`` on."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, 256, (n, *spec.shape), generator=rng, dtype=torch.uint8)


def batches(pixels: Tensor, size: int = 100, labels: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
    """In batches, with labels where there are some."""
    for start in range(0, len(pixels), size):
        part = slice(start, start + size)
        yield pixels[part], None if labels is None else labels[part]
