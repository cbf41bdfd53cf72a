"""Wrong arguments of the functions of Python are told in a sentence, as those of the command line are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import ganzoo
from ganzoo.api import hookimpl
from ganzoo.config import resolve
from ganzoo.errors import UsageError
from ganzoo.training.keeping import Keeper
from ganzoo.training.run import Run

SMALL: dict[str, Any] = {"gen": "mlp", "disc": "mlp", "batch_size": 4, "samples": 4, "steps": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ganzoo.train(**SMALL, out=tmp_path_factory.mktemp("runs")).path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"samples": -3}, "samples must be int|none >= 2, not -3."),
        ({"samples": "20"}, "samples must be int|none >= 2, not '20'."),
        ({"real_samples": 0}, "real_samples must be int|none >= 2, not 0."),
        ({"seed": 2**70}, f"seed must be int from 0 to {2**63 - 1}, not {2**70}."),
        ({"seed": -1}, f"seed must be int from 0 to {2**63 - 1}, not -1."),
        ({"seed": None}, f"seed must be int from 0 to {2**63 - 1}, not none."),
        ({"metrics": "fod"}, "There is no metric 'fod'"),
        ({"device": None}, "There is no device None"),
    ],
)
def test_a_request_to_score_that_cannot_be(run: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match="^" + said.replace("|", r"\|")):
        ganzoo.evaluate(run, **arguments)


def test_one_metric_needs_no_list(run: Path) -> None:
    result = ganzoo.evaluate(run, metrics="fid, classes", samples=20, device="cpu")
    assert {"fid", "classes"} <= {score.name for score in result.scores}


def test_devices_of_torch_are_devices(run: Path) -> None:
    gen = ganzoo.load(run, torch.device("cpu"))
    assert next(gen.parameters()).device.type == "cpu"
    with pytest.raises(UsageError, match="There is no device None"):
        ganzoo.load(run, None)  # type: ignore[arg-type]


class Unmarked:
    """Was meant to watch."""

    def ganzoo_step_end(self) -> None: ...


class Marked:
    """Watches."""

    @hookimpl
    def ganzoo_step_end(self) -> None: ...


def test_observers_that_hear_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hears of nothing: mark its methods, such as ganzoo_step_end, with @ganzoo"):
        ganzoo.train(**SMALL, out=tmp_path, observers=[Marked(), Unmarked()])
    with pytest.raises(UsageError, match="observers must be a list of objects, not <"):
        ganzoo.train(**SMALL, out=tmp_path, observers=Marked())  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    ganzoo.train(**SMALL, out=tmp_path, observers=[Marked()])


def test_lines_of_metrics_are_json(tmp_path: Path) -> None:
    config = resolve([])
    run = Run(tmp_path, config, config.spec())
    Keeper(run, print).line({"step": 1, "ratio": math.nan, "loss_d": 0.5, "high": -math.inf})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    line = json.loads(run.metrics_file.read_text(encoding="utf-8"), parse_constant=refuse)
    assert line == {"step": 1, "ratio": None, "loss_d": 0.5, "high": None}
