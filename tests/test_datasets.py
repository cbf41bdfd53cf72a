"""The data sets of ganzoo_datasets."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_data import idx, with_mnist, write_mnist

import ganzoo_datasets
from ganzoo.api import Component, MissingError, Spec
from ganzoo.data import Augment, Dataset, DataStream, GaussianMixture
from ganzoo.data.pixels import from_unit
from ganzoo.options import build
from ganzoo.registry import describe
from ganzoo_datasets import classics, fetching
from ganzoo_datasets.idx import read_idx

COMPONENTS = {component.name: component for component in ganzoo_datasets.ganzoo_components()}


def config_of(name: str, **values: Any) -> tuple[Component, Any]:
    component = COMPONENTS[name]
    return component, build(component.config, values, where=name)


def spec_of(name: str, **values: Any) -> Spec:
    component, config = config_of(name, **values)
    assert component.spec is not None
    return component.spec(config)


def create(name: str, **values: Any) -> Any:
    component, config = config_of(name, **values)
    module, _, attribute = component.target.partition(":")
    assert component.spec is not None
    dataset = getattr(importlib.import_module(module), attribute)(config, component.spec(config))
    assert isinstance(dataset, Dataset)
    return dataset


@pytest.fixture
def no_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no data sets: the folder is the user's cache, and empty."""
    monkeypatch.delenv("GANZOO_DATA", raising=False)
    monkeypatch.setattr("ganzoo.data.roots.cache_root", lambda: tmp_path / "cache")
    return tmp_path


# The plugin.


