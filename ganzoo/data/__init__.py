"""Sources of real samples. Names are imported when first used: listing files and finding data sets needs no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganzoo.backends import torch_fidelity as torch_fidelity_module
from ganzoo.backends import torchvision as torchvision_module

if TYPE_CHECKING:
    from ganzoo.data.augment import Augment
    from ganzoo.data.dataset import ArrayDataset, Dataset, GaussianMixture, SampledDataset
    from ganzoo.data.fetch import download
    from ganzoo.data.files import ImageFiles, list_images
    from ganzoo.data.held import held_images
    from ganzoo.data.images import choose_shape, decode_images
    from ganzoo.data.pixels import resample, resize, to_unit
    from ganzoo.data.pretrained import Found, Published, find_weights, read_weights, weights_digest
    from ganzoo.data.roots import cache_home, download_root, search_roots
    from ganzoo.data.stream import DataStream
    from ganzoo.nn.bundle import Batch

__all__ = [
    "ArrayDataset",
    "Augment",
    "Batch",
    "DataStream",
    "Dataset",
    "Found",
    "GaussianMixture",
    "ImageFiles",
    "Published",
    "SampledDataset",
    "cache_home",
    "choose_shape",
    "decode_images",
    "download",
    "download_root",
    "find_weights",
    "held_images",
    "list_images",
    "read_weights",
    "resample",
    "resize",
    "search_roots",
    "to_unit",
    "torch_fidelity_module",
    "torchvision_module",
    "weights_digest",
]

_HOMES = {
    "ArrayDataset": "ganzoo.data.dataset",
    "Augment": "ganzoo.data.augment",
    "Batch": "ganzoo.nn.bundle",
    "DataStream": "ganzoo.data.stream",
    "Dataset": "ganzoo.data.dataset",
    "Found": "ganzoo.data.pretrained",
    "GaussianMixture": "ganzoo.data.dataset",
    "ImageFiles": "ganzoo.data.files",
    "Published": "ganzoo.data.pretrained",
    "SampledDataset": "ganzoo.data.dataset",
    "cache_home": "ganzoo.data.roots",
    "choose_shape": "ganzoo.data.images",
    "decode_images": "ganzoo.data.images",
    "download": "ganzoo.data.fetch",
    "download_root": "ganzoo.data.roots",
    "find_weights": "ganzoo.data.pretrained",
    "held_images": "ganzoo.data.held",
    "list_images": "ganzoo.data.files",
    "read_weights": "ganzoo.data.pretrained",
    "resample": "ganzoo.data.pixels",
    "resize": "ganzoo.data.pixels",
    "search_roots": "ganzoo.data.roots",
    "to_unit": "ganzoo.data.pixels",
    "weights_digest": "ganzoo.data.pretrained",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ganzoo.data' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
