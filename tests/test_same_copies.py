"""When a copy is the same copy: by its images and what is done to them, however they are named."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import zipfile
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganzoo.api import Spec
from ganzoo.cli import main
from ganzoo.data.copies import read_copy
from ganzoo.data.files import list_images
from ganzoo.data.prepare import from_files
from ganzoo.data.prepare import prepare as write
from ganzoo.data.workers import Decoders

COUNT = 12
ROUNDS = 12


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


def test_a_copy_of_a_copy_may_leave_the_labels_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, file in enumerate(sorted(photos.iterdir())):
        (photos / "ab"[number % 2]).mkdir(exist_ok=True)
        file.rename(photos / "ab"[number % 2] / file.name)
    assert prepare("photos", "labelled") == 0
    assert prepare("labelled", "copy", "--cond", "off") == 0
    assert main(["data", "show", "copy"]) == 0
    assert "none" in capsys.readouterr().out
    assert main(["data", "check", "copy"]) == 0
    assert read_copy(Path("copy")).classes == ()


def race(folder: Path, barrier: Barrier) -> None:
    """Make copies, each when the other process begins with the same one."""
    for number in range(ROUNDS):
        files = list_images(folder)
        original = from_files(files, Spec((1, 16, 16)), Decoders(files, (1, 16, 16), "crop", 0), "refuse", {})
        barrier.wait(60)
        write(original, folder.parent / f"copy{number}", shard_bytes=512)


def test_two_processes_that_make_the_same_copy_both_have_it(photos: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    both = [context.Process(target=race, args=(photos, barrier)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert [each.exitcode for each in both] == [0, 0]
    for number in range(ROUNDS):
        copy = Path(f"copy{number}")
        assert main(["data", "check", str(copy)]) == 0
        names = {f"images-{part:05d}.safetensors" for part in range(6)}
        assert {file.name for file in copy.iterdir()} == {"ganzoo-data.json", *names}
    assert not list(Path().glob(".copy*")), "nothing is left of the making"


def test_what_was_not_cleared_away_is_when_the_copy_is_asked_for_again(photos: Path) -> None:
    assert prepare("photos", "copy") == 0
    Path("copy/progress.json").write_text("{}", encoding="utf-8")
    assert prepare("photos", "copy") == 0
    assert not Path("copy/progress.json").exists()


def test_names_that_do_not_fit_the_record_are_told_of_first(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.zeros((8, 8), np.uint8)
    with zipfile.ZipFile("many.zip", "w") as archive:
        Image.fromarray(pixels).save("one.png")
        data = Path("one.png").read_bytes()
        for number in range(6000):
            archive.writestr(f"{number:05d}{'x' * 195}/1.png", data)
    assert prepare("many.zip", "copy") == 2
    said = capsys.readouterr().err
    assert "The names of 6000 classes make the record of this copy 1.2 MiB long, and it may have 1" in said
    assert "--cond off" in said
    assert not list(Path().glob(".copy*")), "nothing was done"
    assert prepare("many.zip", "copy", "--cond", "off") == 0


def test_places_that_cannot_be_are_told_of_first(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("prepare", "photos", "~nobody-of-that-name/x"), ("show", "~nobody-of-that-name/x")):
        assert main(["data", *words]) == 2
        said = capsys.readouterr().err
        assert "Nobody knows whose home ~nobody-of-that-name in ~nobody-of-that-name" in said
        assert said.count("\n") == 1
    Path("link").symlink_to("nowhere")
    assert prepare("photos", "link") == 2
    assert "is a link that leads nowhere: remove it, or choose another name" in capsys.readouterr().err
    assert not list(Path().glob(".link*"))