def test_listing_and_telling_specs_needs_no_torch() -> None:
    code = """
import sys, ganzoo_datasets
for part in ganzoo_datasets.ganzoo_components():
    if part.name not in ("folder", "npz", "prepared"):
        part.spec(part.config())
assert not {"torch", "torchvision", "numpy", "PIL"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("name", "values", "spec"),
    [
        ("digits", {}, Spec((1, 8, 8), 10)),
        ("mnist", {}, Spec((1, 28, 28), 10)),
        ("kmnist", {"size": 32}, Spec((1, 32, 32), 10)),
        ("cifar10", {}, Spec((3, 32, 32), 10)),
        ("celeba", {}, Spec((3, 64, 64))),
        ("celeba", {"size": None}, Spec((3, 178, 178))),
        ("ring", {}, Spec((2,), 8)),
        ("grid", {}, Spec((2,), 25)),
        ("swissroll", {}, Spec((2,))),
        ("stacked-mnist", {}, Spec((3, 28, 28))),
        ("stacked-mnist", {"labelled": True, "size": 32}, Spec((3, 32, 32), 1000)),
    ],
)
def test_specs(name: str, values: dict[str, Any], spec: Spec) -> None:
    assert spec_of(name, **values) == spec


# Digits and the plane.


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits(size: int) -> None:
    digits = create("digits", size=size)
    assert digits.length == 1797
    assert digits.samples.shape == (1797, 1, size, size)
    assert np.bincount(digits.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.samples.max() == 255
    assert digits.samples.min() == 0


def test_digits_are_those_of_uci() -> None:
    """The test part, 0 to 16 and in its order; UCI's page tells the counts that :func:`test_digits` holds.

    The sums are those of the copy in scikit-learn 1.9.1, ``sklearn/datasets/data/digits.csv.gz``.
    """
    stored = create("digits", size=8)
    levels = np.rint(stored.samples[:, 0].numpy() * (16 / 255)).astype(np.uint8)
    assert np.array_equal(np.rint(levels * (255 / 16)), stored.samples[:, 0])
    assert np.unique(levels).tolist() == list(range(17))
    assert levels.sum() == 561_718
    for array, digest in (
        (levels, "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"),
        (stored.labels.to(torch.uint8).numpy(), "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0"),
    ):
        assert hashlib.sha256(array.tobytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("name", "values", "count", "radius"),
    [("ring", {}, 8, 2.0), ("ring", {"modes": 3, "radius": 1.0}, 3, 1.0), ("grid", {}, 25, math.sqrt(32))],
)
def test_mixtures(name: str, values: dict[str, Any], count: int, radius: float) -> None:
    dataset = create(name, **values)
    assert isinstance(dataset, GaussianMixture)
    modes = dataset.modes()
    assert modes.shape == (count, 2)
    assert len({tuple(mode) for mode in modes.round(decimals=3).tolist()}) == count
    assert modes.norm(dim=1).max().item() == pytest.approx(radius)
    assert modes.mean(0).abs().max().item() < 1e-6
    x, y = dataset.draw(50_000, torch.Generator().manual_seed(0))
    assert y is not None
    distances = torch.cdist(x, modes)
    assert torch.equal(distances.argmin(1), y)
    # Within three standard deviations lies 1 - exp(-9/2) of a round Gaussian in the plane.
    within = (distances.amin(1) < 3 * dataset.std).float().mean().item()
    assert within == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert y.bincount().min().item() > 0.9 * 50_000 / count


def test_grid_is_at_even_integers() -> None:
    assert sorted(set(create("grid").modes().flatten().tolist())) == [-4, -2, 0, 2, 4]


def test_swissroll_is_a_spiral() -> None:
    x, y = create("swissroll", noise=0.0).draw(1000, torch.Generator().manual_seed(0))
    t = x.norm(dim=1) * 7.5
    assert y is None
    assert t.min().item() == pytest.approx(1.5 * math.pi, abs=0.1)
    assert t.max().item() == pytest.approx(4.5 * math.pi, abs=0.1)
    assert torch.allclose(x * 7.5, torch.stack([t * t.cos(), t * t.sin()], 1), atol=1e-4)


def test_plane_data_sets_recommend_networks_for_points() -> None:
    for name in ("ring", "grid", "swissroll"):
        recipe = COMPONENTS[name].recipe
        assert (recipe["gen"], recipe["disc"]) == ("mlp", "mlp")


# The MNIST family.


def test_mnist_is_read_plain_and_gzipped(no_roots: Path) -> None:
    write_mnist(no_roots, folder="FashionMNIST", prefix="t10k")
    dataset = create("fashion-mnist", root=no_roots, split="test", size=32, download=False)
    assert dataset.samples.shape == (12, 1, 32, 32)
    assert dataset.labels.tolist() == [*range(10), 0, 1]


def test_missing_mnist_says_what_to_place_where(no_roots: Path) -> None:
    with pytest.raises(MissingError, match="the option download is false: place train-images-idx3-ubyte and") as caught:
        create("mnist", download=False)
    assert str(no_roots / "cache" / "MNIST" / "raw") in str(caught.value)
    assert caught.value.exit_code == 4


def library(monkeypatch: pytest.MonkeyPatch, **classes: Any) -> None:
    """A torchvision that has these data sets."""

    class Library:
        datasets = type("datasets", (), classes)

    monkeypatch.setattr(fetching, "torchvision_module", lambda: Library)


def test_a_failed_download_says_so(
    no_roots: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Name or service\nnot known")

    class Offline:
        resources = (("train-images-idx3-ubyte.gz", "0" * 32),)
        mirrors = ("http://mirror/",)
        url, tgz_md5 = "http://mirror/cifar", "0" * 32

        def __init__(self, _root: Path, *, download: bool, **_: object) -> None:
            if not download:
                raise RuntimeError("Dataset not found or corrupted.")
            refuse()

    library(monkeypatch, KMNIST=Offline, CIFAR10=Offline, CelebA=Offline)
    monkeypatch.setattr(fetching, "download", refuse)
    monkeypatch.setattr(classics, "download", refuse)
    for name, file in (("kmnist", "train-labels-idx1-ubyte"), ("cifar10", "cifar-10-batches-py"), ("celeba", "celeba")):
        with pytest.raises(MissingError, match=r"download failed \(Name or service not known\): place") as caught:
            create(name)
        assert file in str(caught.value)
        with pytest.raises(MissingError, match="the option download is false"):
            create(name, download=False)
    assert "Downloading CelebA (1.4 GB) from its authors' Google Drive to" in caplog.text


def test_cifar10_and_celeba_come_from_the_first_root_that_has_them(
    no_roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = no_roots / "cache" / "celeba" / "img_align_celeba"
    faces.mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (178, 218), (i, 100, 200)).save(faces / f"{i}.png")

    class Found:
        tgz_md5 = "0" * 32
        base_folder = "celeba"
        filename = ("0.png", "2.png")
        data = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)
        targets = (7, 3)

        def __init__(self, root: Path, **_: object) -> None:
            if root != no_roots / "cache":
                raise RuntimeError("Dataset not found or corrupted.")
            self.root = str(root)

    library(monkeypatch, CIFAR10=Found, CelebA=Found)
    cifar = create("cifar10", root=no_roots / "elsewhere")
    assert torch.equal(cifar.samples, torch.from_numpy(Found.data).permute(0, 3, 1, 2))
    assert cifar.labels.tolist() == [7, 3]
    celeba = create("celeba", split="valid", flip=True)
    assert celeba.samples[:, :, 5, 5].tolist() == [[0, 100, 200], [2, 100, 200]]
    assert celeba.samples.shape == (2, 3, 64, 64)
    assert celeba.augment == Augment(flip=True)


def test_a_cifar_archive_placed_by_hand_is_unpacked(no_roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = no_roots / "cache" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"archive")

    class Packed:
        tgz_md5 = hashlib.md5(b"archive", usedforsecurity=False).hexdigest()
        data = np.zeros((1, 32, 32, 3), np.uint8)
        targets = (1,)

        def __init__(self, root: Path, *, download: bool, **_: object) -> None:
            if not download or root != archive.parent:
                raise RuntimeError("Dataset not found or corrupted.")

    library(monkeypatch, CIFAR10=Packed)
    assert create("cifar10", download=False).length == 1
    assert describe("dataset", "cifar10")["facts"]["place"] == str(archive)


def test_show_tells_where_a_data_set_is_or_would_be(no_roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def facts() -> Any:
        return describe("dataset", "mnist")["facts"]

    raw = Path("MNIST") / "raw"
    assert facts()["licence"] == "CC BY-SA 3.0"
    assert facts()["place"] == (
        f"not on this machine: looked for in {no_roots / 'cache' / raw}; "
        f"downloaded to {no_roots / 'cache' / raw} when it is used"
    )
    monkeypatch.setenv("GANZOO_DATA", str(no_roots / "here"))
    write_mnist(no_roots / "here")
    assert facts()["place"] == f"{no_roots / 'here' / raw} (train)"
    write_mnist(no_roots / "here", prefix="t10k")
    assert facts()["place"] == f"{no_roots / 'here' / raw} (train and test)"
    assert all("licence" in c.facts for c in COMPONENTS.values() if c.spec and "root" in c.config.__dataclass_fields__)


packed = partial(gzip.compress, mtime=0)  # no time of day in the names of tests


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with nothing instead of 00000803"),
        (b"<html>quota exceeded", "begins with 3c68746d instead of"),
        (b"\0\0\x08\x03\0\0", "header is cut off"),
        (idx(np.zeros((2, 3, 3), np.uint8))[:-1], "promises 34 bytes and it has 33"),
        (idx(np.zeros((2, 3, 3), np.uint8)) + b"x", "promises 34 bytes and it has 35"),
        (packed(idx(np.zeros((2, 3, 3), np.uint8))[:-1]), "18 bytes of data and it has 17"),
        (packed(idx(np.zeros((2, 3, 3), np.uint8)) + b"x"), "18 bytes of data and it has more"),
        (packed(idx(np.zeros((2, 3, 3), np.uint8)))[:-9], "is no whole idx file"),
        (packed(b"\0\0\x08\x03" + b"\xff" * 12), "promises 79228162458924105385300197375 bytes"),
    ],
)
def test_broken_idx_files_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(MissingError, match=words) as caught:
        read_idx(tmp_path / "file", 3)
    assert "download it again" in str(caught.value)


def test_images_and_labels_must_match(no_roots: Path) -> None:
    raw = write_mnist(no_roots)
    labels = raw / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(MissingError, match=r"holds \(12, 28, 28\) images and .* 3 labels"):
        create("mnist", root=no_roots)
    labels.write_bytes(idx(np.full(12, 10, np.uint8)))
    with pytest.raises(MissingError, match=r"holds the label 10, beyond 0 \.\. 9"):
        create("mnist", root=no_roots)


def test_stacked_mnist_stacks_three_digits(no_roots: Path) -> None:
    write_mnist(no_roots)
    plain, labelled = create("stacked-mnist", root=no_roots), create("stacked-mnist", root=no_roots, labelled=True)
    x, y = labelled.draw(200, torch.Generator().manual_seed(0))
    assert x.shape == (200, 3, 28, 28)
    assert plain.draw(2, torch.Generator()).y is None
    assert torch.equal(plain.draw(200, torch.Generator().manual_seed(0)).x, x)
    pixels = from_unit(x)
    for channel, factor in enumerate((100, 10, 1)):
        matches = (pixels[:, None, channel] == labelled.images[None, :, 0]).all(-1).all(-1)
        assert torch.equal(labelled.labels[matches.int().argmax(1)], y // factor % 10)


@with_mnist
def test_real_mnist() -> None:
    test = create("mnist", split="test", download=False)
    assert test.length == 10_000
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.samples.float().mean().item() / 255 == pytest.approx(0.1325, abs=1e-4)
    stream = DataStream(test, 100, 0)
    labels = [label for _ in range(100) if (y := stream.next().y) is not None for label in y.tolist()]
    assert sorted(labels) == sorted(test.labels.tolist())
