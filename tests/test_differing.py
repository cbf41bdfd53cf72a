"""Processes of one run that are not alike: in what they hold, in what they meet, and in when they are ready."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from group import environment, read, run_three
from installing import installed
from running import wait_for

import ganzoo
from ganzoo import processes
from ganzoo.nn.bundle import Side
from ganzoo.nn.guard import Guard
from ganzoo.training import checkpoint, spoken
from ganzoo.training.alike import checksum
from ganzoo.training.alone import LostError

HERE = Path(__file__).parent
SMALL = ["--data", "ring", "--gen", "mlp", "--disc", "mlp", "--gen.width", "6", "--disc.width", "6", "--samples", "4"]


FAULTY = """
import os
from ganzoo.api import Component, hookimpl
from ganzoo.nn import Loss

class Faulty(Loss):
    def discriminator(self, real, fake):
        if len(real) > 4 and (os.environ["RANK"] == "1" or "{where}" == "all"):  # not in the probe
            raise ValueError("the moon is missing")
        return real.mean() - fake.mean()

    def generator(self, fake, real=None):
        return fake.mean()

@hookimpl
def ganzoo_components():
    yield Component("loss", "faulty", target="faulty:Faulty", summary="Fails.")
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("differing")
    small = {"data": "ring", "batch_size": 12, "gen.width": 6, "disc.width": 6, "samples": 4}
    with installed("own_parts"):
        ganzoo.train(small, trainer="remembering", out=out, name="solo", steps=1)
    run_three("differing.py", out, (0, 0, 0))
    return out


@pytest.fixture(scope="module")
def three(out: Path) -> list[dict[str, Any]]:
    return read(out, 3)


def test_terms_that_some_processes_have_are_averaged_over_those(three: list[dict[str, Any]]) -> None:
    for found in three:
        assert list(found["names"].items()) == [("a", 3.0), ("lazy", 5.0), ("b", 2.0), ("own", 7.0)]


def test_complex_numbers_and_double_precision_are_averaged_as_they_are(three: list[dict[str, Any]]) -> None:
    for found in three:
        assert found["complex"] == ["[(1+3j), (1+3j)]", "[2j, 2j]", "[1j]"]
        assert found["precise"] == pytest.approx(1e-12, rel=1e-3)


def test_buffers_that_a_layer_replaces_are_averaged_too(three: list[dict[str, Any]]) -> None:
    assert [found["new"] for found in three] == [1.0, 1.0, 1.0]


def test_what_all_hold_alike_stays_to_the_bit_and_what_differs_becomes_the_mean(three: list[dict[str, Any]]) -> None:
    assert [found["constant"] for found in three] == [True, True, True]
    assert [found["spread"] for found in three] == [[1.0, 1.0, 1.0, 2.0 * rank] for rank in range(3)]
    assert [found["statistics"] for found in three] == [1.0, 1.0, 1.0]


def test_none_goes_on_before_the_slowest_has_opened_its_data(three: list[dict[str, Any]]) -> None:
    assert min(found["ahead"]["on"] for found in three) >= max(found["ahead"]["opened"] for found in three)


def test_what_each_process_has_for_itself_comes_back(out: Path, three: list[dict[str, Any]]) -> None:
    assert three
    saved = [checkpoint.load(out / name / "checkpoints" / "step-00000008") for name in ("straight", "halves")]
    for each in saved:
        others = {name for name in each.optimizer if name.startswith("process")}
        assert others == {"process1.trainer.seen", "process1.random"}, "the projection is the same, and saved once"
        assert not torch.equal(each.optimizer["trainer.seen"], each.optimizer["process1.trainer.seen"])
    straight, halves = ({**each.model, **each.optimizer} for each in saved)
    assert straight.keys() == halves.keys()
    assert [name for name in straight if not torch.equal(straight[name], halves[name])] == []


def test_what_one_process_alone_keeps_and_what_differs_in_its_shape_comes_back(
    out: Path, three: list[dict[str, Any]]
) -> None:
    assert three
    first, then = (checkpoint.load(out / "partial" / "checkpoints" / checkpoint.name_of(step)) for step in (1, 2))
    for saved in (first, then):
        assert saved.state["lacking"] == {"process1.": ["trainer.only"]}
        assert saved.optimizer["trainer.only"].tolist() == [1]
        assert saved.optimizer["trainer.zeros"].tolist() == [0]
        assert saved.optimizer["process1.trainer.zeros"].tolist() == [0, 0]


