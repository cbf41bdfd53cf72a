"""Images whose channels are pictures of their own, as in Stacked-MNIST: an extractor looks at each by itself."""

from __future__ import annotations

import hashlib

from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn import Extractor, Features


class PerChannel(Extractor):
    """The features of each channel side by side, and one class for each combination of their classes.

    With three channels and digits, class 407 means 4 in the first, 0 in the second and 7 in the third. Its logit is the
    sum of theirs, so its probability is the product.

    Attributes:
        stacked: how many classes each channel has, and how many channels there are.

    Args:
        inner: an extractor of images with one channel, that has classes.
        spec: images with several.
    """

    def __init__(self, inner: Extractor, spec: Spec) -> None:
        super().__init__(spec)
        self.inner = inner
        channels = spec.shape[0]
        assert inner.num_classes is not None
        self.stacked = inner.num_classes, channels
        self.dim, self.num_classes = inner.dim * channels, inner.num_classes**channels
        self.digest = hashlib.sha256(f"per-channel/1 {channels} {inner.digest}".encode()).hexdigest()

    def forward(self, images: Tensor) -> Features:
        count, channels, height, width = images.shape
        seen = self.inner(images.reshape(count * channels, 1, height, width))
        assert seen.logits is not None
        parts = seen.logits.view(count, channels, -1).unbind(1)
        joint = parts[0]
        for part in parts[1:]:
            joint = (joint.unsqueeze(2) + part.unsqueeze(1)).flatten(1)
        return Features(seen.features.reshape(count, -1), joint.contiguous())


def suits(inner: Extractor, spec: Spec) -> bool:
    """Whether the classes of ``spec`` are the combinations of those that ``inner`` tells apart in each channel."""
    if not spec.is_image or inner.num_classes is None or spec.num_classes is None:
        return False
    return spec.shape[0] > 1 and spec.num_classes == inner.num_classes ** spec.shape[0]
