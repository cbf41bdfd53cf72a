"""CIFAR-10 and CelebA, through torchvision's classes, which know their files and check their sums before use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ganzoo.api import MissingError, Spec
from ganzoo.data import ArrayDataset, ImageFiles, decode_images, download_root, resize, search_roots
from ganzoo_datasets import CelebaConfig, StoredConfig
from ganzoo_datasets.fetching import missing, torchvision_dataset


class Cifar10(ArrayDataset):
    """Colour images with ten classes, from ``ROOT/cifar-10-batches-py``."""

    def __init__(self, config: StoredConfig, spec: Spec) -> None:
        target = download_root(config.root)
        advice = f"place cifar-10-python.tar.gz, unpacked, as {target / 'cifar-10-batches-py'}"
        found = _open("CIFAR10", config, advice, train=config.split == "train")
        images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
        super().__init__(resize(images, spec.shape[1]), torch.tensor(found.targets), spec)


class Celeba(ArrayDataset):
    """Faces without labels: the middle square of each image of ``ROOT/celeba/img_align_celeba``."""

    def __init__(self, config: CelebaConfig, spec: Spec) -> None:
        target = download_root(config.root) / "celeba"
        advice = (
            f"place the folder img_align_celeba and the files list_eval_partition.txt, list_attr_celeba.txt, "
            f"identity_CelebA.txt, list_bbox_celeba.txt and list_landmarks_align_celeba.txt in {target} "
            "(the host limits downloads and often refuses for a day), or point the data set 'folder' at the images"
        )
        found = _open("CelebA", config, advice, split=config.split, target_type=[])
        files = ImageFiles(Path(found.root) / found.base_folder / "img_align_celeba", tuple(found.filename))
        _, height, width = spec.shape
        pixels, _ = decode_images(files, (3, height, width))
        super().__init__(torch.from_numpy(pixels), None, spec)


def _open(name: str, config: StoredConfig | CelebaConfig, advice: str, **arguments: Any) -> Any:
    """torchvision's data set from the first root that has it whole, else downloaded."""
    roots = search_roots(config.root)
    for root in roots:
        try:
            return torchvision_dataset(name, root, download=False, **arguments)
        except (RuntimeError, OSError):
            continue
    if not config.download:
        raise missing(name, roots, f"{advice}, or allow the download")
    try:
        return torchvision_dataset(name, download_root(config.root), download=True, **arguments)
    except MissingError:
        raise
    except Exception as err:
        raise missing(name, roots, advice, err) from err
