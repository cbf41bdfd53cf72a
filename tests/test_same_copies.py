"""When a copy is the same copy: by its images and what is done to them, however they are named."""

from __future__ import annotations

import logging
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ganzoo.cli import main

COUNT = 12


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        Image.new("L", (16, 16), 10 * number).save(folder / f"{number:02}.png")
    return folder


def prepare(*words: str) -> int:
    return main(["data", "prepare", "--workers", "0", *words])


def test_the_name_of_the_source_and_what_is_the_default_anyway_do_not_count(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("photos", "copy") == 0
    for words in (("photos/",), ("./photos",), (str(photos),), ("photos", "--size", "16"), ("photos", "--fit", "crop")):
        assert prepare(*words, "copy") == 0
    assert prepare("photos", "--size", "8", "copy") == 2
    assert "was not made from the same images" in capsys.readouterr().err
    Path("empty").mkdir()
    assert prepare("photos", "empty") == 2
    assert "is no prepared copy" in capsys.readouterr().err


def test_a_broken_image_costs_nothing_of_what_was_done(
    photos: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "11.png").write_bytes(b"no image")
    size = ("--channels", "grey")
    assert prepare("photos", "copy", "--size", "16", *size) == 2
    assert "11.png" in capsys.readouterr().err
    (left,) = Path.cwd().glob(".copy.*.partial")
    before = {path.name for path in left.iterdir()}
    with caplog.at_level(logging.WARNING):
        assert prepare("photos", "copy", "--size", "16", *size, "--on-bad-image", "skip") == 0
    assert before
    assert "unfinished copy" not in caplog.text
    assert "1 of 12 images was left out" in caplog.text
    assert not list(Path.cwd().glob(".copy.*.partial"))
    assert prepare("photos", "copy", "--size", "16", *size) == 2, "who would not skip it is told"


def test_a_copy_that_leaves_images_out_is_not_taken_for_a_whole_one(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile("good.zip", "w") as archive:
        for file in sorted(photos.iterdir()):
            archive.write(file, file.name)
        place = archive.infolist()[5].header_offset
    data = bytearray(Path("good.zip").read_bytes())
    data[place + 60] ^= 255
    Path("used.zip").write_bytes(data)
    assert prepare("used.zip", "copy", "--size", "16", "--on-bad-image", "skip") == 0
    shutil.copy("good.zip", "used.zip")
    assert prepare("used.zip", "copy", "--size", "16") == 2
    assert "leaves 1 of them out, which could not be read when it was made" in capsys.readouterr().err
    assert prepare("used.zip", "whole", "--size", "16") == 0
    shutil.copy("good.zip", "moved.zip")
    assert prepare("moved.zip", "whole", "--size", "16") == 0, "it is what a zip holds that counts"
