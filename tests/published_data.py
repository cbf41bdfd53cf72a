"""Published data sets in their own formats, with made-up samples: the real ones are no part of the tests."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganzoo_datasets.fetching import torchvision_class
from ganzoo_datasets.places import CIFAR, FACES

COUNT = 12
REAL = os.environ.get("GANZOO_DATA", "")
with_mnist = pytest.mark.skipif(
    not (REAL and Path(REAL, "MNIST", "raw").is_dir()), reason="GANZOO_DATA does not point at a folder with MNIST/raw"
)
"""For what can be told of the real MNIST alone: its counts, and how well the classifier of digits knows it."""


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """An array as MNIST's files hold it."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(root: Path, n: int = COUNT, folder: str = "MNIST", prefix: str = "train") -> Path:
    """One of MNIST's family, the images plain and the labels as .gz; returns the folder of both."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    (raw / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
    with gzip.open(raw / f"{prefix}-labels-idx1-ubyte.gz", "wb") as file:
        file.write(idx(np.arange(n, dtype=np.uint8) % 10))
    return raw


def write_cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The test split of CIFAR-10; torchvision takes its sums for the right ones."""
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 3 * 32 * 32), dtype=np.uint8)
    parts: dict[str, dict[str, Any]] = {
        "test_batch": {"data": pixels, "labels": [i % 10 for i in range(COUNT)]},
        "batches.meta": {"label_names": [str(i) for i in range(10)]},
    }
    (root / CIFAR).mkdir(parents=True)
    sums = {}
    for name, content in parts.items():
        data = pickle.dumps(content)
        (root / CIFAR / name).write_bytes(data)
        sums[name] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    known = torchvision_class("CIFAR10")
    patch.setattr(known, "train_list", [])
    patch.setattr(known, "test_list", [["test_batch", sums["test_batch"]]])
    patch.setattr(known, "meta", {**known.meta, "md5": sums["batches.meta"]})


def write_celeba(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The test split of CelebA; torchvision asks for the sums of none of its files."""
    faces = root / "celeba" / FACES
    faces.mkdir(parents=True)
    names = [f"{i:06}.jpg" for i in range(COUNT)]
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 218, 178, 3), dtype=np.uint8)
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image).save(faces / name)
    for table, head, value in (
        ("list_eval_partition.txt", "", 2),
        ("identity_CelebA.txt", "", 1),
        ("list_bbox_celeba.txt", f"{COUNT}\nx_1\n", 0),
        ("list_landmarks_align_celeba.txt", f"{COUNT}\nnose_x\n", 0),
        ("list_attr_celeba.txt", f"{COUNT}\nBald\n", 1),
    ):
        (faces.parent / table).write_text(head + "".join(f"{name} {value}\n" for name in names), encoding="utf-8")
    patch.setattr(torchvision_class("CelebA"), "file_list", [])


def write_all(root: Path, patch: pytest.MonkeyPatch) -> None:
    """The test splits of every published data set."""
    for folder in ("MNIST", "FashionMNIST", "KMNIST"):
        write_mnist(root, folder=folder, prefix="t10k")
    write_cifar10(root, patch)
    write_celeba(root, patch)
