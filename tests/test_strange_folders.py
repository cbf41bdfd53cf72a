"""Folders and zips as people have them: odd links and names, pictures that are turned, files that come and go."""

from __future__ import annotations

import logging
import os
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

import ganzoo
from ganzoo.api import Spec
from ganzoo.cli import main
from ganzoo.data import ArrayDataset, decode_images, list_images, memory
from ganzoo.data.images import _spread, choose_shape, common_shape, decode_all
from ganzoo.data.index import ImageIndex
from ganzoo.data.picture import decode
from ganzoo.data.stream import DataStream
from ganzoo.errors import GanzooError, Interrupted, UsageError
from ganzoo.registry import build, registry
from ganzoo.training import checkpoint

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs the links and names of POSIX")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def save(path: Path, level: int, mode: str = "L", size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path)
    return path


@posix
def test_links_that_lead_nowhere_hide_nothing_beside_them(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "p" / name / "1.png", 9)
        for odd in ("0", "m", "z"):
            (tmp_path / "p" / name / odd).symlink_to(odd)  # to itself
    assert list_images(tmp_path / "p").names == ("a/1.png", "b/1.png", "c/1.png")
    (tmp_path / "p" / "a" / "2.png").symlink_to("2.png")
    with pytest.raises(UsageError, match=r"The image a/2\.png in "):
        decode_images(list_images(tmp_path / "p"), (1, 8, 8))


def test_a_folder_that_may_not_be_read_is_told_of_and_one_that_fails_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "p" / "a.png", 9)
    save(tmp_path / "p" / "locked" / "b.png", 9)
    real, err = os.scandir, PermissionError(13, "Permission denied")

    def scandir(path: Path) -> object:
        if path.name == "locked":
            raise err
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert list_images(tmp_path / "p").names == ("a.png",)
    assert f"The folder {tmp_path / 'p' / 'locked'} is left out: you have no right to read it." in caplog.text
    err = OSError(5, "Input/output error")  # type: ignore[assignment]
    with pytest.raises(UsageError, match="locked cannot be read: Input/output error"):
        list_images(tmp_path / "p")


@posix
def test_class_names_that_are_no_unicode_come_through_a_copy(tmp_path: Path) -> None:
    try:
        save(tmp_path / "p" / os.fsdecode(b"d\xe9j\xe0") / "1.png", 9)
    except OSError:
        pytest.skip("this file system has Unicode names only")
    save(tmp_path / "p" / "tea" / "1.png", 9)
    assert list_images(tmp_path / "p").classes == ("d\\udce9j\\udce0", "tea")
    assert main(["data", "prepare", "p", "out"]) == 0
    assert main(["data", "check", "out"]) == 0
    assert main(["data", "show", "out", "--json"]) == 0


def test_zips_whose_names_begin_with_a_dot_and_a_slash(tmp_path: Path) -> None:
    data = save(tmp_path / "1.png", 9).read_bytes()
    with zipfile.ZipFile("p.zip", "w") as archive:
        for name in ("./cats/1.png", "./dogs/1.png", "./.hidden/1.png", "__MACOSX/./cats/._1.png"):
            archive.writestr(name, data)
    files = list_images(tmp_path / "p.zip")
    assert files.names == ("./cats/1.png", "./dogs/1.png")
    assert files.classes == ("cats", "dogs")
    assert decode_images(files, (1, 8, 8))[1] == [0, 1]


def test_a_zip_whose_names_are_not_in_the_encoding_that_they_promise(tmp_path: Path) -> None:
    with zipfile.ZipFile("p.zip", "w") as archive:
        archive.writestr("\u00e9\u00e9.png", b"")
    Path("p.zip").write_bytes(Path("p.zip").read_bytes().replace("\u00e9\u00e9".encode(), b"\xff\xff\xff\xff"))
    with pytest.raises(UsageError, match=r"p\.zip is neither a folder nor a zip that can be read"):
        list_images(Path("p.zip"))