def test_chance_differs_between_processes_that_were_one(out: Path, three: list[dict[str, Any]]) -> None:
    assert three
    saved = checkpoint.load(checkpoint.newest_good(out / "solo"))
    assert saved.state["processes"] == 2
    mine = json.loads(bytes(saved.optimizer["process1.random"].numpy()))
    assert mine["python"] != saved.state["random"]["python"]


def test_the_first_process_says_whether_a_run_goes_on(out: Path, three: list[dict[str, Any]]) -> None:
    assert three
    assert checkpoint.newest_good(out / "halves").name == checkpoint.name_of(9)


def command(out: Path, *more: str) -> list[str]:
    parts = ["-p", str(HERE / "own_parts.py"), "--devices", "2", "--quiet", "--out", str(out), "--name", "it"]
    return [sys.executable, "-m", "ganzoo", "run", *SMALL, *parts, *more]


def ended(out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *more),
        env=environment(),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def test_what_one_process_meets_is_said_once_and_is_the_exit_code_of_all(tmp_path: Path) -> None:
    done = ended(tmp_path, "--loss", "failing", "--steps", "10")
    assert done.stderr == "Error: The moon is missing; look for it.\n"
    assert done.returncode == 4


@pytest.mark.parametrize("where", ["one", "all"])
def test_the_fault_of_a_plugin_is_said_once(tmp_path: Path, where: str) -> None:
    part = tmp_path / "faulty.py"
    part.write_text(FAULTY.format(where=where), encoding="utf-8")
    done = ended(tmp_path, "-p", str(part), "--loss", "faulty", "--steps", "10")
    assert done.stderr.count("ValueError: the moon is missing; this is for the plugin's author to mend") == 1
    assert [line[:7] for line in done.stderr.splitlines()].count("Error: ") == 1
    assert done.returncode == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_signal_that_the_launcher_ignores_is_ignored_by_all(tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["nohup", *command(tmp_path, "--steps", "1000000", "--checkpoint-every", "10")],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    saved = tmp_path / "it" / "checkpoints"
    wait_for(lambda: any(saved.glob("step-*")), process, 180)
    process.send_signal(signal.SIGHUP)
    before = max(saved.glob("step-*"))
    wait_for(lambda: max(saved.glob("step-*")) > before, process, 60)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: stopped after step " in said


def test_process_0_is_waited_for_while_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken, "BEAT", 0.05)
    monkeypatch.setattr(spoken, "_HURRY", 0.5)
    monkeypatch.setattr(spoken, "_stores", [dist.HashStore()])  # type: ignore[attr-defined]
    monkeypatch.setattr(spoken, "_numbers", iter([0, 0]))
    first, second = (spoken.Spoken(processes.Place(rank, 2, rank, 2), 1) for rank in range(2))
    threading.Timer(2.5, lambda: first.from_first(lambda: "late")).start()
    assert second.from_first(lambda: "never called") == "late"
    first.fall_silent()
    begun = time.monotonic()
    with pytest.raises(LostError, match="is gone, or did not answer within 1 s"):
        second.from_first(lambda: "never called")
    assert time.monotonic() - begun < 10


def test_programs_apart_do_not_take_the_place_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "GROUP_RANK", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("GROUP_OF_MINE", "stays")
    apart = processes.apart()
    assert not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "GROUP_RANK", "TORCHELASTIC_RUN_ID"} & apart.keys()
    assert apart["GROUP_OF_MINE"] == "stays"
    assert apart["PATH"] == os.environ["PATH"]


def test_checksums_of_complex_numbers() -> None:
    value = torch.tensor([1 + 2j, 3 + 4j], dtype=torch.complex128)
    assert checksum([value]) == checksum([value.clone()])
    assert checksum([value]) != checksum([value.conj().resolve_conj()])
    assert checksum([value.real]) != checksum([-value.real]), "two signs do not cancel each other"


def test_a_skipped_update_puts_back_buffers_that_a_layer_replaces() -> None:
    class Layer(torch.nn.Module):
        mean: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.register_buffer("mean", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.mean = 0.9 * self.mean + 0.1 * x.mean().detach()
            return self.weight * x

    layer = Layer()
    side = Side({"layer": layer}, lambda parameters: torch.optim.SGD(parameters, 0.1))
    guard = Guard(torch.device("cpu"))
    for x, mean in ((10.0, 1.0), (float("nan"), 1.0)):
        guard.begin([side])
        total = layer(torch.tensor([x])).sum()
        side.backward(total)
        guard.step(side, total)
        guard.settle()
        assert layer.mean.item() == mean
    assert int(guard.skipped) == 1
