"""MNIST and the data sets in its format."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ganzoo.api import Interrupted, MissingError, Spec
from ganzoo.data import ArrayDataset, Augment, Batch, SampledDataset, download_root, resize, search_roots, to_unit
from ganzoo_datasets import StackedConfig, StoredConfig
from ganzoo_datasets.fetching import download_idx, missing
from ganzoo_datasets.idx import read_idx
from ganzoo_datasets.places import find_idx, idx_names

_SIDE = 28
_CLASSES = 10


class Mnist(ArrayDataset):
    """Grey images with ten classes, read from ``ROOT/MNIST/raw/*-ubyte[.gz]``."""

    folder: ClassVar[str] = "MNIST"
    """Name of the folder below a root, and of torchvision's class."""

    def __init__(self, config: StoredConfig, spec: Spec) -> None:
        super().__init__(*load(self.folder, config), spec, Augment(config.flip, config.crop))


class FashionMnist(Mnist):
    """The same of Fashion-MNIST, in ``ROOT/FashionMNIST/raw``."""

    folder = "FashionMNIST"


class Kmnist(Mnist):
    """The same of Kuzushiji-MNIST, in ``ROOT/KMNIST/raw``."""

    folder = "KMNIST"


class StackedMnist(SampledDataset):
    """Images ``[3, size, size]``: in each channel an MNIST digit drawn by itself; 1000 combinations of digits."""

    def __init__(self, config: StackedConfig, spec: Spec) -> None:
        super().__init__(spec)
        self.images, self.labels = load(Mnist.folder, config)

    def to(self, device: torch.device | str) -> Self:
        self.images, self.labels = self.images.to(device), self.labels.to(device)
        return super().to(device)

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        triples = torch.randint(len(self.images), (n, 3), generator=rng, device=self.device)
        x = to_unit(self.images.index_select(0, triples.flatten()).view(n, *self.spec.shape))
        if not self.spec.num_classes:
            return Batch(x)
        a, b, c = self.labels[triples].unbind(1)
        return Batch(x, a * 100 + b * 10 + c)


def load(folder: str, config: StoredConfig | StackedConfig) -> tuple[Tensor, Tensor]:
    """Images ``[N, 1, size, size]`` uint8 and labels ``[N]`` int64; downloads them if need be.

    Raises:
        MissingError: they are not there and cannot be downloaded, or are broken.
    """
    names = idx_names(config.split)
    roots = search_roots(config.root)
    files = find_idx(roots, folder, names)
    if files is None:
        files = _download(roots, folder, names, config)
    images, labels = read_idx(files[0], 3), read_idx(files[1], 1)
    if images.shape[1:] != (_SIDE, _SIDE) or len(images) != len(labels) or len(labels) == 0:
        raise MissingError(
            f"{files[0]} holds {images.shape} images and {files[1]} {len(labels)} labels, which do not make a data set "
            f"of {_SIDE}x{_SIDE} images: delete both and download them again."
        )
    if labels.max() >= _CLASSES:
        raise MissingError(f"{files[1]} holds the label {labels.max()}, beyond 0 .. {_CLASSES - 1}: download it again.")
    pixels = torch.from_numpy(images)[:, None]
    return resize(pixels, config.size or _SIDE), torch.from_numpy(labels.astype(np.int64))


def _download(
    roots: list[Path], folder: str, names: tuple[str, ...], config: StoredConfig | StackedConfig
) -> list[Path]:
    target = download_root(config.root) / folder / "raw"
    advice = f"place {' and '.join(names)} (each plain or as .gz) in {target}"
    if not config.download:
        raise missing(folder, roots, f"{advice}, or allow the download")
    try:
        download_idx(folder, target, names)
    except (Interrupted, MissingError):
        raise
    except Exception as err:
        raise missing(folder, roots, advice, err) from err
    return [target / f"{name}.gz" for name in names]
