"""The user's own data: folders, zips and arrays."""

from __future__ import annotations

import torch

from ganzoo.api import Spec
from ganzoo.data import ArrayDataset, Augment, decode_images, resize
from ganzoo_datasets import FolderConfig, NpzConfig
from ganzoo_datasets.folder_source import folder_source
from ganzoo_datasets.npz_source import npz_source


class Folder(ArrayDataset):
    """Images of a folder or of a zip, decoded when it is built; sub-folders are classes."""

    def __init__(self, config: FolderConfig, spec: Spec) -> None:
        source = folder_source(config)
        pixels, kept = decode_images(source.files, source.shape, fit=config.fit, on_bad_image=config.on_bad_image)
        classes = source.files.labels
        labels = None if classes is None else torch.tensor([classes[i] for i in kept])
        super().__init__(torch.from_numpy(pixels), labels, spec, Augment(config.flip, config.crop))


class Npz(ArrayDataset):
    """Images or points of an npz; see :mod:`ganzoo_datasets.npz_source` for the shapes and ranges."""

    def __init__(self, config: NpzConfig, spec: Spec) -> None:
        array, labels = npz_source(config).read()
        samples = torch.from_numpy(array)
        if spec.is_image and config.size is not None:
            samples = resize(samples, config.size)
        augment = Augment(config.flip, config.crop)
        super().__init__(samples, None if labels is None else torch.from_numpy(labels), spec, augment)
