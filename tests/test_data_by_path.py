"""Own data named by their path in Python and in files of settings, as on the command line; NumPy's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Ganzoo
from PIL import Image

import ganzoo as package
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.errors import UsageError
from ganzoo.training.places import with_data

SMALL: dict[str, Any] = {"gen.width": 4, "disc.width": 4, "batch_size": 4, "samples": 4, "device": "cpu"}


@pytest.fixture
def here(ganzoo: Ganzoo, tmp_path: Path) -> Path:
    """The folder that we are in, with images in three folders, and an array."""
    for name in ("photos", "ring", "folder"):
        (tmp_path / name).mkdir()
        for number in range(8):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    np.savez(tmp_path / "a.npz", x=np.zeros((8, 8, 8), np.uint8))
    return tmp_path


def found(config: RunConfig) -> tuple[str, Any]:
    return config.data.name, getattr(config.data.config, "path", None)


@pytest.mark.parametrize("data", ["./photos", "photos", Path("photos"), Path("./photos")])
def test_python_takes_what_the_command_line_takes(here: Path, data: Any) -> None:
    run = package.train(SMALL, data=data, size=8, steps=1)
    assert found(run.config) == ("folder", here / "photos")


@pytest.mark.parametrize(
    "text",
    [
        'data = "photos"\nsize = 8\n',
        '[data]\nname = "./photos"\nsize = 8\n',
        '[data]\nname = "folder"\npath = "photos"\nsize = 8\n',
    ],
)
def test_a_file_takes_it_too(here: Path, ganzoo: Ganzoo, text: str) -> None:
    Path("x.toml").write_text(text, encoding="utf-8")
    assert found(package.train("x.toml", steps=1, **SMALL).config) == ("folder", here / "photos")
    done = ganzoo("sweep", "--config", "x.toml", "--seed", "0,1", "--dry-run", "--json")
    assert [cell["name"].split("-")[0] for cell in done.json["cells"]] == ["folder", "folder"], done.err


def test_files_of_arrays_and_prepared_copies(here: Path, ganzoo: Ganzoo) -> None:
    assert ganzoo("data", "prepare", "photos", "copy", "--size", "8").code == 0
    for data, name in {"a.npz": "npz", "copy": "prepared"}.items():
        assert found(resolve([with_data(Layer("config", {"data": data}))])) == (name, Path(data))
    below = Layer("config", {"data": {"name": "folder", "path": "photos"}})
    above = Layer("arguments", {"data": "folder"})
    named = resolve([with_data(below), with_data(above)])
    assert found(named) == ("folder", Path("photos")), "a name is a name, though there is a folder of it"
    assert found(resolve([with_data(Layer("config", {"data": "ring"}))])) == ("ring", None)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("./nowhere", r"There is no data set, folder or file './nowhere'\."),
        (Path("nowhere"), r"There is no dataset 'nowhere'\..* A folder or file of that name is not here either\."),
        ("nowhere.zip", r"There is no data set, folder or file 'nowhere.zip'\."),
        ("photos/0.png", r"photos/0\.png is a single image"),
        ("rnig", r"There is no dataset 'rnig'\. Did you mean ring"),
        ("somebody/theirs", r"There is no dataset 'somebody/theirs'\..*-p FILE"),
        (3, r"data \(arguments\) must be a name, not 3\."),
        ("a" * 300, r"There is no dataset 'aaa"),
    ],
)
def test_what_is_not_there_is_said_as_on_the_command_line(here: Path, data: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        package.train(data=data, steps=1)


def test_numbers_of_other_libraries_are_recorded_as_plain_ones(here: Path, ganzoo: Ganzoo) -> None:
    given = {**SMALL, "optim.lr": np.float32(1e-3)}
    run = package.train(given, data="ring", seed=np.int64(1), steps=np.float64(1))
    record = json.loads((run.path / "config.json").read_text(encoding="utf-8"))["config"]
    assert (record["run"]["seed"], record["run"]["steps"]) == (1, 1)
    assert type(record["run"]["steps"]) is int
    assert record["gen_optim"]["lr"] == float(np.float32(1e-3))
    for name, text in {"x.toml": "steps = 1e1\n", "x.json": '{"steps": 10.0}'}.items():
        Path(name).write_text(text, encoding="utf-8")
        done = ganzoo("run", "--config", name, "--dry-run", "--json")
        assert done.json["config"]["run"]["steps"] == 10
