"""The user's own folders, zips and arrays as data sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.api import Spec, UsageError
from ganzoo.data import ArrayDataset
from ganzoo.data.naming import data_settings, reference_settings
from ganzoo_datasets import FolderConfig, NpzConfig, folder_spec, npz_spec
from ganzoo_datasets.own import Folder, Npz


def labels_of(dataset: ArrayDataset) -> list[int] | None:
    return None if dataset.labels is None else dataset.labels.tolist()


def folder(**values: Any) -> Folder:
    config = FolderConfig(**values)
    return Folder(config, folder_spec(config))


def npz(**values: Any) -> Npz:
    config = NpzConfig(**values)
    return Npz(config, npz_spec(config))


def test_folder_has_labels(tmp_path: Path) -> None:
    for i, name in enumerate(("b/1", "a/1", "b/2")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (i, 0, 0)).save(tmp_path / f"{name}.png")
    dataset = folder(path=tmp_path)
    assert dataset.spec == Spec((3, 20, 20), 2)
    assert dataset.samples[:, 0, 0, 0].tolist() == [1, 0, 2]
    assert labels_of(dataset) == [0, 1, 1]
    unlabelled = folder(path=tmp_path, labels=False, size=8, channels="grey")
    assert unlabelled.spec == Spec((1, 8, 8))
    assert unlabelled.labels is None


def test_folder_skips_what_is_broken_together_with_its_label(tmp_path: Path) -> None:
    for name in ("a/1", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    (tmp_path / "a" / "0.png").write_bytes(b"broken")
    dataset = folder(path=tmp_path, on_bad_image="skip")
    assert labels_of(dataset) == [0, 1]
    with pytest.raises(UsageError, match=r"a/0\.png"):
        folder(path=tmp_path)


def test_own_data_need_a_path(tmp_path: Path) -> None:
    for ask in (folder, npz):
        with pytest.raises(UsageError, match="needs the option path"):
            ask()
    with pytest.raises(UsageError, match="There is no folder or zip"):
        folder(path=tmp_path / "none")
    with pytest.raises(UsageError, match="There is no file"):
        npz(path=tmp_path / "none.npz")


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path / "a.npz", **arrays)
    return path / "a.npz"


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
PIXELS[0, 0, 0] = (0, 128, 255)


@pytest.mark.parametrize(
    "array",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        np.asfortranarray(PIXELS),
        PIXELS.astype(np.int64),
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32).transpose(0, 3, 1, 2),
        PIXELS / 127.5 - 1,
        PIXELS.astype(np.float32),
    ],
)
def test_npz_images_in_all_layouts_and_ranges(tmp_path: Path, array: Any) -> None:
    dataset = npz(path=save(tmp_path, x_train=array, y_train=np.array([[0], [1], [2], [1], [0]])))
    assert dataset.spec == Spec((3, 8, 12), 3)
    assert np.array_equal(dataset.samples, PIXELS.transpose(0, 3, 1, 2))
    assert labels_of(dataset) == [0, 1, 2, 1, 0]


def test_npz_grey_bool_and_points(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grey = npz(path=save(tmp_path, PIXELS=PIXELS[..., 0]), images="PIXELS")
    assert grey.spec == Spec((1, 8, 12))
    assert np.array_equal(grey.samples[:, 0], PIXELS[..., 0])
    masks = npz(path=save(tmp_path, arr_0=PIXELS[..., 0] > 127))
    assert set(masks.samples.flatten().tolist()) == {0, 255}
    assert not caplog.records
    npz(path=save(tmp_path, arr_0=np.eye(8, dtype=np.uint8)[None].repeat(5, 0)))
    assert "If 1 means white, store it as bool." in caplog.text
    points = npz(path=save(tmp_path, x=np.array([[1.5, -7.0], [3.0, 4.0]]), other=np.zeros(2)), labels=None)
    assert points.spec == Spec((2,))
    assert points.fetch(torch.tensor([0])).x.tolist() == [[1.5, -7.0]]


@pytest.mark.parametrize(
    ("arrays", "values", "words"),
    [
        ({"z": PIXELS}, {}, "no samples called images or x or arr_0 or x_train; it has z: set the option images"),
        ({"x": PIXELS}, {"images": "y"}, "has no array 'y'; it has x"),
        ({"x": PIXELS}, {"labels": "y"}, "has no array 'y'; it has x"),
        ({"x": np.array([{}, 1])}, {}, "is of object; store plain numbers"),
        ({"x": np.zeros((5, 2), np.int64)}, {}, "which is no data set"),
        ({"x": np.zeros((5, 8, 8, 8))}, {}, "which is no data set"),
        ({"x": np.zeros((0, 8, 8))}, {}, "is empty"),
        ({"x": PIXELS, "y": np.zeros(4, np.int64)}, {}, r"labels of 5 samples are \(5,\)"),
        ({"x": PIXELS, "y": np.zeros(5)}, {}, "of float64; labels"),
        ({"x": PIXELS, "y": np.arange(5) - 1}, {}, "labels from -1 to 3; number the classes from 0"),
        ({"x": PIXELS, "y": np.arange(5) * 999}, {}, "labels from 0 to 3996"),
        ({"x": PIXELS.astype(np.int16) + 1}, {}, r"pixels from 1 to 256; bring them into one of \[0, 255\]"),
        ({"x": PIXELS - 2.0}, {}, r"\[0, 1\], \[-1, 1\], \[0, 255\]"),
        ({"x": np.full((2, 8, 8), np.nan)}, {}, "pixels that are not finite"),
        ({"x": np.full((2, 2), np.inf)}, {}, "not finite"),
    ],
)
def test_npz_that_is_no_data_set_is_refused(
    tmp_path: Path, arrays: dict[str, Any], values: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        npz(path=save(tmp_path, **arrays), **values)


def test_broken_npz_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path, x=PIXELS).read_bytes()
    broken = tmp_path / "broken.npz"
    for data in (b"", whole[:100], whole[:200] + b"\xff" * 50 + whole[250:]):
        broken.write_bytes(data)
        with pytest.raises(UsageError, match=r"broken\.npz cannot be read as an \.npz"):
            npz(path=broken)


def test_specs_of_folders_and_arrays_need_no_torch(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "1.png")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 8, 8), np.uint8))
    code = f"""