def turned(path: Path, how: str) -> None:
    """A picture of 24x40 that is seen as 40x24, by EXIF data in one place or another."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (24, 40), (9, 99, 199))
    if how in ("tif", "jpg"):
        image.save(path.with_suffix(f".{how}"), exif=exif)
        return
    if how == "png at its end":
        image.save(path.with_suffix(".png"), exif=exif)
        data = path.with_suffix(".png").read_bytes()
        at = data.index(b"eXIf") - 4
        length = 12 + int.from_bytes(data[at : at + 4], "big")
        chunk, rest = data[at : at + length], data[:at] + data[at + length :]
        end = rest.index(b"IEND") - 4
        path.with_suffix(".png").write_bytes(rest[:end] + chunk + rest[end:])
        return
    info = PngImagePlugin.PngInfo()
    if how == "png by ImageMagick":
        raw = (b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")).hex()
        info.add_text("Raw profile type exif", f"\nexif\n{len(raw) // 2:8d}\n{raw}\n", zip=True)
    else:
        info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta xmlns:tiff="t" tiff:Orientation="6"></x:xmpmeta>')
    image.save(path.with_suffix(".png"), pnginfo=info)


@pytest.mark.parametrize("how", ["jpg", "tif", "png at its end", "png by ImageMagick", "png by Adobe"])
def test_the_size_is_that_of_what_is_decoded_however_it_is_turned(tmp_path: Path, how: str) -> None:
    (tmp_path / "p").mkdir()
    turned(tmp_path / "p" / "1", how)
    files = list_images(tmp_path / "p")
    assert common_shape(files) == (3, 24, 40)
    pixels, _ = decode_images(files, (3, 24, 40))
    assert pixels.std(axis=(2, 3)).max() < 4, "nothing was cut off or resized"


def test_exif_data_that_nobody_understands_are_no_fault_of_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "white").save(tmp_path / "1.jpg", exif=b"Exif\0\0XX*\0\1\2\3")
    pixels, kept = decode_images(list_images(tmp_path), (3, 8, 8))
    assert kept == [0]
    assert pixels.min() > 250
    assert common_shape(list_images(tmp_path))[1:] == (8, 8)


def test_sixteen_bits_with_a_transparent_value(tmp_path: Path) -> None:
    values = np.full((8, 8), 1000, np.uint16)
    values[0] = 7
    Image.fromarray(values).save(tmp_path / "1.png", transparency=7)
    pixels, _ = decode_images(list_images(tmp_path), (1, 8, 8))
    assert pixels[0, 0, 0].tolist() == [255] * 8
    assert pixels[0, 0, 1].tolist() == [round(1000 * 255 / 65535)] * 8


@pytest.mark.parametrize(("length", "count"), [(127, 64), (511, 256), (3, 64), (64, 64), (1, 1), (0, 4)])
def test_a_survey_is_evenly_spaced(length: int, count: int) -> None:
    chosen = _spread(length, count)
    assert len(chosen) == min(length, count)
    assert chosen == sorted(set(chosen))
    if chosen:
        gaps = np.diff([*chosen, length])
        assert max(gaps) - min(gaps) <= 1


def test_colour_in_the_last_half_is_seen(tmp_path: Path) -> None:
    for number in range(64):
        save(tmp_path / "bw" / f"{number}.png", number)
        if number:
            Image.new("RGB", (8, 8), (number, 0, 9)).save(save(tmp_path / "colour" / f"{number}.png", 0))
    assert choose_shape(list_images(tmp_path)) == (3, 8, 8)


@pytest.mark.parametrize("memory", ["hold", "stream"])
def test_files_that_are_replaced_between_two_runs_of_a_process_are_seen(tmp_path: Path, memory: str) -> None:
    for number in range(4):
        save(tmp_path / "p" / "cats" / f"{number}.png", 10)
        save(tmp_path / "p" / "dogs" / f"{number}.png", 10)

    def first() -> float:
        options = {"path": str(tmp_path / "p"), "memory": memory, "workers": 0}
        choice = registry().choose("dataset", "folder", options)
        assert choice.component.spec is not None
        data = build(choice, choice.component.spec(choice.config))
        assert isinstance(data.length, int)
        lengths.append(data.length)
        return float(data.fetch(torch.tensor([0])).x[0, 0, 0, 0])

    lengths: list[int] = []
    before = first()
    path = save(tmp_path / "p" / "cats" / "0.png", 250)
    os.utime(path, (1, 1))
    then = first()
    save(path, 130)
    os.utime(path, (1, 1))  # same size, same date
    assert before < -0.9
    assert then > 0.9
    assert abs(first()) < 0.1
    save(tmp_path / "p" / "dogs" / "new.png", 10)
    first()
    assert lengths == [8, 8, 8, 9]


def test_a_file_that_is_away_for_a_moment_is_not_bad_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        save(tmp_path / "p" / f"{number}.png", 9)
    files = list_images(tmp_path / "p")
    (tmp_path / "p" / "1.png").rename(tmp_path / "1.png")
    pixels, kept, bad = decode_all(files, (1, 8, 8), "crop", "skip")
    assert kept == [0, 2]
    assert len(pixels) == 2
    assert [lasts for _, lasts in bad.values()] == [False]


def test_a_signal_while_images_are_looked_at_is_no_fault_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "p" / "1.png", 9)

    def stopped(*_: object) -> tuple[int, int]:
        raise Interrupted("SIGTERM: stopped.", 15)

    monkeypatch.setattr(ImageIndex, "size_of", stopped)
    with pytest.raises(Interrupted):
        choose_shape(list_images(tmp_path / "p"), on_bad_image="skip")


def test_bad_images_cost_no_second_copy_of_the_good_ones(tmp_path: Path) -> None:
    for number in range(9):
        save(tmp_path / "p" / f"{number}.png", 20 * number)
    for number in (0, 3, 4, 8):
        (tmp_path / "p" / f"{number}.png").write_bytes(b"no image")
    pixels, kept, bad = decode_all(list_images(tmp_path / "p"), (1, 8, 8), "crop", "skip")
    assert kept == [1, 2, 5, 6, 7]
    assert pixels[:, 0, 0, 0].tolist() == [20 * number for number in kept]
    assert pixels.base is not None
    assert len(pixels.base) == 9
    with pytest.raises(UsageError, match=r"The image 0\.png in "):
        decode_all(list_images(tmp_path / "p"), (1, 8, 8), "crop", "refuse")
    assert sorted(bad) == ["0.png", "3.png", "4.png", "8.png"]


def test_labels_of_held_samples_are_found_without_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ArrayDataset(torch.zeros(5, 1, 4, 4, dtype=torch.uint8), torch.arange(5) % 2, Spec((1, 4, 4), 2))
    monkeypatch.setattr(ArrayDataset, "fetch", lambda *_: pytest.fail("an image was fetched"))
    labels = data.labels_of(torch.tensor([3, 0]))
    assert labels is not None
    assert labels.tolist() == [1, 0]


def test_images_that_vanish_as_a_whole_are_one_sentence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(8):
        save(tmp_path / "p" / f"{number}.png", 9)
    choice = registry().choose("dataset", "folder", {"path": str(tmp_path / "p"), "memory": "stream", "workers": 0})
    assert choice.component.spec is not None
    data = build(choice, choice.component.spec(choice.config))
    (tmp_path / "p").rename(tmp_path / "gone")
    with pytest.raises(GanzooError, match="are not there any more"):
        DataStream(data, 4, 0, torch.device("cpu")).next()


def test_a_run_does_not_go_on_with_labels_that_mean_something_else(tmp_path: Path) -> None:
    for name in ("cats/1", "cats/2", "dogs/1", "dogs/2"):
        save(tmp_path / "p" / f"{name}.png", 9)
    command = ["run", "--data", "p", "--gen", "cgan", "--disc", "cgan", "--gen.width=4", "--disc.width=4", "--name=it"]
    command += ["--batch-size=2", "--samples=2", "--quiet"]
    assert main([*command, "--steps", "1"]) == 0
    (tmp_path / "p" / "cats").rename(tmp_path / "p" / "zebras")
    with pytest.raises(UsageError, match=r"other classes .* \(cats is dogs now, dogs is zebras now\), and labels are"):
        ganzoo.train(resume="runs/it", steps=2)
    (tmp_path / "p" / "zebras").rename(tmp_path / "p" / "cats")
    ganzoo.train(resume="runs/it", steps=2)


def test_stray_images_do_not_matter_to_a_copy_without_labels(tmp_path: Path) -> None:
    for name in ("cats/1", "dogs/1", "stray"):
        save(tmp_path / "p" / f"{name}.png", 9)
    assert main(["data", "prepare", "p", "out"]) == 2
    assert main(["data", "prepare", "p", "out", "--cond", "off"]) == 0


def test_a_limit_of_a_group_within_a_group_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def group(path: Path, limit: str, used: int) -> None:
        path.mkdir(parents=True)
        (path / "memory.max").write_text(f"{limit}\n")
        (path / "memory.current").write_text(f"{used}\n")
        (path / "memory.stat").write_text("anon 1\ninactive_file 1000\n")

    group(tmp_path / "top", "max", 0)
    group(tmp_path / "top" / "slurm", "900000", 400000)
    group(tmp_path / "top" / "slurm" / "job", "max", 0)
    (tmp_path / "self").write_text("12:cpu,cpuacct:/x\n0::/slurm/job\n")
    files = memory._GROUPS[""][1:]
    monkeypatch.setattr(memory, "_GROUPS", {"": (str(tmp_path / "top"), *files)})
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "self")
    assert memory.free_memory() == 501000
    (tmp_path / "self").write_text("0::/\n")
    assert memory.free_memory() > 501000


def test_a_run_that_goes_on_with_other_data_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(8):
        save(tmp_path / "p" / f"{number}.png", 30 * number)
    small = {"data": "folder", "data.path": str(tmp_path / "p"), "gen.width": 4, "disc.width": 4, "batch_size": 4}
    settings = {**small, "out": tmp_path / "runs", "samples": 4, "device": "cpu"}
    caplog.set_level(logging.INFO, "ganzoo")
    run = ganzoo.train(settings, name="it", steps=2)
    ganzoo.train({"device": "cpu"}, resume=run.path, steps=3)
    assert "samples now" not in caplog.text
    save(tmp_path / "p" / "new.png", 9)
    ganzoo.train({"device": "cpu"}, resume=run.path, steps=4)
    assert "Warning: The data set has 9 samples now, and had 8 when " in caplog.text


def test_images_that_come_between_two_requests_are_seen(tmp_path: Path) -> None:
    def add(name: str, *numbers: int) -> None:
        for number in numbers:
            save(tmp_path / "photos" / name / f"{number}.png", number, size=(16, 16))

    add("a", 1, 2, 3)
    add("b", 1, 2, 3)
    settings = {"data": "folder", "data.path": tmp_path / "photos", "run.out": tmp_path / "runs", "run.steps": 1}
    small = {"gen.width": 8, "disc.width": 8, "run.batch_size": 4}
    with pytest.raises(UsageError, match="gradient penalty"):
        ganzoo.train({**settings, "loss": "wgan-gp", "disc.norm": "batch"})
    add("a", *range(4, 10))
    run = ganzoo.train({**settings, **small})
    assert checkpoint.load(run.checkpoints / checkpoint.name_of(1)).state["samples"] == 12


@pytest.mark.parametrize(("width", "height"), [(400, 3), (3, 400), (2000, 5), (200, 100), (64, 64)])
def test_padded_images_of_any_length_are_seen(width: int, height: int) -> None:
    file = BytesIO()
    Image.new("L", (width, height), 200).save(file, "PNG")
    pixels = decode(file.getvalue(), (1, 64, 64), "pad")
    assert pixels.max() == 200
    assert (pixels[0].max(1) == 200).sum() == max(1, round(64 * min(1, height / width)))


def test_floats_below_black_are_told_of() -> None:
    file = BytesIO()
    Image.fromarray(np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)).save(file, "TIFF")
    with pytest.raises(ValueError, match="it has pixels from -1 to 1, where 0 to 1 was expected"):
        decode(file.getvalue(), (1, 16, 16))
