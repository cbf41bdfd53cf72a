"""Commands that ganzoo prints can be typed as they stand, and what cannot be is refused before the work."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import Ganzoo
from installing import installed
from PIL import Image
from running import DIGITS, POINTS, SMALL, flags

import ganzoo as public
from ganzoo import processes
from ganzoo.config import Layer, resolve
from ganzoo.errors import quoted
from ganzoo.local import local_words
from ganzoo.plugins import loaded
from ganzoo.training import advice
from ganzoo.training.run import Run

TINY_PLUGIN = """
from dataclasses import dataclass
from ganzoo.api import Preset, hookimpl

@hookimpl
def ganzoo_presets():
    yield Preset("tiny", settings={"data": "ring"}, summary="Points.")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of points and one of images."""
    out = tmp_path_factory.mktemp("runs")
    for name, settings in {"points": POINTS, "digits": DIGITS}.items():
        public.train({**settings, "run.out": out, "run.name": name, "run.steps": 1, "run.device": "cpu"})
    return out


# What is printed can be typed.


def test_an_advice_says_switches_as_switches(ganzoo: Ganzoo) -> None:
    for path in ("run.deterministic", "run.compile"):
        command = advice.to_try("explosion", resolve([Layer("test", {path: True})]))
        assert f" --{path.removeprefix('run.')}" in command
        done = ganzoo(*shlex.split(command)[1:], "--dry-run", "--json")
        assert done.code == 0, done.err
        assert done.json["config"]["run"][path.removeprefix("run.")] is True


def test_a_copy_is_named_as_the_command_takes_it(ganzoo: Ganzoo, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(8):
        Image.new("L", (8, 8), 9 * number).save(tmp_path / "photos" / f"{number}.png")
    for out, said in (("my copy", "'my copy'"), ("digits", "./digits"), ("copy", "copy")):
        done = ganzoo("data", "prepare", "photos", out)
        assert done.code == 0
        command = done.err.strip().partition("Next: ")[2]
        assert command == f"ganzoo run --data {said}"
        config = ganzoo(*shlex.split(command)[1:], "--dry-run", "--json").json["config"]
        assert config["data"]["name"] == "ganzoo/prepared"


def test_compare_says_which_plugin_a_score_needs(ganzoo: Ganzoo, tmp_path: Path, runs: Path) -> None:
    (tmp_path / "tiny.py").write_text(TINY_PLUGIN, encoding="utf-8")
    done = ganzoo("compare", str(runs / "points"), "-p", "tiny.py")
    assert f"ganzoo eval {runs / 'points'} --update -p tiny.py" in done.err


def test_plugins_that_do_not_load_are_in_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(TINY_PLUGIN, encoding="utf-8")
    (tmp_path / "empty.py").write_text("", encoding="utf-8")
    (tmp_path / "torn.py").write_text("(", encoding="utf-8")
    with installed("missing.py", "torn.py", "tiny.py", "empty.py", "nosuch"):
        assert local_words(loaded()) == " -p tiny.py"


def test_words_are_quoted_as_the_shell_of_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert [quoted(word) for word in ("runs/a", "my run")] == ["runs/a", "'my run'"]
    monkeypatch.setattr(sys, "platform", "win32")
    assert [quoted(word) for word in ("runs\\a", "my run")] == ["runs\\a", '"my run"']


# What cannot be is said first.


@pytest.mark.parametrize("ending", ["webp", "jpg"])
def test_a_picture_that_is_too_large_for_its_format(ganzoo: Ganzoo, tmp_path: Path, runs: Path, ending: str) -> None:
    done = ganzoo("sample", str(runs / "digits"), "-n", "3000", "--columns", "1", "--out", f"x.{ending}")
    assert done.code == 2
    assert "pixels is too large for" in done.err
    assert "use .png, or another number of columns (--columns)." in done.err
    assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.glob("x*"))
    assert ganzoo("sample", str(runs / "digits"), "-n", "300", "--columns", "1", "--out", f"x.{ending}").code == 0


@pytest.mark.parametrize("line", ["eval POINTS --picture f.bmp", "compare POINTS --grid f.bmp"])
def test_an_ending_of_no_picture_is_refused_before_the_work(ganzoo: Ganzoo, runs: Path, line: str) -> None:
    done = ganzoo(*(str(runs / "points") if word == "POINTS" else word for word in line.split()))
    assert (done.code, done.out) == (2, "")
    assert done.err == "Error: 'f.bmp' is no picture that ganzoo writes; its name ends in .png, .jpg, .jpeg, .webp.\n"


def test_a_dry_run_of_a_run_that_goes_on_checks_as_the_run_does(ganzoo: Ganzoo, tmp_path: Path, runs: Path) -> None:
    path = str(runs / "points")
    refused = [ganzoo("run", "--resume", path, "--optim.lr", "1e-3", *more) for more in ([], ["--dry-run"])]
    assert [done.code for done in refused] == [2, 2]
    assert refused[0].err == refused[1].err
    assert refused[1].out == ""
    assert ganzoo("run", "--resume", path, "--steps", "2", "--dry-run", "--json").json["config"]["run"]["steps"] == 2
    assert ganzoo("run", "--resume", "auto", "--steps", "2", "--dry-run").code == 0
    odd = flags({**SMALL, "data": "ring", "disc.norm": "batch", "loss": "wgan-gp", "name": "odd", "steps": 1})
    assert ganzoo("run", *odd, "--allow-incompatible", "--quiet").code == 0
    assert ganzoo("run", "--resume", "runs/odd", "--dry-run").code == 0
    assert ganzoo("run", *odd, "--dry-run").code == 2


def test_a_dry_run_of_a_run_that_goes_on_needs_no_torch(runs: Path) -> None:
    program = (
        "import sys; from ganzoo.cli import main\n"
        "assert main(['run', '--resume', sys.argv[1], '--dry-run']) == 0 and 'torch' not in sys.modules"
    )
    command = [*processes.python(), "-c", program, str(runs / "points")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "GANZOO_PLUGINS": ""})


# What programs read.


@pytest.mark.parametrize("line", ["eval --cache clear", "data cache clear"])
def test_clearing_is_told_in_json_too(
    ganzoo: Ganzoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    done = ganzoo(*line.split(), "--json")
    assert done.json["freed"] == 0
    assert done.json["folder"].startswith(str(tmp_path / "cache"))


def test_what_is_no_number_is_null_in_json(
    ganzoo: Ganzoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"step": 1, "loss": 0.5, "mine": float("nan"), "more": [float("inf")], "count": np.float64("nan")}
    monkeypatch.setattr(Run, "metrics", lambda _: [odd])
    done = ganzoo("run", *flags({**POINTS, "steps": 1}), "--json", "--quiet")
    assert json.loads(done.out, parse_constant=pytest.fail)["metrics"] == {
        "step": 1,
        "loss": 0.5,
        "mine": None,
        "more": [None],
        "count": None,
    }
