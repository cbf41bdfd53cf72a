"""Images that lie decoded in several files, and are taken from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ganzoo.api import GanzooError, Spec
from ganzoo.data.augment import Augment
from ganzoo.data.dataset import NOT_MOVED, Dataset, place, sent
from ganzoo.data.pixels import to_unit
from ganzoo.nn.bundle import Batch


class MappedImages(Dataset):
    """Images in several tensors, as parts of a data set that are mapped from files; on a GPU if they fit there.

    Args:
        parts: images ``[n, C, H, W]`` uint8 each, in the order of the numbers.
        labels: ``[N]`` int64, or None; forgotten if ``spec`` has no classes.
        spec: what one sample is.
        augment: flips and crops for a stream to make.
    """

    length: int

    def __init__(
        self, parts: Sequence[Tensor], labels: Tensor | None, spec: Spec, augment: Augment | None = None
    ) -> None:
        super().__init__(spec)
        if augment:
            augment.check(spec)
            self.augment = augment
        if any(part.shape[1:] != spec.shape or part.dtype != torch.uint8 for part in parts):
            raise GanzooError(f"The parts of a data set of {spec} must all be images of that shape in uint8.")
        self.parts = list(parts)
        self.labels = labels if spec.num_classes else None
        self._why = ""
        self._starts = np.cumsum([0, *map(len, parts)])
        self.length = int(self._starts[-1])

    def to(self, device: torch.device | str) -> Self:
        if self._why and self.device == torch.device(device):
            return self
        self.device = torch.device(device)
        where, self._why = place(self.length * self.spec.numel, self.home, self.device)
        if where.type != "cpu":
            whole = torch.empty((self.length, *self.spec.shape), dtype=torch.uint8, device=self.device)
            for part, start in zip(self.parts, self._starts, strict=False):
                whole[start : start + len(part)] = part.to(self.device)
            self.parts, self._starts = [whole], np.array([0, self.length])
            self.labels = None if self.labels is None else self.labels.to(self.device)
        return self

    @property
    def home(self) -> torch.device:
        return self.parts[0].device

    @property
    def placement(self) -> tuple[str, str]:
        if self.home.type != "cpu":
            return "on the device", self._why or NOT_MOVED
        return "in mapped files", "the system holds in memory what is used of them"

    def fetch(self, index: Tensor) -> Batch:
        y = self.labels_of(index)
        if len(self.parts) == 1:
            x = self.parts[0].index_select(0, index.to(self.home))
        else:
            x = self._gather(index.cpu().numpy())
        return Batch(to_unit(sent(x, self.device)), None if y is None else sent(y, self.device))

    def labels_of(self, index: Tensor) -> Tensor | None:
        return None if self.labels is None else self.labels.index_select(0, index.to(self.labels.device))

    def _gather(self, index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """Images of all parts, one after the other: for parts of a few images that is quicker than part by part."""
        if len(index) and not (index.min() >= 0 and index.max() < self.length):
            raise IndexError("an index is out of range")
        found = torch.empty((len(index), *self.spec.shape), dtype=torch.uint8)
        pixels, parts = found.numpy(), [part.numpy() for part in self.parts]
        which = np.searchsorted(self._starts, index, side="right") - 1
        rows = index - self._starts[which]
        for at, (part, row) in enumerate(zip(which.tolist(), rows.tolist(), strict=True)):
            pixels[at] = parts[part][row]
        return found
