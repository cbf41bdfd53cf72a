"""Folders and zips of images: listing, classes, decoding, and what is refused."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganzoo.api import Spec, UsageError
from ganzoo.data import choose_shape, decode_images, list_images
from ganzoo.data.files import MAX_FILE_BYTES


def picture(size: tuple[int, int] = (16, 16), mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Random pixels in one of the modes that hold 8 bits."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0]) if bands == 1 else (size[1], size[0], bands)
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(array).convert(mode)


def save(image: Image.Image, path: Path, **arguments: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **arguments)
    return path


def test_folders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/deep/1.png", "b/1.PNG", "a/.hidden.png", "__MACOSX/a/x.png", "a/notes.txt"):
        save(picture(), tmp_path / name, format="PNG")
    files = list_images(tmp_path)
    assert files.names == ("a/deep/1.png", "b/1.PNG", "b/2.png")
    assert files.classes == ("a", "b")
    assert files.labels == (0, 1, 1)
    assert list_images(tmp_path, labels=False).labels is None
    assert list_images(tmp_path / "b").labels is None


def test_folders_and_files_that_look_like_a_mistake_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("Test/1.png", "train/1.png", "train/2.HEIC", "train/3.heic", "train/4.avif", "train/5.txt"):
        save(picture(), tmp_path / name, format="PNG")
    assert list_images(tmp_path).classes == ("Test", "train")
    left_out, parts = (record.getMessage() for record in caplog.records)
    assert left_out.endswith("are left out: 1 end in .avif, 2 end in .heic; convert them to PNG or JPEG.")
    assert "The folders Test, train of" in parts
    assert f"name one of them ({tmp_path / 'train'})" in parts
    caplog.clear()
    save(picture(), tmp_path / "cats" / "1.png")
    list_images(tmp_path / "train", labels=False)
    assert list_images(tmp_path).classes == ("Test", "cats", "train")
    assert "look like parts" not in caplog.text


def test_a_zip_of_one_folder_of_classes_is_that_folder(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    data = BytesIO()
    picture().save(data, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("set/b/1.png", "set/a/1.png", "__MACOSX/set/a/._1.png", "set\\a\\2.png", "../set/readme.md"):
            archive.writestr(name, data.getvalue())
    files = list_images(path)
    assert files.classes == ("a", "b")
    assert len(files) == 3
    pixels, kept = decode_images(files, (3, 16, 16))
    assert kept == [0, 1, 2]
    assert np.array_equal(pixels[2], np.asarray(picture()).transpose(2, 0, 1))


def test_names_with_backslashes_and_from_a_folder_above_are_those_of_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    data = BytesIO()
    picture().save(data, "PNG")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../set/a/1.png", "..\\set\\a0\\1.png", "../set/.b/1.png"):
            archive.writestr(name, data.getvalue())
    files = list_images(path)
    assert files.names == ("../set/a/1.png", "..\\set\\a0\\1.png")
    assert files.classes == ("a", "a0")


def test_a_link_that_leads_back_up_does_not_trap(tmp_path: Path) -> None:
    save(picture(), tmp_path / "a" / "1.png")
    try:
        (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this system does not allow symbolic links")
    assert list_images(tmp_path).names == ("a/1.png",)


def test_links_to_one_folder_are_classes_each(tmp_path: Path) -> None:
    save(picture(), tmp_path / "all" / "1.png")
    for name in ("cats", "kitties"):
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / name).symlink_to(tmp_path / "all")
    files = list_images(tmp_path / "p")
    assert files.names == ("cats/1.png", "kitties/1.png")
    assert files.classes == ("cats", "kitties")


def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    for floor in range(16):
        (tmp_path / f"{floor}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{floor}" / name).symlink_to(tmp_path / f"{floor + 1}")
    with pytest.raises(UsageError, match="lead to the same folders more than 4096 times: remove some"):
        list_images(tmp_path / "0")


def test_what_is_no_source_of_images_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no folder or zip of images at"):
        list_images(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no images; they end in \.png"):
        list_images(tmp_path)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UsageError, match=r"text.zip is neither a folder nor a zip"):
        list_images(tmp_path / "text.zip")
    for name in ("a/1.png", "b/1.png", "1.png"):
        save(picture(), tmp_path / name)
    with pytest.raises(UsageError, match="1 of 3 images lie outside the class folders a, b: move them"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("name", "mode", "channels"),
    [
        ("x.png", "L", 1),
        ("x.png", "1", 1),
        ("x.png", "LA", 1),
        ("x.png", "P", 3),
        ("x.png", "RGBA", 3),
        ("x.jpg", "L", 1),
        ("x.jpeg", "CMYK", 3),
        ("x.webp", "RGB", 3),
        ("x.bmp", "RGB", 3),
        ("x.gif", "P", 3),
        ("x.tif", "RGB", 3),
        ("x.ppm", "RGB", 3),
    ],
)
def test_formats_and_modes(tmp_path: Path, name: str, mode: str, channels: int) -> None:
    image = picture() if mode == "P" else picture(mode=mode)
    if mode == "LA":
        image.putalpha(255)
    save(image.convert("P") if mode == "P" else image, tmp_path / name)
    files = list_images(tmp_path)
    shape = choose_shape(files)
    assert shape == (channels, 16, 16)
    pixels, _ = decode_images(files, shape)
    assert pixels.shape == (1, *shape)
    assert pixels.std() > 20


def test_transparency_becomes_white_and_rgb_greys_count_as_grey(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (16, 16), (10, 20, 30, 0))
    save(clear, tmp_path / "1.png")
    files = list_images(tmp_path)
    assert choose_shape(files) == (1, 16, 16)
    assert choose_shape(files, channels="rgb") == (3, 16, 16)
    assert decode_images(files, (3, 16, 16))[0].min() == 255


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_and_floats_keep_their_range(tmp_path: Path, suffix: str) -> None:
    ramp = np.linspace(0, 65535, 256).round().reshape(16, 16)
    save(Image.fromarray(ramp.astype(np.uint16)), tmp_path / f"deep.{suffix}")
    if suffix == "tif":
        save(Image.fromarray((ramp / 65535).astype(np.float32)), tmp_path / "float.tif")
    pixels, _ = decode_images(list_images(tmp_path), (1, 16, 16))
    for image in pixels:
        assert np.array_equal(image.reshape(-1), np.arange(256))


def test_floats_a_little_above_white_are_white(tmp_path: Path) -> None:
    for top, over in ((1, 1.0000002), (1, 1.0005), (255, 255.1)):
        values = np.linspace(0, top, 256, dtype=np.float32).reshape(16, 16)
        values[-1, -1] = over
        save(Image.fromarray(values), tmp_path / "float.tif")
        pixels, _ = decode_images(list_images(tmp_path), (1, 16, 16))
        assert np.array_equal(pixels.reshape(-1), np.arange(256)), over


@pytest.mark.parametrize(
    ("top", "kind", "told"),
    [
        (1000, np.float32, "from 0 to 1000, where 0 to 255 was expected"),
        (315000, np.int32, "to 315000, where 0 to 65535"),
    ],
)
def test_values_above_white_are_refused_as_those_below_black_are(
    tmp_path: Path, top: int, kind: type[np.generic], told: str
) -> None:
    save(Image.fromarray(np.linspace(0, top, 256).reshape(16, 16).astype(kind)), tmp_path / "high.tif")
    with pytest.raises(UsageError, match=told):
        decode_images(list_images(tmp_path), (1, 16, 16))


def test_every_ending_of_jpeg_and_of_netpbm_is_read(tmp_path: Path) -> None:
    image = picture(mode="L")
    for name, kind in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.PNM", "PPM")):
        save(image, tmp_path / name, format=kind)
    save(image.convert("1"), tmp_path / "d.pbm", format="PPM")
    files = list_images(tmp_path)
    assert files.names == ("a.jfif", "b.jpe", "c.PNM", "d.pbm")
    assert len(decode_images(files, (1, 16, 16))[1]) == 4


def test_exif_turns_and_gif_shows_its_first_frame(tmp_path: Path) -> None:
    image = picture((32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(image, tmp_path / "turned.png", exif=exif)
    files = list_images(tmp_path)
    assert choose_shape(files, channels="rgb") == (3, 32, 16)
    pixels, _ = decode_images(files, (3, 32, 16))
    assert np.array_equal(pixels[0], np.asarray(image.rotate(-90, expand=True)).transpose(2, 0, 1))

    black, white = Image.new("L", (16, 16)), Image.new("L", (16, 16), 255)
    save(black, tmp_path / "gif" / "1.gif", save_all=True, append_images=[white])
    assert decode_images(list_images(tmp_path / "gif"), (1, 16, 16))[0].max() == 0


@pytest.mark.parametrize(
    ("sizes", "shape"),
    [
        ([(32, 32)] * 2, (32, 32)),
        ([(48, 50)] * 2, (48, 48)),
        ([(64, 96)] * 2, (96, 64)),
        ([(128, 128)] * 2, (128, 128)),
        ([(256, 256)] * 2, (64, 64)),
        ([(33, 50)] * 2, (32, 32)),
        ([(300, 200), (31, 90), (45, 46)], (40, 40)),
        ([(5, 5)], (8, 8)),
    ],
)
def test_automatic_size_is_one_that_networks_can_serve(
    tmp_path: Path, sizes: list[tuple[int, int]], shape: tuple[int, int]
) -> None:
    for i, size in enumerate(sizes):
        save(picture(size, "L"), tmp_path / f"{i}.png")
    chosen = choose_shape(list_images(tmp_path))
    assert chosen == (1, *shape)
    assert Spec(chosen).pyramid is not None


def test_crop_pad_and_stretch(tmp_path: Path) -> None:
    image = Image.new("L", (64, 32), 255)
    image.paste(100, (16, 0, 48, 32))
    save(image, tmp_path / "1.png")
    files = list_images(tmp_path)
    crop, pad, stretch = (decode_images(files, (1, 32, 32), fit=fit)[0][0, 0] for fit in ("crop", "pad", "stretch"))
    assert crop.min() == crop.max() == 100
    assert (pad[:8] == 0).all()
    assert (pad[24:] == 0).all()
    assert (stretch[:, 0] == 255).all()
    assert (stretch[:, 16] == 100).all()


def test_a_broken_image_is_named_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = save(picture((64, 64), seed=1), tmp_path / "a" / "1.png")
    save(picture((64, 64), seed=2), tmp_path / "b" / "2.png")
    (tmp_path / "a" / "cut.png").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "b" / "empty.jpg").write_bytes(b"")
    files = list_images(tmp_path)
    with pytest.raises(UsageError, match=r"The image b/empty.jpg in .* cannot be read \(no image format"):
        choose_shape(files)
    with pytest.raises(UsageError, match=r"The image a/cut.png in .*: mend or remove it, or .*--on-bad-image skip\.$"):
        decode_images(files, (3, 64, 64), on_bad_image="refuse")
    with pytest.raises(UsageError, match=r"The image a/cut.png in .*: mend or remove it\.$"):
        decode_images(files, (3, 64, 64))
    assert choose_shape(files, on_bad_image="skip") == (3, 64, 64)
    pixels, kept = decode_images(files, (3, 64, 64), on_bad_image="skip")
    assert kept == [0, 2]
    assert np.array_equal(pixels[1], np.asarray(picture((64, 64), seed=2)).transpose(2, 0, 1))
    assert "2 of 4 images were left out of" in caplog.text
    assert "a/cut.png (" in caplog.text
    assert "b/empty.jpg (no image format that is known here)." in caplog.text


def test_a_class_that_is_left_without_an_image_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c"):
        save(picture(), tmp_path / name / "1.png")
    (tmp_path / "b" / "1.png").write_bytes(b"no image")
    (tmp_path / "c" / "2.png").write_bytes(b"no image")
    decode_images(list_images(tmp_path), (3, 16, 16), on_bad_image="skip")
    assert f"Classes of {tmp_path} are left without an image: b." in caplog.text


def test_when_no_image_can_be_read_there_is_nothing_to_skip_to(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    files = list_images(tmp_path)
    with pytest.raises(UsageError, match="None of the images looked at"):
        choose_shape(files, on_bad_image="skip")
    with pytest.raises(UsageError, match="None of the 1 images"):
        decode_images(files, (3, 8, 8), on_bad_image="skip")


def test_images_that_would_explode_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    save(Image.new("L", (12, 12)), tmp_path / "1.png")
    with pytest.raises(UsageError, match=r"1.png .* exceeds limit of 100 pixels"):
        decode_images(list_images(tmp_path), (1, 8, 8))


def test_a_zip_that_would_explode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"")
        archive.infolist()[0].file_size = MAX_FILE_BYTES + 1
    with pytest.raises(UsageError, match=r"1.png .* \(it takes 64 MiB, more than the 64 allowed"):
        decode_images(list_images(path), (1, 8, 8))
