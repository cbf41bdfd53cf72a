"""The user's own data: folders, zips and arrays."""

from __future__ import annotations

import logging
import math
from typing import Any, Final

import torch

from ganzoo.api import Spec
from ganzoo.data import ArrayDataset, Augment, held_images, resize
from ganzoo.data.memory import fits, free_memory
from ganzoo.data.streamed import StreamedImages
from ganzoo.data.workers import Decoders, workers_wanted
from ganzoo_datasets import FolderConfig, NpzConfig
from ganzoo_datasets.folder_source import FolderSource, folder_source, take
from ganzoo_datasets.npz_source import npz_source

_LOG: Final = logging.getLogger("ganzoo")


class Folder(ArrayDataset):
    """Images of a folder or of a zip; sub-folders are classes. Decoded when it is built, or while they are used."""

    def __new__(cls, config: FolderConfig | None = None, spec: Spec | None = None) -> Any:
        if config is not None and spec is not None and _streams(config, folder_source(config)):
            return StreamedFolder(config, spec)
        return super().__new__(cls)

    def __init__(self, config: FolderConfig, spec: Spec) -> None:
        source = take(config)
        pixels, kept = held_images(source.files, _shape(config, source, spec), config.fit, config.on_bad_image)
        numbers = source.files.labels
        labels = None if numbers is None else torch.tensor(numbers)[kept]
        self.classes = source.files.classes
        super().__init__(torch.from_numpy(pixels), labels, spec, Augment(config.flip, config.crop))


class StreamedFolder(StreamedImages):
    """The same images, decoded by other processes while they are used."""

    def __init__(self, config: FolderConfig, spec: Spec) -> None:
        source = take(config)
        shape = _shape(config, source, spec)
        decoders = Decoders(source.files, shape, config.fit, workers_wanted(config.workers))
        super().__init__(source.files, spec, decoders, config.on_bad_image, Augment(config.flip, config.crop))


def _shape(config: FolderConfig, source: FolderSource, spec: Spec) -> tuple[int, int, int]:
    """What the images are brought to: what the spec says, where the options leave it open."""
    if not spec.is_image:
        return source.shape
    channels, height, width = spec.shape
    if config.channels != "auto" or channels not in (1, 3):
        channels = source.shape[0]
    return (channels, height, width) if config.size is None else (channels, *source.shape[1:])


def _streams(config: FolderConfig, source: FolderSource) -> bool:
    """Whether the images are decoded while they are used."""
    if config.memory != "auto":
        return config.memory == "stream"
    size = len(source.files) * math.prod(source.shape)
    if fits(size):
        return False
    _LOG.warning(
        "The %d images of %s take %.1f GB decoded, and %.1f GB of memory are free, so they are decoded while training; "
        "'ganzoo data prepare' makes a copy that needs neither.",
        len(source.files),
        source.files.path,
        size / 1e9,
        free_memory() / 1e9,
    )
    return True


class Npz(ArrayDataset):
    """Images or points of an npz; see :mod:`ganzoo_datasets.npz_source` for the shapes and ranges."""

    def __init__(self, config: NpzConfig, spec: Spec) -> None:
        array, labels = npz_source(config).read()
        samples = torch.from_numpy(array)
        if spec.is_image and config.size is not None:
            _tell_of_distortion(config, *samples.shape[-2:])
            samples = resize(samples, config.size)
        augment = Augment(config.flip, config.crop)
        super().__init__(samples, None if labels is None else torch.from_numpy(labels), spec, augment)


def _tell_of_distortion(config: NpzConfig, height: int, width: int) -> None:
    if height != width:
        _LOG.warning(
            "The images of %s are %dx%d (height x width) and are distorted to %dx%d; without the option size they stay "
            "as they are.",
            config.path,
            *(height, width, config.size, config.size),
        )
