"""Sweeps that are looked at from another folder than the one they began in, or have moved."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Done, Ganzoo
from PIL import Image

INLINE = str(Path(__file__).parent / "inline_launcher.py")
LINE = "--data.size 8 --seed 0"
SETTINGS = """
steps = 2
samples = 4
batch_size = 4
log_every = 1
gen = "mlp"
disc = "mlp"
"gen.width" = 4
"disc.width" = 4
"""

Sweep = Callable[[str], Done]


def draw(folder: Path, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in range(12):
        pixels = np.random.default_rng(100 * seed + number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ganzoo: Ganzoo) -> Path:
    """The folder that we are in, with images and settings, and a folder ``other`` with other images of that name."""
    here = tmp_path / "project"
    draw(here / "photos")
    draw(here / "other" / "photos", seed=1)
    (here / "s.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def sweep(ganzoo: Ganzoo) -> Iterator[Sweep]:
    """``ganzoo sweep`` with a line of arguments, in this process."""
    yield lambda line: ganzoo("sweep", *f"-p {INLINE} --launcher inline {line}".split())
    sys.modules.pop("inline_launcher", None)


def begin(sweep: Sweep, more: str = "") -> None:
    done = sweep(f"--out st --config s.toml --data photos {LINE} {more}")
    assert done.code == 0, done.err


def data_of(folder: Path) -> dict[str, str]:
    """Name -> path of the data, of the runs in the folder of a sweep."""
    return {file.parent.name: saved(file)["config"]["data"]["path"] for file in folder.glob("*/config.json")}


def saved(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def undo(folder: Path) -> None:
    """Let the sweep in the folder have done nothing yet."""
    for run in folder.glob("*/config.json"):
        shutil.rmtree(run.parent)
    for note in folder.glob(".cells/*.done"):
        note.unlink()


def test_other_data_of_the_same_name_are_another_run(
    sweep: Sweep, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(sweep)
    (first,) = data_of(project / "st")
    monkeypatch.chdir(project / "other")
    for steps in (2, 4):
        done = sweep(f"--out ../st --config ../s.toml --data photos {LINE} --steps {steps}")
        assert done.code == 0, done.err
        assert "0 done before" in done.err
        assert sorted(data_of(project / "st").values()) == [str(project / "other" / "photos"), str(project / "photos")]
        assert data_of(project / "st")[first] == str(project / "photos")
    done = sweep(f"--out ../st --config ../s.toml --data ../photos {LINE}")
    assert "1 done before" in done.err


def test_data_have_one_name_however_their_path_is_written(
    sweep: Sweep, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(data: str) -> list[str]:
        done = sweep(f"--config s.toml --data {data} {LINE} --dry-run --json")
        assert done.code == 0, done.err
        return [cell["name"] for cell in done.json["cells"]]

    (name,) = names(f"photos,./photos,other/../photos,{project}/photos")
    shutil.copytree(project, project.parent / "copy")
    monkeypatch.chdir(project.parent / "copy")
    assert names("photos") == [name], "a project has the same names wherever it lies"
    assert names(f"{project}/photos") != [name]


@pytest.mark.parametrize("where", ["line", "file"])
def test_a_sweep_goes_on_from_any_folder(
    sweep: Sweep, project: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "line":
        begin(sweep)
    else:
        (project / "t.toml").write_text(f'data = "photos"\n{SETTINGS}', encoding="utf-8")
        assert sweep(f"--out st --config t.toml {LINE}").code == 0
    before = data_of(project / "st")
    undo(project / "st")
    monkeypatch.chdir(project / "other")
    for number, words in enumerate(("0 done before", "1 done before")):
        done = sweep("--out ../st")
        assert done.code == 0, done.err
        assert words in done.err, number
        assert data_of(project / "st") == before


def test_a_sweep_that_moved_goes_on(sweep: Sweep, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(sweep)
    (name,) = data_of(project / "st")
    moved = project.parent / "moved"
    monkeypatch.chdir(project.parent)
    project.rename(moved)
    assert "1 done before" in sweep("--out moved/st").err
    monkeypatch.chdir(moved)
    done = sweep(f"--out st --config s.toml --data photos {LINE} --steps 3")
    assert done.code == 0, done.err
    assert data_of(moved / "st") == {name: str(moved / "photos")}
    (moved / "st").rename(moved.parent / "alone")
    monkeypatch.chdir(moved / "other")
    for line in ("", f"--config ../s.toml --data ../photos {LINE} --steps 3"):
        done = sweep(f"--out ../../alone {line}")
        assert done.code == 0, done.err
        assert "1 done before" in done.err


def test_the_real_data_of_an_evaluation_are_found_from_any_folder(
    sweep: Sweep, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(sweep, "--metric kid --eval.features digit-cnn --eval.samples 12 --eval.against ./photos")
    undo(project / "st")
    monkeypatch.chdir(project / "other")
    done = sweep("--out ../st")
    assert done.code == 0, done.err
    (file,) = (project / "st").glob("*/evaluations.jsonl")
    assert str(project / "photos") in file.read_text(encoding="utf-8")
    assert "1 done before" in sweep("--out ../st").err


def test_what_a_folder_forgets_is_said_with_the_folder_where_it_was_asked_for(
    sweep: Sweep, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(sweep)
    undo(project / "st")
    monkeypatch.chdir(project / "other")
    done = sweep(f"--out ../st --config ../s.toml --data photos {LINE}")
    assert done.code == 0, done.err
    assert f"cd {project} && ganzoo sweep --out {project}/st " in done.err
    assert "--data photos" in done.err
