"""Scores where something is away that they do not need: the plugin that a run was made with, or its data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Ganzoo
from installing import installed
from PIL import Image
from running import DIGITS, POINTS

import ganzoo as zoo
from ganzoo.errors import MissingError, UsageError
from ganzoo.evaluation.compare import compare
from ganzoo.evaluation.evaluate import evaluate

LOSS = """
from ganzoo.api import Component, hookimpl
from ganzoo.nn import Loss

class Quartic(Loss):
    def discriminator(self, real, fake):
        return ((real - 1) ** 4).mean() + (fake**4).mean()

    def generator(self, fake, real=None):
        return ((fake - 1) ** 4).mean()

@hookimpl
def ganzoo_components():
    yield Component("loss", "quartic", target="away_loss:Quartic", summary="Fourth powers.")
"""
LISTENER = """
from ganzoo.api import hookimpl

@hookimpl
def ganzoo_eval_end(run, metrics):
    raise AssertionError("there is no run to tell of")
"""
SETTINGS = {**POINTS, "run.steps": 2, "run.device": "cpu"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a loss out of a file, one with a loss that is here, and one on images that are moved away."""
    home = tmp_path_factory.mktemp("without")
    (home / "away_loss.py").write_text(LOSS, encoding="utf-8")
    (home / "listener.py").write_text(LISTENER, encoding="utf-8")
    with installed(str(home / "away_loss.py")):
        zoo.train({**SETTINGS, "loss": "away_loss/quartic", "run.out": home, "run.name": "quartic"})
    zoo.train({**SETTINGS, "run.out": home, "run.name": "plain"})
    return home


@pytest.fixture(scope="module")
def moved(home: Path) -> Path:
    """A run whose folder of images is not there any more; statistics of them are, in ``known.npz``."""
    (home / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number in range(80):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(home / "pictures" / f"{number}.png")
    settings = {**DIGITS, "data": "folder", "data.path": str(home / "pictures"), "gen": "dcgan", "disc.norm": "none"}
    run = zoo.train({**settings, "run.out": home, "run.name": "moved", "run.steps": 2, "run.device": "cpu"}).path
    asked: dict[str, Any] = {"features": "digit-cnn", "metrics": "fid", "samples": 64, "device": "cpu"}
    evaluate(run, save_stats=home / "known.npz", **asked)
    shutil.move(home / "pictures", home / "elsewhere")
    return run


@pytest.fixture
def listening(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(str(home / "listener.py")):
        yield


def test_a_run_whose_loss_is_not_here_is_scored_without_a_fault(home: Path, ganzoo: Ganzoo) -> None:
    done = ganzoo("eval", str(home / "quartic"), "--samples", "50", "--device", "cpu", "--update")
    assert done.code == 0, done.err
    assert "written" not in done.err


def test_that_nobody_is_told_of_such_a_run_is_said(home: Path, listening: None) -> None:
    said: list[str] = []
    evaluate(home / "quartic", samples=50, device="cpu", say=said.append)
    assert any(text.startswith("No plugin is told of these scores: ") and "quartic" in text for text in said)


def test_a_run_whose_loss_is_not_here_is_compared(home: Path) -> None:
    with installed():
        found = compare([home / "plain", home / "quartic"])
        assert {row.parts["loss"] for row in found.rows} == {"ns", "away_loss/quartic"}
        with pytest.raises(MissingError, match="There is no run in"):
            compare([home / "elsewhere"])


def test_scores_that_look_at_no_real_data_need_none(home: Path, moved: Path) -> None:
    found = evaluate(moved, features="digit-cnn", metrics="isc", samples=64, device="cpu")
    assert [score.name for score in found.scores] == ["isc"]
    stats = home / "known.npz"
    found = evaluate(moved, features="digit-cnn", metrics="fid", ref_stats=stats, samples=64, device="cpu")
    assert found.protocol["reference"] == "statistics known.npz"
    found = evaluate(moved, features="digit-cnn", ref_stats=stats, samples=64, device="cpu")
    assert [score.name for score in found.scores] == ["fid", "isc"]


def test_scores_that_look_at_real_data_say_that_they_are_away(home: Path, moved: Path) -> None:
    for metrics in ("fid", "isc,fid", None):
        with pytest.raises(UsageError, match="There is no folder or zip of images at"):
            evaluate(moved, features="digit-cnn", metrics=metrics, samples=64, device="cpu")
    with pytest.raises(UsageError, match="There is no data set, folder or file"):
        evaluate(moved, features="digit-cnn", metrics="isc", against=str(home / "pictures"), samples=64, device="cpu")


def test_the_network_that_suits_data_is_known_where_they_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = zoo.train({**DIGITS, "run.out": tmp_path, "run.name": "r", "run.steps": 2, "disc.norm": "none"}).path

    def gone(*_: object) -> None:
        raise MissingError("The data are away.")

    monkeypatch.setattr("ganzoo.evaluation.evaluate.open_reference", gone)
    assert evaluate(run, metrics="isc", samples=64, device="cpu").scores[0].label == "IS[digit-cnn]"
