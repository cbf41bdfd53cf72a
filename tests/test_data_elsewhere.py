"""Runs whose data have moved, have grown, or are looked at from another folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from commands import Ganzoo
from PIL import Image

from ganzoo.data.dataset import ArrayDataset
from ganzoo.registry import build, registry

SMALL = ("--gen.width", "4", "--disc.width", "4", "--batch-size", "4", "--device", "cpu", "--log-every", "1")
COUNT = 12


def draw(folder: Path, shape: tuple[int, ...] = (16, 16), seed: int = 0) -> Path:
    for number in range(COUNT):
        path = folder / ("cats", "dogs")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(100 * seed + number)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def pets(ganzoo: Ganzoo, tmp_path: Path) -> Path:
    """Images, and a run of 2 steps that was begun with them by a relative path."""
    draw(tmp_path / "pets")
    done = ganzoo("run", "--data", "pets", "--data.size", "16", *SMALL, "--steps", "2", "--name", "r")
    assert done.code == 0, done.err
    return tmp_path / "pets"


def enter_another_folder(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In which is another folder of the name."""
    other = pets.parent / "other"
    draw(other / "pets", seed=1)
    monkeypatch.chdir(other)


def test_a_run_goes_on_with_its_data_from_any_folder(
    pets: Path, ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter_another_folder(pets, monkeypatch)
    done = ganzoo("run", "--resume", "../runs/r", "--steps", "3")
    assert done.code == 0, done.err
    assert "holds other samples" not in done.err
    saved = json.loads(Path("../runs/r/config.json").read_text(encoding="utf-8"))
    assert saved["config"]["data"]["path"] == str(pets)
    for number, name in enumerate(("../pets", str(pets))):
        done = ganzoo("run", "--resume", "../runs/r", "--data", name, "--steps", str(4 + number))
        assert done.code == 0, done.err
        assert "Warning" not in done.err
    asked = ("--metric", "kid", "--features", "digit-cnn", "--samples", "12", "--device", "cpu", "--json")
    done = ganzoo("eval", "../runs/r", *asked)
    assert done.code == 0, done.err


def test_data_that_moved_are_named_and_others_are_told_of(pets: Path, ganzoo: Ganzoo) -> None:
    shutil.copytree(pets, "moved")
    shutil.rmtree(pets)
    done = ganzoo("run", "--resume", "runs/r", "--steps", "3")
    assert done.code == 4
    assert f"The data of the run runs/r are not at {pets}: if they have moved, name them with --data." in done.err
    done = ganzoo("run", "--resume", "runs/r", "--steps", "3", "--data", "moved")
    assert done.code == 0, done.err
    assert "Warning" not in done.err
    draw(pets, seed=1)
    done = ganzoo("run", "--resume", "runs/r", "--steps", "4", "--data", "pets")
    assert done.code == 0, done.err
    assert done.err.count("The data set holds other samples now than when runs/r was saved") == 1


def test_decoded_while_training_they_are_told_apart_too(pets: Path, ganzoo: Ganzoo) -> None:
    assert ganzoo("run", "--resume", "runs/r", "--steps", "3", "--data.memory", "stream").code == 0
    shutil.copytree(pets, "moved")
    line = ("run", "--resume", "runs/r", "--data.memory", "stream", "--data")
    done = ganzoo(*line, "moved", "--steps", "4")
    assert done.code == 0, done.err
    assert "Warning" not in done.err
    done = ganzoo(*line, str(draw(Path("pets"), (17, 17), seed=1)), "--steps", "5")
    assert done.code == 0, done.err
    assert "The data set holds other samples now" in done.err


def test_a_checkpoint_that_does_not_know_its_data_is_believed(pets: Path, ganzoo: Ganzoo) -> None:
    from ganzoo.files import sha256
    from ganzoo.training.checkpoint import MANIFEST, STATE, newest_good, sealed

    folder = newest_good(Path("runs/r"), print)
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    assert state.pop("data").startswith("samples:")
    (folder / STATE).write_text(json.dumps(state), encoding="utf-8")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["files"][STATE] = {"size": (folder / STATE).stat().st_size, "sha256": sha256(folder / STATE)}
    (folder / MANIFEST).write_bytes(sealed(manifest).encode())
    draw(pets, seed=1)
    done = ganzoo("run", "--resume", "runs/r", "--steps", "3")
    assert done.code == 0, done.err
    assert "Warning" not in done.err


def test_the_newest_run_of_these_data_is_found_however_they_are_named(
    pets: Path, ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter_another_folder(pets, monkeypatch)
    line = ("run", "--resume", "auto", "--out", "../runs", "--data.size", "16", *SMALL, "--steps", "3", "--data")
    done = ganzoo(*line, "../pets")
    assert "Continuing ../runs/r after step 2" in done.err
    done = ganzoo(*line, "pets")
    assert done.code == 0, done.err
    assert "Continuing" not in done.err, "other data under the same name"


def test_an_export_does_not_tell_where_the_home_is(pets: Path, ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pets.parent))
    monkeypatch.setenv("USERPROFILE", str(pets.parent))
    assert ganzoo("export", "runs/r").code == 0
    for file in Path("runs/r/export").iterdir():
        assert str(pets.parent).encode() not in file.read_bytes(), file.name


def larger(folder: Path) -> None:
    Image.new("L", (20, 20), 7).save(folder / "cats" / "new.png")


def coloured(folder: Path) -> None:
    Image.new("RGB", (24, 16), (1, 2, 3)).save(folder / "cats" / "new.png")


@pytest.mark.parametrize(("change", "memory"), [(larger, "hold"), (coloured, "stream")])
def test_an_image_more_does_not_change_what_all_are_brought_to(
    ganzoo: Ganzoo, tmp_path: Path, change: Callable[[Path], None], memory: str
) -> None:
    folder = draw(tmp_path / "sz", (16, 24))
    line = ("--data.memory", memory, "--data.workers", "0")
    done = ganzoo("run", "--data", "sz", *line, *SMALL, "--steps", "1", "--name", "sz")
    assert done.code == 0, done.err
    change(folder)
    done = ganzoo("run", "--resume", "runs/sz", "--steps", "2")
    assert done.code == 0, done.err
    assert " now, and are brought to 1x16x24, with which runs/sz began." in done.err
    saved = json.loads(Path("runs/sz/config.json").read_text(encoding="utf-8"))
    assert saved["spec"]["shape"] == [1, 16, 24]
    assert saved["config"]["data"]["size"] is None, "it is what was asked for"
    done = ganzoo("run", "--data", "sz", *line, *SMALL, "--steps", "3", "--resume", "auto")
    assert "Continuing runs/sz after step 2" in done.err


def test_data_that_cannot_be_brought_to_what_they_were_are_refused(ganzoo: Ganzoo, tmp_path: Path) -> None:
    folder = draw(tmp_path / "pets")
    assert ganzoo("run", "--data", "pets", *SMALL, "--steps", "1", "--name", "r").code == 0
    (folder / "zebras").mkdir()
    shutil.copy(folder / "cats" / "0.png", folder / "zebras")
    done = ganzoo("run", "--resume", "runs/r", "--steps", "2")
    assert done.code == 2
    told = "The data are 1x16x16, 3 classes now, and were 1x16x16, 2 classes when the run runs/r began: "
    assert told in done.err
    for name, size in (("small", "16"), ("large", "32")):
        assert ganzoo("data", "prepare", "pets", name, "--size", size).code == 0
    assert ganzoo("run", "--data", "small", *SMALL, "--steps", "1", "--name", "s").code == 0
    done = ganzoo("run", "--resume", "runs/s", "--steps", "2", "--data", "large")
    assert done.code == 2
    assert "The data are 1x32x32, 3 classes now, and were 1x16x16, 3 classes" in done.err


def test_images_are_brought_to_the_spec_where_the_options_leave_it_open(tmp_path: Path) -> None:
    draw(tmp_path / "pets", (16, 16, 3))
    for options, wanted in (({}, (1, 32, 48)), ({"size": 8}, (1, 8, 8)), ({"channels": "rgb"}, (3, 12, 8))):
        choice = registry().choose("dataset", "folder", {"path": tmp_path / "pets", **options})
        assert choice.component.spec is not None
        spec = choice.component.spec(choice.config)
        found = build(choice, type(spec)(wanted, 2))
        assert isinstance(found, ArrayDataset)
        assert tuple(found.samples.shape[1:]) == wanted
