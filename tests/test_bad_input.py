"""Wrong data, options and machines: each is one sentence and an exit code, and leaves nothing behind."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganzoo.cli import main

BAD = [
    # Folders, zips and files.
    ("run --data photo.png", "photo.png is a single image, and a GAN learns from many: cut a sheet"),
    ("run --data ./photo.png", "is a single image"),
    ("run --data folder --data.path photo.png", "is a single image"),
    ("run --data ./empty", "empty holds no images; they end in .png .jpg"),
    ("run --data ./words", "words holds no images"),
    ("run --data ./mixed", "1 of 3 images lie outside the class folders a, b: move them into one"),
    ("run --data ./bad", "bad cannot be read (no image format that is known here): mend or remove it, or skip such"),
    ("run --data ./bad --on-bad-image skip", "None of the images looked at in"),
    ("run --data ./bad --on-bad-image ignore", "Invalid value for '--data.on-bad-image' / '--on-bad-image': must be"),
    ("run --data ./nothing", "There is no data set, folder or file './nothing'."),
    ("run --data notes.txt", "--data takes a name, a folder, a .zip or an .npz file, not 'notes.txt'."),
    ("run --data no.zip", "no.zip is neither a folder nor a zip that can be read"),
    ("run --data empty.zip", "empty.zip holds no images"),
    ("run --data no.npz", "no.npz cannot be read as an .npz"),
    ("run --data other.npz", "other.npz has no samples called images or x or arr_0 or x_train; it has z"),
    ("run --data points.npz --flip", "The options flip and crop are for images, and these are points of 2 numbers"),
    ("run --data points.npz --size 16", "points.npz are points"),
    ("run --data a.npz --data.images q", "has no array 'q'; it has x, y"),
    ("run --data a.npz --data.labels q", "has no array 'q'; it has x, y"),
    ("run --data folder", "The data set 'folder' needs the option path: --data.path FOLDER_OR_ZIP."),
    ("run --data npz", "The data set 'npz' needs the option path: --data.path FILE.npz."),
    ("run --data folder --data.path nothing", "There is no folder or zip of images at"),
    ("run --data npz --data.path nothing", "There is no file"),
    ("run --data", "requires an argument"),
    ("data prepare ./good /", "/ is no name for a copy: name a folder that is not there yet."),
    # Their options.
    ("run --data ./good --size 3", "Invalid value for '--data.size' / '--size': must be int|none >= 4, not 3."),
    ("run --data ./good --size big", "must be int|none >= 4, not 'big'."),
    ("run --data ./good --size 16.5", "must be int|none >= 4"),
    ("run --data ./good --size 50", "3x50x50"),
    ("run --data ./good --channels 2", "Invalid value for '--data.channels' / '--channels': must be auto|grey|rgb"),
    ("run --data ./good --channels RGB", "must be auto|grey|rgb, not 'RGB'."),
    ("run --data ./good --fit cover", "Invalid value for '--data.fit' / '--fit': must be crop|pad|stretch"),
    ("run --data ./good --crop -1", "Invalid value for '--data.crop' / '--crop': must be int >= 0, not -1."),
    ("run --data ./good --crop 16", "must be less than the sides of the images, which are 3x16x16, 2 classes, not 16"),
    ("run --data ./good --crop", "requires an argument"),
    ("run --data ./good --flip=yes", "does not take a value"),
    ("run --data ./good --data.flipp", "Did you mean --data.flip"),
    ("run --data ./good --data.labels maybe", "unexpected extra argument (maybe)"),
    ("run --data ring --flip", "The dataset 'ring' has no option --data.flip; "),
    ("run --data ring --no-flip", "The dataset 'ring' has no option --no-data.flip; "),
    ("run --data digits --fit pad", "The dataset 'digits' has no option --data.fit; folder has it."),
    ("run --data digits --size 9", "must be 8|16|32, not '9'."),
    ("run --data mnist --channels rgb", "The dataset 'mnist' has no option --data.channels; folder has it."),
    ("run --data stacked-mnist --flip", "The dataset 'stacked-mnist' has no option --data.flip; "),
    ("run --data mnist --crop 28", "which are 1x28x28, 10 classes, not 28"),
    ("run --data mnist --data.split valid", "must be train|test, not 'valid'."),
    ("run --data grid --data.side 0", "must be int >= 1, not 0."),
    ("run --data ring --data.std -1", "must be float >= 0"),
    ("run --data swissroll --data.scale 0", "must be float > 0"),
    # Labels.
    ("run --cond yes", "cond (command line) must be auto|on|off, not 'yes'."),
    ("run --cond", "requires an argument"),
    ("run --cond on --gen dcgan", "cond is on, but the generator dcgan does not use labels: choose --gen cgan"),
    ("run --cond on --data ./one", "cond is on, but the data set folder has no labels: choose labelled data"),
    ("run --cond on --data swissroll", "cond is on, but the data set swissroll has no labels"),
    ("run --cond on --data ./good --no-data.labels", "the data set folder has no labels"),
    ("run --cond on --disc dcgan", "The generator cgan cannot learn from the discriminator dcgan"),
    ("run --cond off --gen cgan", "cgan cannot be trained on the data set digits"),
    ("run --config cond.toml", "cond (file cond.toml) must be auto|on|off, not true"),
    ("run --config sized.toml", "data.size (file sized.toml) must be 8|16|32, not 'big'"),
    ("run --config flat.toml", "There is no setting 'data.flip' (file flat.toml)"),
    # Devices and this machine.
    ("run --device gpu", "There is no device 'gpu'; use auto, cpu, cuda, mps, xpu, or one with a number as cuda:1."),
    ("run --device cpu:one", "There is no device 'cpu:one'"),
    ("doctor --device gpu", "There is no device 'gpu'"),
    ("doctor --device", "requires an argument"),
    ("doctor now", "unexpected extra argument (now)"),
    ("doctor --paritty", "'--parity'"),
    ("dcotor", "There is no command 'dcotor'. Did you mean doctor?"),
    ("show dataset/mnits", "There is no dataset 'mnits'. Did you mean mnist"),
    ("show mnist cifar10", "unexpected extra argument (cifar10)"),
]
MISSING = [
    ("run --data mnist --no-data.download", "MNIST is not in", "place train-images-idx3-ubyte and"),
    ("run --data kmnist --no-data.download --data-root there", "KMNIST is not in", "allow the download"),
    ("run --data stacked-mnist --no-data.download", "MNIST is not in", "train-labels-idx1-ubyte"),
    ("run --data mnist --data-root torn", "is no whole idx file", "delete it and download it again"),
    ("run --data cifar10 --no-data.download", "CIFAR10 is not in", "place cifar-10-python.tar.gz in"),
    ("run --data celeba --no-data.download", "CelebA is not in", "place the folder img_align_celeba"),
    ("run --device xpu:7", "The device 'xpu:7' was asked for", "use --device cpu"),
    ("doctor --device xpu:7", "The device 'xpu:7' was asked for", "use --device cpu"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with things that are wrong, and no data set anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GANZOO_DATA", raising=False)
    monkeypatch.setattr("ganzoo.data.roots.cache_root", lambda: tmp_path / "cache")
    picture = Image.new("RGB", (16, 16), "red")
    for name in ("good/a/1", "good/b/2", "one/1", "mixed/a/1", "mixed/b/1", "mixed/1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / f"{name}.png")
    picture.save("photo.png")
    for name in ("empty", "words", "bad", "torn/MNIST/raw"):
        Path(name).mkdir(parents=True)
    for name in ("bad/1.png", "notes.txt", "words/notes.txt", "no.zip", "no.npz"):
        Path(name).write_text("words", encoding="utf-8")
    for name in ("images-idx3", "labels-idx1"):
        Path(f"torn/MNIST/raw/train-{name}-ubyte").write_bytes(b"\0\0")
    zipfile.ZipFile("empty.zip", "w").close()
    np.savez("other.npz", z=np.zeros(3))
    np.savez("points.npz", x=np.zeros((3, 2)))
    np.savez("a.npz", x=np.zeros((3, 8, 8), np.uint8), y=np.arange(3))
    Path("cond.toml").write_text("cond = true\n", encoding="utf-8")
    Path("sized.toml").write_text('size = "big"\n', encoding="utf-8")
    Path("flat.toml").write_text('data = "ring"\nflip = true\n', encoding="utf-8")
    return tmp_path


def refused(line: str, code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a command line is refused with."""
    assert main(line.split()) == code
    out, err = capsys.readouterr()
    rest = [text for text in err.splitlines() if not text.startswith(("Try 'ganzoo", "Device: "))]
    assert out == ""
    assert len(rest) == 1, err
    assert rest[0].startswith("Error: ")
    assert "this should not have happened" not in rest[0]
    return rest[0]


@pytest.mark.parametrize(("line", "sentence"), BAD, ids=[line for line, _ in BAD])
def test_a_bad_request_is_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert sentence in refused(line, 2, capsys)
    assert not list(here.glob("runs/*"))


@pytest.mark.skipif(sys.platform == "win32", reason="has longer names, and other errors")
@pytest.mark.parametrize(
    "line", ["run --data {}.zip", "eval {}", "export {}", "data show {}", "run --steps 1 --name {}"]
)
def test_a_path_that_the_system_refuses_is_one_sentence(
    line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.format("a" * 300).split()) in (1, 2, 4)
    said = capsys.readouterr().err.strip().splitlines()
    assert "should not have happened" not in said[-1]
    assert "--out" not in said[-1]


@pytest.mark.parametrize(("line", "what", "instead"), MISSING, ids=[line for line, _, _ in MISSING])
def test_what_is_missing_is_one_sentence_with_a_way_out(
    here: Path, capsys: pytest.CaptureFixture[str], line: str, what: str, instead: str
) -> None:
    sentence = refused(line, 4, capsys)
    assert what in sentence
    assert instead in sentence
    assert not list(here.glob("runs/*"))
