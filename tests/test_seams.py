"""Where ganzoo meets the code of others, files of other days, and processes that are gone."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from installing import installed
from running import POINTS, weights
from torch import Tensor, nn

import ganzoo
from ganzoo.alive import lives, started
from ganzoo.api import Component, Job, Preset, Spec, hookimpl, option
from ganzoo.cli import main
from ganzoo.config import Layer, resolve
from ganzoo.errors import GanzooError, UsageError
from ganzoo.nn import EMA
from ganzoo.nn.buffers import unchanged_buffers
from ganzoo.plugins import find
from ganzoo.registry import list_components, registry
from ganzoo.training.checkpoint import restore_module
from ganzoo.training.observers import Observers
from ganzoo.training.run import Run
from ganzoo.training.start import resume_config
from ganzoo_local.launcher import LocalLauncher

SMALL: dict[str, Any] = {
    "data": "ring",
    "gen": "mlp",
    "disc": "mlp",
    "gen.width": 4,
    "disc.width": 4,
    "samples": 4,
    "batch_size": 8,
}
THEIRS = """
import torch
from ganzoo.api import Component, Preset, Spec, hookimpl
from ganzoo.nn import Discriminator, Loss

class Masked(Discriminator):
    def __init__(self, config, spec):
        super().__init__(spec)
        self.net = torch.nn.Linear(spec.numel, 1)
        self.register_buffer("mask", torch.tensor([float("-inf")]))

    def features(self, x, y=None):
        return x.flatten(1)

    def forward(self, x, y=None):
        return self.net(self.features(x)).squeeze(1)

class Theirs(Loss):
    def discriminator(self, real, fake):
        return fake.mean() - real.mean()

    def generator(self, fake, real=None):
        return -fake.mean()