import sys, ganzoo_datasets as d
from pathlib import Path
at = Path({str(tmp_path)!r})
assert str(d.folder_spec(d.FolderConfig(path=at))) == str(d.npz_spec(d.NpzConfig(path=at / "a.npz"))) == "1x8x8"
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_npz_that_is_distorted_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save(tmp_path, x=PIXELS)
    npz(path=path)
    assert not caplog.records
    assert npz(path=path, size=8).spec == Spec((3, 8, 8))
    assert f"The images of {path} are 8x12 (height x width) and are distorted to 8x8; without" in caplog.text


def test_a_folder_that_is_called_as_a_data_set_is_taken_where_that_needs_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data_settings("images") == {"data": "images"}
    for name in ("images", "folder", "npz", "digits"):
        (tmp_path / name).mkdir()
    for name in ("images", "folder", "npz"):
        assert data_settings(name) == {"data": "folder", "data.path": name}
    assert data_settings("digits") == {"data": "digits"}, "this one is complete"
    assert reference_settings("images", "--against") == ("folder", {"path": "images"})


def test_a_home_that_nobody_has_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for ask, name in ((folder, "~nobody-of-that-name/x"), (npz, "~nobody-of-that-name/x.npz")):
        with pytest.raises(UsageError, match="Nobody knows whose home ~nobody-of-that-name in "):
            ask(path=Path(name))
    with pytest.raises(UsageError, match="no data set, folder or file"):
        data_settings("~nobody-of-that-name/x")
    with pytest.raises(UsageError):
        reference_settings("~nobody-of-that-name/x:1", "--against")
