"""The user's own images, of every format and mode, from the command line to a conditional run."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ganzoo.cli import main
from ganzoo.config import COMMAND_LINE, Layer, resolve
from ganzoo.data import DataStream, decode_images, list_images
from ganzoo.errors import UsageError
from ganzoo.registry import build
from ganzoo.training.run import Run

SMALL = ["--gen.width", "4", "--disc.width", "4", "--batch-size", "8", "--samples", "8", "--device", "cpu", "-q"]
COLOURS = {"red": (200, 40, 30), "green": (30, 170, 60), "blue": (40, 50, 210), "grey": (128, 128, 128)}

GREY_MODES = ("1", "L", "LA", "I;16", "I", "F")
FORMATS: dict[str, tuple[str, ...]] = {
    "png": ("1", "L", "LA", "P", "P+t", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK", "exif3", "exif6", "exif8", "progressive"),
    "webp": ("RGB", "RGBA", "animated", "lossless"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "gif": ("L", "P", "P+t", "animated"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr", "I;16", "I", "F", "animated", "lzw", "exif6"),
    "ppm": ("RGB",),
    "pgm": ("L", "I;16"),
}
KINDS = [(suffix, mode) for suffix, modes in FORMATS.items() for mode in modes]


def write(path: Path, suffix: str, mode: str, colour: tuple[int, int, int], size: tuple[int, int]) -> Path:
    """A picture of one colour in a format and a mode; what has frames has other colours in the later ones."""
    path = path.with_suffix(f".{suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    image, arguments = Image.new("RGB", size, colour), dict[str, Any]()
    if mode.startswith("exif"):
        exif = Image.Exif()
        exif[0x0112] = int(mode.removeprefix("exif"))
        arguments["exif"] = exif
    elif mode == "animated":
        arguments |= {"save_all": True, "append_images": [Image.new("RGB", size, "white")] * 2}
    elif mode in ("progressive", "lossless"):
        arguments[mode] = True
    elif mode == "lzw":
        arguments["compression"] = "tiff_lzw"
    elif mode == "P+t":
        image = image.convert("P")
        arguments["transparency"] = 255 if image.getpixel((0, 0)) != 255 else 254
    elif mode in ("I;16", "I", "F"):
        values = np.asarray(image.convert("L")).astype(np.float32)
        scaled = values / 255 if mode == "F" else (values * 257).astype(np.uint16 if mode == "I;16" else np.int32)
        image = Image.fromarray(scaled)
    elif mode == "LAB":
        image = Image.frombytes("LAB", size, bytes([137, 0, 0]) * (size[0] * size[1]))  # L*, and a* and b* signed
    else:
        image = image.convert(mode)
    image.save(path, **arguments)
    return path


def expected(mode: str, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    if mode in GREY_MODES:
        level = int(np.asarray(Image.new("RGB", (1, 1), colour).convert("L"))[0, 0])
        return level, level, level
    return (128, 128, 128) if mode == "LAB" else colour


@pytest.mark.parametrize(("suffix", "mode"), KINDS, ids=["-".join(kind) for kind in KINDS])
def test_every_format_and_mode_shows_its_first_frame_upright(tmp_path: Path, suffix: str, mode: str) -> None:
    colour = COLOURS["green"]
    write(tmp_path / "1", suffix, mode, colour, (40, 24))
    pixels, _ = decode_images(list_images(tmp_path), (3, 16, 16))
    found = pixels[0].reshape(3, -1).mean(1)
    if mode == "1":  # dithered
        assert 0 < found[0] < 255
    else:
        assert np.abs(found - expected(mode, colour)).max() < 16, found


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("colour_type", "bands"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_in_every_colour_type(tmp_path: Path, colour_type: int, bands: int) -> None:
    level = {1: [0x8000], 2: [0x8000, 0xFFFF], 3: [0x8000] * 3, 4: [0x8000] * 3 + [0xFFFF]}[bands]
    rows = b"".join(b"\0" + struct.pack(f">{bands}H", *level) * 16 for _ in range(16))
    header = struct.pack(">IIBBBBB", 16, 16, 16, colour_type, 0, 0, 0)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    pixels, _ = decode_images(list_images(tmp_path), (3, 16, 16))
    assert pixels.min() == pixels.max() == 128


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """200 files of every format and mode, of many sizes, in four folders that are their classes."""
    root = tmp_path / "my pictures"
    names = list(COLOURS)
    for i in range(200):
        suffix, mode = KINDS[i % len(KINDS)]
        name = names[i // len(KINDS) % len(names)]
        write(root / name / f"{i:03d}", suffix, mode, COLOURS[name], (17 + i % 31, 16 + i % 23))
    return root


def runs(out: Path) -> Iterator[Run]:
    return (Run.open(path) for path in sorted(out.iterdir()))


def test_200_files_of_every_format_train_conditionally_with_one_flag(zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    line = ["run", "--data", str(zoo), "--cond", "on", "--size", "16", "--steps", "2", "--out", str(out), *SMALL]
    assert main(line) == 0
    (run,) = runs(out)
    assert (run.config.gen.name, run.config.disc.name) == ("cgan", "cgan")
    assert str(run.spec) == "3x16x16, 4 classes"
    assert len(list_images(zoo)) == 200
    assert run.metrics()[-1]["step"] == 2


def test_thousands_of_real_images_train_conditionally_with_one_flag(tmp_path: Path) -> None:
    archive = Path(os.environ.get("GANZOO_DATA", "")) / "cifar10-10k.zip"
    if not archive.is_file():
        pytest.skip("GANZOO_DATA does not point at a folder with cifar10-10k.zip")
    out = tmp_path / "runs"
    line = ["run", "--data", str(archive), "--cond", "on", "--flip", "--crop", "2", "--steps", "2", "--out", str(out)]
    assert main([*line, *SMALL]) == 0
    (run,) = runs(out)
    assert str(run.spec) == "3x32x32, 10 classes"
    dataset = build(run.config.data, run.spec)
    assert dataset.labels.bincount().tolist() == [1000] * 10


def images(root: Path, count: int = 6, classes: int = 2) -> Path:
    for i in range(count):
        write(root / f"class {i % classes}" / f"{i}", "png", "RGB", (40 * i, 9, 200), (16, 16))
    return root


def flags(**values: str) -> Layer:
    return Layer(COMMAND_LINE, {path.replace("__", "."): value for path, value in values.items()}, textual=True)


def test_cond_off_hides_the_labels(tmp_path: Path) -> None:
    config = resolve([flags(data="folder", data__path=str(images(tmp_path)), cond="off")])
    assert config.spec().num_classes is None
    assert DataStream(build(config.data, config.spec()), 2, 0).next().y is None
    assert resolve([flags(data="folder", data__path=str(tmp_path))]).spec().num_classes == 2
    for name in ("digits", "ring", "npz"):
        if name == "npz":
            np.savez(tmp_path / "a.npz", x=np.zeros((3, 8, 8), np.uint8), y=np.arange(3))
        config = resolve(
            [flags(data=name, cond="off", **({"data__path": str(tmp_path / "a.npz")} if name == "npz" else {}))]
        )
        assert DataStream(build(config.data, config.spec()), 2, 0).next().y is None


def chosen(*layers: Layer) -> tuple[str, str, str]:
    config = resolve(layers)
    return config.gen.name, config.disc.name, config.origins["gen"]


def test_cond_on_chooses_a_pair_that_uses_labels_unless_another_is_named() -> None:
    preset = Layer("preset p", {"gen": "dcgan", "disc": "dcgan"}, optional=True)
    assert chosen(flags(cond="on")) == ("cgan", "cgan", "cond (command line)")
    assert chosen(preset, flags(cond="on")) == ("cgan", "cgan", "cond (command line)")
    assert chosen(flags(data="ring", cond="on"))[:2] == ("cgan", "cgan")
    assert chosen(flags(cond="on", disc="mlp"))[:2] == ("cgan", "mlp")
    assert chosen(flags(cond="on", gen="cgan")) == ("cgan", "cgan", COMMAND_LINE)
    assert chosen(flags(cond="auto"))[:2] == ("dcgan", "dcgan")
    assert chosen(Layer("file f", {"cond": "on"}), flags(cond="off"))[0] == "dcgan"
    assert chosen(Layer("file f", {"cond": "on"}), flags(gen="mlp"))[0] == "mlp"


def test_cond_on_without_labels_or_a_fitting_generator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cond is on, but the generator dcgan does not use labels: choose --gen cgan"):
        resolve([flags(cond="on", gen="dcgan")]).plan()
    one = images(tmp_path, classes=1)
    with pytest.raises(UsageError, match=r"the data set folder has no labels: .*each class into a folder of its own"):
        resolve([flags(cond="on", data="folder", data__path=str(one))]).spec()


def test_a_conditional_run_with_flips_resumes_to_the_bit(tmp_path: Path) -> None:
    line = ["run", "--data", str(images(tmp_path / "x")), "--cond", "on", "--flip", "--crop", "3", *SMALL]
    out = ["--out", str(tmp_path / "runs"), "--checkpoint-every", "2"]
    assert main([*line, *out, "--steps", "4", "--name", "whole"]) == 0
    assert main([*line, *out, "--steps", "2", "--name", "halves"]) == 0
    assert main(["run", "--resume", str(tmp_path / "runs" / "halves"), "--steps", "4", "-q"]) == 0
    weights = [
        next((tmp_path / "runs" / name / "checkpoints").glob("*4/model.safetensors")).read_bytes()
        for name in ("whole", "halves")
    ]
    assert weights[0] == weights[1]


def test_a_bad_image_leaves_no_run_behind_and_may_be_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = images(tmp_path / "x", count=300)
    bad = sorted(root.rglob("*.png"))[-1]
    bad.write_bytes(bad.read_bytes()[:50])
    line = ["run", "--data", str(root), "--steps", "1", "--out", str(tmp_path / "runs"), *SMALL]
    assert main(line) == 2
    assert f"The image class 1/{bad.name} in" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []
    assert main([*line, "--on-bad-image", "skip"]) == 0
    assert f"1 of 300 images was left out of {root}: class 1/{bad.name} (" in capsys.readouterr().err


def test_an_npz_may_be_resized(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 10, 12, 3), np.uint8))
    config = resolve([flags(data="npz", data__path=str(tmp_path / "a.npz"), size="16")])
    assert build(config.data, config.spec()).samples.shape == (3, 3, 16, 16)