@hookimpl
def ganzoo_components():
    yield Component("discriminator", "masked", target=f"{__name__}:Masked")
    yield Component("loss", "wgan", target=f"{__name__}:Theirs")
    yield Component("loss", "theirs", target=f"{__name__}:Theirs")
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "ganzoo_theirs.py").write_text(THEIRS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with installed("ganzoo_theirs"):
        yield


@dataclass(frozen=True)
class Named:
    name: str = option("resnet18", help="Which.")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"config": Named}, "has an option 'name'"),
        ({"summary": None}, "summary must be a text"),
        ({"recipe": ["disc.norm"]}, "recipe a mapping"),
        ({"traits": "conditional"}, "traits of generator/x must be a tuple"),
        ({"rules": (1,)}, "rules and aliases of generator/x must be tuples"),
        ({"aliases": "y"}, "rules and aliases of generator/x must be tuples"),
    ],
)
def test_a_record_that_cannot_be_is_refused_where_it_is_made(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(GanzooError, match=sentence):
        Component("generator", "x", target="a:B", **wrong)


@pytest.mark.parametrize("wrong", [("", "s", {}), (1, "s", {}), ("x", None, {}), ("x", "s", None)])
def test_a_preset_that_cannot_be_is_refused_where_it_is_made(wrong: tuple[Any, Any, Any]) -> None:
    with pytest.raises(GanzooError, match="preset"):
        Preset(*wrong)


@pytest.mark.usefixtures("theirs")
def test_a_name_that_ganzoo_knows_stays_ganzoos_and_ids_outlive_a_packaging() -> None:
    assert registry().get("loss", "wgan").id == "ganzoo/wgan-clip"
    assert "ganzoo_theirs/wgan" in list_components("loss")
    assert "theirs" in list_components("loss")
    entry = registry().get("loss", "ganzoo_theirs/wgan")
    assert registry().get("loss", "theirs/wgan") == registry().get("loss", "ganzoo-theirs/wgan") == entry


@pytest.mark.usefixtures("theirs")
def test_what_no_checkpoint_could_give_back_is_refused_early(tmp_path: Path) -> None:
    small = {name: value for name, value in SMALL.items() if name != "disc.width"}
    with pytest.raises(GanzooError, match=r"saves numbers that are not finite in 'mask'; this is for the plugin's"):
        ganzoo.train({**small, "disc": "masked", "out": tmp_path / "runs", "steps": 9, "log_every": 2, "device": "cpu"})
    (run,) = (tmp_path / "runs").iterdir()
    assert Run.open(run).metrics() == [], "it ended at its first line"


def test_a_plugin_named_twice_or_installed_by_now_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entries = [found.value for found in find()]
    more = [found.value for found in find(["tiny.py", "./tiny.py", str(tmp_path / "tiny.py"), entries[0], "other"])]
    assert more == [*entries, str(tmp_path / "tiny.py"), "other"]


class Turning(nn.Module):
    """Puts another tensor in the place of its buffer."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * x.mean()
        return x


def test_a_look_leaves_buffers_that_a_layer_replaces_as_they_were() -> None:
    net = nn.Sequential(Turning(), nn.BatchNorm1d(2))
    net(torch.ones(4, 2))
    before = copy.deepcopy(net.state_dict())
    with unchanged_buffers(net):
        net(torch.full((4, 2), 9.0))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_moving_average_of_a_network_whose_hooks_keep_weights() -> None:
    class Gen(ganzoo.nn.Generator):
        def __init__(self) -> None:
            super().__init__(Spec((2,)), latent_dim=3)
            self.net = torch.nn.utils.spectral_norm(nn.Linear(3, 2))

        def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            out: Tensor = self.net(z)
            return out

    gen = Gen()
    gen(gen.latent(4)).sum().backward()  # its hook leaves a weight that is in a graph
    ema = EMA(gen, half_life=100)
    ema.update(gen, images=8, batch_size=8)
    z = gen.latent(4)
    assert torch.equal(ema.module(z), gen.eval()(z))


class Jobs:
    """One job that lasts, and then a disk that is full."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[Job]:
        code = "import time, pathlib; pathlib.Path('here').touch(); time.sleep(600)"
        yield Job("a", ((sys.executable, "-c", code),), self.folder / "a.log", self.folder, {})
        deadline = time.monotonic() + 60
        while not (self.folder / "here").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        raise OSError(28, "No space left on device")


@pytest.mark.skipif(sys.platform == "win32", reason="looks for a process as POSIX does")
def test_no_job_outlives_a_launcher_that_fails(tmp_path: Path) -> None:
    launcher = LocalLauncher(SimpleNamespace(jobs=2))
    with pytest.raises(OSError, match="No space"):
        list(launcher.launch(iter(Jobs(tmp_path)), lambda: 0))
    note = next(tmp_path.glob("*.process"), None)
    assert (tmp_path / "here").exists()
    assert note is None, "its end was seen"


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    mine = started(os.getpid())
    assert lives(os.getpid())
    assert lives(os.getpid(), mine)
    assert mine is None or not lives(os.getpid(), "another boot 17")
    assert not lives(-1)
    assert not lives("1")


def test_resuming_by_auto_looks_for_the_name_too(tmp_path: Path) -> None:
    settings = {**SMALL, "out": tmp_path, "device": "cpu"}
    run = ganzoo.train({**settings, "name": "a", "steps": 1})
    found = [resume_config("auto", [Layer("x", {**settings, "steps": 2, **name})])[1] for name in ({}, {"name": "a"})]
    assert found == [run.path, run.path]
    assert resume_config("auto", [Layer("x", {**settings, "steps": 2, "name": "b"})])[1] is None


def test_what_was_allowed_once_is_allowed_when_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--data", "digits", "--loss", "wgan-gp", "--disc.norm", "batch", "--gen.width", "4", "--disc.width", "4"]
    begin = ["run", *line, "--out", str(tmp_path), "--name", "it", "--steps", "1", "--quiet", "--samples", "4"]
    assert main(begin) == 2
    assert main([*begin, "--allow-incompatible"]) == 0
    assert main(["run", "--resume", str(tmp_path / "it"), "--steps", "2", "--quiet"]) == 0
    assert "Error" not in capsys.readouterr().err.rpartition("Error: ")[2].partition("\n")[2]


@pytest.mark.parametrize("values", [{"out": "~nosuchuser/x"}, {"out": "a\0b"}, {"data": "folder", "data.path": "a\0b"}])
def test_paths_that_no_system_takes(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        resolve([Layer("file x.toml", values)])


def test_home_is_meant_in_files_too() -> None:
    assert resolve([Layer("file x.toml", {"out": "~/runs"})]).run.out == Path.home() / "runs"


def test_an_observer_that_is_refused_leaves_no_other_behind() -> None:
    class Good:
        @hookimpl
        def ganzoo_run_end(self, run: object, error: object) -> None: ...

    class Bad:
        @hookimpl
        def ganzoo_run_end(self, run: object, nothing_of_that_name: object) -> None: ...

    good = Good()
    for _ in range(2):
        with pytest.raises(Exception, match="nothing_of_that_name"):
            Observers([good, Bad()])
    Observers([good])


def test_a_critic_of_other_sizes_is_told_in_a_sentence() -> None:
    tensors = {"disc.weight": torch.zeros(3, 2)}
    with pytest.raises(GanzooError, match="does not fit the discriminator, loss and regularizers of this conf"):
        restore_module(nn.ModuleDict({"disc": nn.Linear(2, 1, bias=False)}), "", tensors)


def test_a_sweep_begun_with_a_file_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = {"format": "ganzoo-sweep/1", "axes": {"seed": ["0", "1"]}, "base": {"gen": ["tiny"]}}
    from ganzoo.sweep.work import write_sweep

    write_sweep(tmp_path / "s", {**saved, "plugins": ["tiny.py"], "evaluate": None, "cells": {}})
    assert main(["sweep", "--out", str(tmp_path / "s"), "--dry-run"]) == 2
    assert "The sweep was begun with -p tiny.py: say so again." in capsys.readouterr().err
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["plugins"] == ["tiny.py"]


def test_betas_that_keep_a_moment_for_ever_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The betas 0\.5,1\.0 never change a moment of adam"):
        ganzoo.train({**SMALL, "out": tmp_path, "steps": 1, "device": "cpu", "optim.betas": (0.5, 1.0)})


CHANCE = """
import random
import numpy as np
from ganzoo.api import Component, hookimpl
from ganzoo.nn import Loss

class Chance(Loss):
    def discriminator(self, real, fake):
        return (random.random() + np.random.rand()) * (fake.mean() - real.mean())

    def generator(self, fake, real=None):
        return -fake.mean()

@hookimpl
def ganzoo_components():
    yield Component("loss", "chance", target="chance_part:Chance", summary="Draws from Python and NumPy.")
"""


def test_random_numbers_of_python_and_numpy_follow_from_the_seed(tmp_path: Path) -> None:
    (tmp_path / "chance_part.py").write_text(CHANCE, encoding="utf-8")
    with installed(str(tmp_path / "chance_part.py")):
        settings = {**POINTS, "loss": "chance", "run.out": tmp_path / "runs", "run.checkpoint_every": 2}
        runs = {}
        for name, seed, steps in (("one", 0, 4), ("two", 0, 4), ("other", 1, 4), ("half", 0, 2)):
            random.seed(name)
            runs[name] = ganzoo.train({**settings, "run.seed": seed, "run.steps": steps, "run.name": name})
        ganzoo.train({}, resume=runs["half"].path, steps=4)
    assert weights(runs["one"], 4) == weights(runs["two"], 4)
    assert weights(runs["one"], 4) == weights(runs["half"], 4)
    assert weights(runs["one"], 4) != weights(runs["other"], 4)


class Meddles:
    """Changes what it is shown, and leaves."""

    def __init__(self) -> None:
        self.seen = 0

    @hookimpl
    def ganzoo_step_end(self, step: int, metrics: dict[str, Tensor]) -> None:
        self.seen += 1
        for value in metrics.values():
            value.mul_(0)
        if step == 2:
            sys.exit(7)


def test_an_observer_changes_no_number_and_ends_no_run(tmp_path: Path) -> None:
    def metrics(name: str, *observers: object) -> list[dict[str, Any]]:
        settings = {**SMALL, "out": tmp_path, "steps": 4, "log_every": 1, "name": name}
        lines = ganzoo.train(resolve([Layer("test", settings)]), observers=observers).metrics()
        return [{key: value for key, value in line.items() if "second" not in key} for line in lines]

    meddler = Meddles()
    assert metrics("watched", meddler) == metrics("alone")
    assert meddler.seen == 2
