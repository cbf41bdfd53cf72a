"""Names and folders of runs that are taken, hidden, or no Unicode; and files of settings that are records of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import Ganzoo
from PIL import Image

import ganzoo as package
from ganzoo.errors import UsageError

TINY = ("--gen.width=4", "--disc.width=4", "--batch-size=8", "--samples=4", "--steps=1", "--device=cpu")
RING = ("run", "--data=ring", *TINY)
ODD = os.fsdecode(b"n\xf6me")
bytes_in_names = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="has no such names")


def draw(folder: Path) -> None:
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@bytes_in_names
@pytest.mark.parametrize(
    ("line", "what"),
    [
        (("--data=ring", f"--name={ODD}"), "name must be Unicode, not n\\udcf6me"),
        (("--data=ring", f"--out={ODD}"), "out must be Unicode, not n\\udcf6me"),
        ((f"--data=./{ODD}", "--data.size=8"), "data.path must be Unicode, not "),
    ],
)
def test_what_no_file_could_give_back_is_refused_before_the_training(
    tmp_path: Path, line: tuple[str, ...], what: str
) -> None:
    draw(tmp_path / ODD)
    before = sorted(os.walk(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "ganzoo", "run", *TINY, *line], cwd=tmp_path, capture_output=True, check=False
    )
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert f"Error: {what}" in said.splitlines()[-1]
    assert said.endswith("give it, or its folder, another name.\n")
    assert sorted(os.walk(tmp_path)) == before


@bytes_in_names
def test_in_a_folder_of_such_a_name_is_trained_what_does_not_depend_on_it(
    ganzoo: Ganzoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "photos")
    (tmp_path / ODD).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    assert ganzoo(*RING, "--name=r").code == 0
    assert ganzoo("run", "--resume=runs/r", "--steps=2").code == 0
    assert ganzoo("run", *TINY, "--data=../photos", "--data.size=8", "--name=p").code == 0
    draw(Path("here"))
    done = ganzoo("run", *TINY, "--data=here", "--data.size=8")
    assert done.code == 2
    assert "data.path must be Unicode" in done.err


@bytes_in_names
@pytest.mark.parametrize("line", [f"--out={ODD} --data=ring", f"--out=s --data=./{ODD},ring", "--out=s --data=here"])
def test_a_sweep_refuses_it_too(ganzoo: Ganzoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    draw(tmp_path / ODD)
    if line.endswith("here"):
        monkeypatch.chdir(tmp_path / ODD)
        draw(Path("here"))
    done = ganzoo("sweep", "--gen=mlp", "--disc=mlp", *TINY, *line.split())
    assert done.code == 2
    assert "must be Unicode" in done.err
    assert not list(tmp_path.rglob("sweep.json"))


def test_half_of_a_pair_is_refused_from_python(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"name must be Unicode, not \\ud800"):
        package.train(data="ring", steps=1, out=tmp_path, name="\ud800")


def test_what_has_the_name_of_a_run_is_told(ganzoo: Ganzoo) -> None:
    Path("runs/folder").mkdir(parents=True)
    Path("runs/file").write_text("words", encoding="utf-8")
    Path("runs/torn").mkdir()
    Path("runs/torn/config.json").write_text("{", encoding="utf-8")
    Path("runs/other").mkdir()
    Path("runs/other/config.json").write_text('{"format": "else"}', encoding="utf-8")
    for name, words in {
        "folder": "There is a folder runs/folder already, and no run in it; choose another --name.",
        "file": "There is a file runs/file already, where the run's folder should be; choose another --name.",
        "torn": "There is a folder runs/torn already, and what it is cannot be told: ",
        "other": "There is a folder runs/other already, and it is no run; choose another --name.",
    }.items():
        done = ganzoo(*RING, f"--name={name}")
        assert done.code == 2
        assert words in done.err
        assert "--resume" not in done.err
    assert ganzoo(*RING, "--name=r").code == 0
    done = ganzoo(*RING, "--name=r")
    assert done.code == 2
    assert "There is a run runs/r already; continue it with --resume runs/r, or choose another --name." in done.err


def test_a_hidden_run_is_found_again(ganzoo: Ganzoo) -> None:
    for steps in ("1", "2"):
        done = ganzoo(*RING, "--name=.x", "--resume=auto", f"--steps={steps}")
        assert done.code == 0, done.err
    assert Path("runs/.x/checkpoints/step-00000002").is_dir()
    done = ganzoo(*RING, "--name=.x.run.tmp")
    assert done.code == 2
    assert "Folders that are called like .x.run.tmp are drafts, and removed; choose another --name." in done.err


def test_the_record_of_an_export_repeats_its_run(ganzoo: Ganzoo) -> None:
    assert ganzoo(*RING, "--name=r", "--seed=7").code == 0
    assert ganzoo("export", "runs/r", "--out=e").code == 0
    done = ganzoo("run", "--config=e/config.json", "--name=again")
    assert done.code == 0, done.err
    first, again = (
        json.loads(Path(f"runs/{name}/config.json").read_text("utf-8"))["config"] for name in ("r", "again")
    )
    assert first["run"].pop("name") != again["run"].pop("name")
    assert first == again


def test_a_record_without_settings_is_told(ganzoo: Ganzoo) -> None:
    for record in ({"format": "ganzoo-export/1", "generator": {}}, {"format": "ganzoo-sweep/1", "axes": {}}):
        Path("x.json").write_text(json.dumps(record), encoding="utf-8")
        done = ganzoo("run", "--config=x.json")
        assert done.code == 2
        assert f"x.json is a record of the format '{record['format']}' and holds the settings of no run" in done.err
