"""Some of the samples that are there: a part of the whole, and the same one by whatever name or path."""

from __future__ import annotations

from pathlib import Path
from shutil import make_archive
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.api import Spec
from ganzoo.cli import main
from ganzoo.data import ArrayDataset
from ganzoo.data.files import is_copy
from ganzoo.evaluation.reference import Reference, open_reference
from ganzoo.evaluation.subjects import Arrays, Pictures, Subject, open_real, open_subject, part_of
from ganzoo.registry import build, registry

CLASSES, EACH = 4, 150
COUNT = CLASSES * EACH
SOME = 80


def sorted_by_class() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images ``[N, H, W, 1]``, each with its class in its brightness, and the classes one after the other."""
    rng = np.random.default_rng(0)
    brightness = 60 * np.arange(COUNT) // EACH
    return (rng.integers(0, 30, (COUNT, 8, 8, 1)) + 60 * (brightness // 60)[:, None, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images as a folder of class folders, a zip, an npz and a prepared copy."""
    home = tmp_path_factory.mktemp("parts")
    images = sorted_by_class()
    for number, image in enumerate(images):
        folder = home / "photos" / f"class {number // EACH}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{number:04}.png")
    make_archive(str(home / "photos"), "zip", home / "photos")
    np.savez(home / "photos.npz", images=images, labels=np.arange(COUNT) // EACH)
    assert main(["data", "prepare", str(home / "photos"), str(home / "copy")]) == 0
    return home


def opened(path: Path) -> Subject:
    """The images as real data, of which the classes are known; a copy is read alike, whatever it is for."""
    return open_subject(path, say=print) if is_copy(path) else open_real(path)


def drawn(subject: Subject | Reference, n: int, only: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    found = subject.samples(n, only) if isinstance(subject, Reference) else subject.samples(n, 0, only)
    images, labels = zip(*found, strict=True)
    return torch.cat(images), torch.cat([y for y in labels if y is not None])


@pytest.mark.parametrize("name", ["photos", "photos.zip", "photos.npz", "copy"])
def test_some_of_the_images_are_of_all_classes_and_have_their_labels(home: Path, name: str) -> None:
    subject = opened(home / name)
    images, labels = drawn(subject, SOME)
    assert len(images) == SOME
    assert torch.bincount(labels, minlength=CLASSES).min() > 4, "of each class some"
    assert torch.equal(images.amin((1, 2, 3)) // 60, labels.to(torch.uint8)), "each with its own label"
    assert torch.equal(labels, labels.sort().values), "in their order, as they lie on the disk"
    whole, _ = drawn(subject, COUNT)
    assert torch.equal(whole.permute(0, 2, 3, 1), torch.from_numpy(sorted_by_class()))
    assert torch.equal(images, whole[part_of(SOME, COUNT)])


@pytest.mark.parametrize("name", ["photos", "photos.zip", "photos.npz", "copy"])
def test_chunks_are_of_the_same_part(home: Path, name: str) -> None:
    subject = opened(home / name)
    n = 550
    images, labels = drawn(subject, n)
    for only in (torch.arange(256), torch.arange(256, 512), torch.arange(512, n)):
        some, theirs = drawn(subject, n, only)
        assert torch.equal(some, images[only])
        assert torch.equal(theirs, labels[only])


def test_data_by_name_and_by_path_are_drawn_alike(home: Path) -> None:
    own = Reference("path", Pictures(home / "photos"))
    choice = registry().choose("dataset", "folder", {"path": str(home / "photos"), "size": 8, "channels": "grey"})
    by_name = Reference("name", build(choice, choice.component.spec(choice.config)))  # type: ignore[misc]
    arrays = Reference("arrays", Arrays(home / "photos.npz"))
    images, labels = drawn(own, SOME)
    for other in (by_name, arrays, open_reference(str(home / "copy"), Pictures(home / "photos"))):
        assert other is not None
        theirs = drawn(other, SOME)
        assert torch.equal(theirs[0], images)
        assert torch.equal(theirs[1], labels)


def test_no_more_than_there_are() -> None:
    pixels = torch.zeros(5, 1, 8, 8, dtype=torch.uint8)
    assert sum(len(x) for x, _ in Reference("few", ArrayDataset(pixels, None, Spec((1, 8, 8)))).samples(9)) == 5


def test_another_part_has_other_features(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept for the first images is not taken for the part that is drawn."""
    monkeypatch.setenv("GANZOO_CACHE", str(home / "cache"))
    monkeypatch.setattr("ganzoo.evaluation.features._WORTH_KEEPING", 0.0)
    asked: dict[str, Any] = {"against": str(home / "photos"), "samples": SOME, "real_samples": SOME}
    asked |= {"metrics": ["fid"], "features": "digit-cnn", "device": "cpu"}
    with monkeypatch.context() as patch:
        patch.setattr("ganzoo.evaluation.subjects.part_of", lambda n, _: torch.arange(n))
        first = ganzoo.evaluate(home / "photos.npz", **asked)
    warm = ganzoo.evaluate(home / "photos.npz", **asked)
    monkeypatch.setenv("GANZOO_CACHE", str(home / "cold"))
    cold = ganzoo.evaluate(home / "photos.npz", **asked)
    assert warm.scores == cold.scores
    assert warm.protocol == cold.protocol
    assert warm.protocol["real_digest"] != first.protocol["real_digest"]
