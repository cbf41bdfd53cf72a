"""MNIST and the data sets in its format."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ganzoo.api import MissingError, Spec
from ganzoo.data import ArrayDataset, Batch, SampledDataset, download_root, resize, search_roots, to_unit
from ganzoo_datasets import StackedConfig, StoredConfig
from ganzoo_datasets.fetching import missing, torchvision_dataset
from ganzoo_datasets.idx import read_idx

_SIDE = 28
_CLASSES = 10


class Mnist(ArrayDataset):
    """Grey images with ten classes, read from ``ROOT/MNIST/raw/*-ubyte[.gz]``."""

    folder: ClassVar[str] = "MNIST"
    """Name of the folder below a root, and of torchvision's class."""

    def __init__(self, config: StoredConfig, spec: Spec) -> None:
        super().__init__(*load(self.folder, config), spec)


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


def load(folder: str, config: StoredConfig) -> tuple[Tensor, Tensor]:
    """Images ``[N, 1, size, size]`` uint8 and labels ``[N]`` int64; downloads them if need be.

    Raises:
        MissingError: they are not there and cannot be downloaded, or are broken.
    """
    prefix = "train" if config.split == "train" else "t10k"
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    roots = search_roots(config.root)
    files = _find(roots, folder, names)
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


def _find(roots: list[Path], folder: str, names: tuple[str, ...]) -> list[Path] | None:
    for root in roots:
        found = [
            path
            for name in names
            for path in (root / folder / "raw" / name, root / folder / "raw" / f"{name}.gz")
            if path.is_file()
        ]
        by_name = {path.name.removesuffix(".gz"): path for path in reversed(found)}
        if len(by_name) == len(names):
            return [by_name[name] for name in names]
    return None


def _download(roots: list[Path], folder: str, names: tuple[str, ...], config: StoredConfig) -> list[Path]:
    target = download_root(config.root)
    advice = f"place {' and '.join(names)} (each plain or as .gz) in {target / folder / 'raw'}"
    if not config.download:
        raise missing(folder, roots, f"{advice}, or allow the download")
    try:
        torchvision_dataset(folder, target, download=True, train=config.split == "train")
    except MissingError:
        raise
    except Exception as err:
        raise missing(folder, roots, advice, err) from err
    files = _find([target], folder, names)
    if files is None:
        raise missing(folder, roots, advice, FileNotFoundError("it left no such files"))
    return files
