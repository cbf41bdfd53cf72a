"""The feature network of a metric."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from ganzoo.api import Spec


class Features(NamedTuple):
    """What an extractor sees in a batch: ``features [B, F]`` and, of a classifier, ``logits [B, K]``, both float32."""

    features: Tensor
    logits: Tensor | None = None


class Extractor(nn.Module, ABC):
    """Turns images into the features that FID and its relatives compare. Built as ``Target(config, spec)``.

    It is frozen and in evaluation mode when it is used, and what it gives for one image does not depend on the others
    of the batch.

    Attributes:
        spec: the images that it is given. Fitting them (size, grey to colour) is the extractor's work.
        dim: F, how many features it has.
        num_classes: K, how many classes its logits tell apart; None if it has no logits.
        stacked: ``(k, c)`` if its classes are the combinations of k classes in each of c channels; else None.
        digest: hex SHA-256 of everything that its features depend on beside the image: the weights file, and a version
            of the preprocessing. Scores are comparable, and cached features are used again, only under one digest.
        caveat: what a reader of its scores must know, in words, such as that its weights are not the published ones;
            empty if there is nothing.
    """

    dim: int
    num_classes: int | None = None
    stacked: tuple[int, int] | None = None
    digest: str
    caveat: str = ""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Features of ``images [B, C, H, W]`` uint8 in 0 .. 255, of any number and size of channels that it can fit."""
