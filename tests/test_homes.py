"""``~`` is the user's home in every path that a command or a function takes, though no shell has written it out."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Ganzoo

import ganzoo as package
from ganzoo.data.files import at_home

TINY = ("--data", "ring", "--gen.width=4", "--disc.width=4", "--batch-size=8", "--samples=4", "--steps=1")


@pytest.fixture
def home(ganzoo: Ganzoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, with a run in it; we are in a folder beside."""
    home = tmp_path / "home"
    for folder in (home, tmp_path / "here"):
        folder.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(tmp_path / "here")
    done = ganzoo("run", *TINY, "--out=~/runs", "--name=r")
    assert done.code == 0, done.err
    return home


def nothing_beside() -> bool:
    return not list(Path.cwd().glob("~*"))


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("sample ~/runs/r -n 2 --out=~/pics/", "pics/points.csv"),
        ("sample ~/runs/r -n 2 --out=~/field.png", "field.png"),
        ("export {home}/runs/r --out=~/e", "e/model.safetensors"),
        ("run --config=~/s.toml --out=~/other --name=o", "other/o/config.json"),
        ("run --resume=~/runs/r --steps 2", "runs/r/checkpoints/step-00000002"),
        ("sweep --out=~/s --config=~/s.toml --seed 0 --launcher inline -p {inline}", "s/sweep.json"),
    ],
)
def test_commands_find_and_leave_things_there(ganzoo: Ganzoo, home: Path, line: str, made: str) -> None:
    text = 'data = "ring"\nsteps = 1\nsamples = 4\nbatch_size = 8\n[gen]\nwidth = 4\n[disc]\nwidth = 4\n'
    (home / "s.toml").write_text(text, encoding="utf-8")
    inline = Path(__file__).parent / "inline_launcher.py"
    done = ganzoo(*line.format(home=home, inline=inline).split())
    assert done.code == 0, done.err
    assert (home / made).exists()
    assert nothing_beside()


def test_functions_do_so_too(home: Path) -> None:
    (home / "x.toml").write_text('data = "ring"\nsteps = 1\nsamples = 4\nbatch_size = 8\n', encoding="utf-8")
    run = package.train("~/x.toml", out="~/runs", name="x")
    assert run.path == home / "runs" / "x"
    assert package.train("~/x.toml", resume="~/runs/x", steps=2).path == run.path
    assert package.load("~/runs/x", "cpu").latent_dim
    assert nothing_beside()


def test_a_home_that_nobody_has_is_one_sentence(ganzoo: Ganzoo) -> None:
    done = ganzoo("run", "--config=~nobody-of-that-name/x")
    assert done.code == 2
    assert "There is no configuration file ~nobody-of-that-name/x." in done.err
    for line in ("sample {}", "run --resume={}", "sweep --seed 0 --out={}"):
        done = ganzoo(*line.format("~nobody-of-that-name/x").split())
        assert done.code == 2
        assert "Nobody knows whose home ~nobody-of-that-name in ~nobody-of-that-name/x is" in done.err
    assert at_home(Path("x")) == Path("x")
