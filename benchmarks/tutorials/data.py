"""Images one at a time through PIL and transforms, as torchvision's data sets give them, and a DataLoader over them."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ganzoo import backends
from ganzoo.api import Spec
from ganzoo.errors import MissingError
from ganzoo.registry import create

Array = np.ndarray[Any, np.dtype[np.uint8]]
Transform = Callable[[Image.Image], Tensor]

_RANDOM = 10_000


@dataclass(frozen=True)
class Source:
    """Images to train on.

    Attributes:
        images: ``[N, H, W]`` or ``[N, H, W, 3]`` uint8.
        name: what they are, for the table.
    """

    images: Array
    name: str

    def save(self, folder: Path) -> Path:
        """An ``.npz`` of them for ganzoo to read."""
        file = folder / f"{self.name.replace(' ', '-')}.npz"
        if not file.exists():
            np.savez(file, images=self.images)
        return file


@cache
def mnist() -> Source:
    """MNIST's training images, or random ones of their shape where they are not on this machine."""
    try:
        held = create("dataset", "mnist", Spec((1, 28, 28)), download=False)
    except MissingError:
        return _random("MNIST", 28, 28)
    return Source(held.samples[:, 0].numpy(), "MNIST")


@cache
def digits() -> Source:
    """The digits that ship with ganzoo, 8x8."""
    return Source(create("dataset", "digits", Spec((1, 8, 8)), size=8).samples[:, 0].numpy(), "digits")


@cache
def colour() -> Source:
    """CIFAR-10 (``cifar10*.zip`` in ``GANZOO_DATA``), 32x32x3, or random images of its shape."""
    root = os.environ.get("GANZOO_DATA")
    found = sorted(Path(root).glob("cifar10*.zip")) if root else []
    if not found:
        return _random("CIFAR-10", 32, 32, 3)
    with zipfile.ZipFile(found[0]) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".png")))
        images = []
        for name in names:
            with archive.open(name) as file:
                images.append(np.asarray(Image.open(file).convert("RGB")))
    return Source(np.stack(images), f"CIFAR-10 ({len(images):,} images)")


def _random(instead_of: str, *shape: int) -> Source:
    images = np.random.default_rng(0).integers(0, 256, (_RANDOM, *shape), dtype=np.uint8)
    return Source(images, f"random images in place of {instead_of}")


class Images(Dataset[tuple[Tensor, int]]):
    """What torchvision's MNIST and CIFAR10 do: arrays in memory, and for each item PIL and the transforms."""

    def __init__(self, images: Array, transform: Transform) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), 0


@dataclass(frozen=True)
class PlainTransform:
    """Resize, ToTensor and Normalize to [-1, 1], written in PIL and torch for where torchvision does not import."""

    size: int

    def __call__(self, image: Image.Image) -> Tensor:
        if image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image, copy=True))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
        value = pixels.to(torch.float32).div(255)
        half = torch.as_tensor([0.5] * len(value), dtype=value.dtype).view(-1, 1, 1)
        return value.sub_(half).div_(half)


def transform(size: int, channels: int) -> tuple[Transform, str]:
    """The transforms of the tutorials and whose they are: torchvision's where it imports."""
    try:
        library = backends.torchvision().transforms
    except MissingError:
        return PlainTransform(size), "own transforms, because torchvision does not import"
    steps = [library.Resize(size), library.ToTensor(), library.Normalize([0.5] * channels, [0.5] * channels)]
    return cast("Transform", library.Compose(steps)), "torchvision's transforms"


def loader(source: Source, size: int, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """Shuffled full batches of images ``[B, C, size, size]`` in [-1, 1]."""
    channels = 1 if source.images.ndim == 3 else 3
    found, _ = transform(size, channels)
    _allow_more_workers_than_cores()
    return DataLoader(Images(source.images, found), batch_size, shuffle=True, num_workers=workers, drop_last=True)


def _allow_more_workers_than_cores() -> None:
    """torch warns of them, both here and at every epoch; a tutorial does not count cores."""
    warnings.filterwarnings("ignore", message="This DataLoader will create")


class _Some(Sampler[int]):
    """As many random indices as were last asked for."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = 0

    def __iter__(self) -> Iterator[int]:
        yield from torch.randint(self.length, (self.count,)).tolist()

    def __len__(self) -> int:
        return self.count


class Batches:
    """Batches from a loader in portions of so many, for a contender that takes turns with others.

    A portion's loading starts with :meth:`begin` and ends with its last batch, so that workers load nothing while
    others are measured. They live from one portion to the next, as within one long epoch.
    """

    def __init__(self, source: Source, size: int, batch_size: int, workers: int) -> None:
        channels = 1 if source.images.ndim == 3 else 3
        found, _ = transform(size, channels)
        data = Images(source.images, found)
        self._sampler = _Some(len(data))
        self._batch_size = batch_size
        _allow_more_workers_than_cores()
        self._loader = DataLoader(
            data, batch_size, sampler=self._sampler, num_workers=workers, persistent_workers=workers > 0
        )
        self._batches: Iterator[Any] = iter(())

    def begin(self, n: int) -> None:
        """Start to load ``n`` batches."""
        self._sampler.count = n * self._batch_size
        self._batches = iter(self._loader)

    def __iter__(self) -> Iterator[Tensor]:
        for images, _ in self._batches:
            yield images
