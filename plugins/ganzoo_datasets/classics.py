"""CIFAR-10 and CelebA, through torchvision's classes, which know their files and check their sums before use."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ganzoo.api import Interrupted, MissingError, Spec
from ganzoo.data import ArrayDataset, Augment, ImageFiles, decode_images, download, download_root, resize, search_roots
from ganzoo.data.fetch import has_digest
from ganzoo_datasets import CelebaConfig, StoredConfig
from ganzoo_datasets.fetching import announce, missing, torchvision_class, torchvision_dataset
from ganzoo_datasets.places import CIFAR, CIFAR_ARCHIVE, FACES

_UNREADABLE = (RuntimeError, OSError)


class Cifar10(ArrayDataset):
    """Colour images with ten classes, from ``ROOT/cifar-10-batches-py`` or the archive beside it."""

    def __init__(self, config: StoredConfig, spec: Spec) -> None:
        found = self._open(config)
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        augment = Augment(config.flip, config.crop)
        super().__init__(resize(images, spec.shape[1]), torch.tensor(found.targets), spec, augment)

    @staticmethod
    def _open(config: StoredConfig) -> Any:
        train, known, roots = config.split == "train", torchvision_class("CIFAR10"), search_roots(config.root)
        digest = f"md5:{known.tgz_md5}"
        for root in roots:
            with suppress(*_UNREADABLE):
                return torchvision_dataset("CIFAR10", root, download=False, train=train)
            if has_digest(root / CIFAR_ARCHIVE, digest):
                with suppress(*_UNREADABLE):  # unpacks it, and downloads nothing
                    return torchvision_dataset("CIFAR10", root, download=True, train=train)
        target = download_root(config.root)
        advice = f"place {CIFAR_ARCHIVE} in {target}, or what is in it as {target / CIFAR}"
        if not config.download:
            raise missing("CIFAR10", roots, f"{advice}, or allow the download")
        try:
            download([known.url], target / CIFAR_ARCHIVE, digest)
            return torchvision_dataset("CIFAR10", target, download=True, train=train)
        except _UNREADABLE as err:
            raise missing("CIFAR10", roots, advice, err) from err


class Celeba(ArrayDataset):
    """Faces without labels: the middle square of each image of ``ROOT/celeba/img_align_celeba``."""

    def __init__(self, config: CelebaConfig, spec: Spec) -> None:
        found = self._open(config)
        files = ImageFiles(Path(found.root) / found.base_folder / FACES, tuple(found.filename))
        _, height, width = spec.shape
        pixels, _ = decode_images(files, (3, height, width))
        super().__init__(torch.from_numpy(pixels), None, spec, Augment(config.flip, config.crop))

    @staticmethod
    def _open(config: CelebaConfig) -> Any:
        roots = search_roots(config.root)
        arguments: dict[str, Any] = {"split": config.split, "target_type": []}
        for root in roots:
            with suppress(*_UNREADABLE):
                return torchvision_dataset("CelebA", root, download=False, **arguments)
        target = download_root(config.root)
        advice = (
            f"place the folder {FACES} and the files list_eval_partition.txt, list_attr_celeba.txt, "
            "identity_CelebA.txt, list_bbox_celeba.txt and list_landmarks_align_celeba.txt in "
            f"{target / 'celeba'} (the host limits downloads and often refuses for a day), or point the data set "
            "'folder' at the images"
        )
        if not config.download:
            raise missing("CelebA", roots, f"{advice}, or allow the download")
        announce("CelebA (1.4 GB)", "its authors' Google Drive", target)
        try:
            return torchvision_dataset("CelebA", target, download=True, **arguments)
        except (Interrupted, MissingError):
            raise
        except Exception as err:
            raise missing("CelebA", roots, advice, err) from err
