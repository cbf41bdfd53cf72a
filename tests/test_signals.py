"""Runs that are told to stop, by a signal or by the clock, and the same command again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from running import TINY, also, flags, train, weights

import ganzoo
from ganzoo import cli
from ganzoo.api import hookimpl
from ganzoo.config import Layer, resolve
from ganzoo.errors import Interrupted, UsageError
from ganzoo.options import Seconds
from ganzoo.training import checkpoint, signals
from ganzoo.training.start import start


class Sends:
    """Sends a signal to its own process at a step."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    @hookimpl
    def ganzoo_step_end(self, step: int) -> None:
        self._send(step)

    @hookimpl
    def ganzoo_samples(self, step: int) -> None:
        self._send(step)

    def _send(self, step: int) -> None:
        if step == self.step:
            self.step = -1  # a second one would end this process
            os.kill(os.getpid(), self.number)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP here")
def test_a_lost_terminal_saves_and_leaves_unless_it_is_ignored(tmp_path: Path) -> None:
    settings = {**TINY, "run.out": tmp_path, "run.steps": 9}
    with pytest.raises(Interrupted, match="SIGHUP: stopped after step 2 with everything saved") as caught:
        ganzoo.train({**settings, "run.name": "heard"}, observers=[Sends(signal.SIGHUP, 2)])
    assert caught.value.exit_code == 128 + signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = ganzoo.train({**settings, "run.name": "ignored"}, observers=[Sends(signal.SIGHUP, 2)])
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.metrics()[-1]["step"] == 9


def test_a_score_that_a_signal_came_before_is_made_up_for(tmp_path: Path) -> None:
    settings: dict[str, Any] = {**TINY, "run.eval_every": 3, "run.eval_samples": 50, "run.out": tmp_path}
    straight = ganzoo.train({**settings, "run.name": "straight", "run.steps": 10})
    with pytest.raises(Interrupted, match="after step 6"):
        ganzoo.train({**settings, "run.name": "parts", "run.steps": 10}, observers=[Sends(signal.SIGTERM, 6)])
    parts = ganzoo.train({"run.steps": 10}, resume=tmp_path / "parts")
    assert parts.scores() == straight.scores()
    states = [checkpoint.load(checkpoint.newest_good(run.path)).state for run in (straight, parts)]
    assert states[0]["best"] == states[1]["best"]
    first, second = ((run.checkpoints / checkpoint.BEST).read_bytes() for run in (straight, parts))
    assert first == second


def test_a_signal_during_the_first_grid_leaves_a_run_to_continue(tmp_path: Path) -> None:
    straight = train(tmp_path / "a", steps=5)
    with pytest.raises(Interrupted, match="after step 0"):
        ganzoo.train(
            {**TINY, "run.out": tmp_path, "run.steps": 5, "run.name": "r"}, observers=[Sends(signal.SIGTERM, 0)]
        )
    assert weights(train(tmp_path, resume=tmp_path / "r", steps=5), 5) == weights(straight, 5)


def test_a_signal_before_there_is_anything_to_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ganzoo.training.loop

    def slow(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(ganzoo.training.loop, "Monitor", slow)
    with pytest.raises(Interrupted, match="SIGTERM: stopped before the first step"):
        train(tmp_path / "runs", steps=5)
    assert list((tmp_path / "runs").iterdir()) == []


def test_handlers_come_back_and_those_of_other_languages_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    real = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGINT else real(number))
    with signals.StopSignals() as stop, stop:
        assert real(signal.SIGTERM) == stop._handle
        assert real(signal.SIGINT) != stop._handle
    assert real(signal.SIGTERM) == before


def test_a_signal_is_known_around_the_part_that_noted_it() -> None:
    with signals.StopSignals() as around:
        around.defer()
        with signals.StopSignals() as within:
            within.defer()
            signal.raise_signal(signal.SIGINT)
            assert signals.noted() == within.received == signal.SIGINT
        assert signals.noted() == around.received == signal.SIGINT
    assert not signals.noted()


TWICE = """
import os, signal
from ganzoo.training.signals import StopSignals

with StopSignals() as stop:
    stop.defer()
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
    print("saved")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(("world", "saved"), [("1", ""), ("2", "saved\n")])
def test_a_second_signal_leaves_at_once_unless_there_are_several_processes(world: str, saved: str) -> None:
    """Whoever has started them: this is how ``srun`` does."""
    place = {"RANK": "0", "WORLD_SIZE": world}
    done = subprocess.run(
        [sys.executable, "-c", TWICE], env={**os.environ, **place}, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (saved, "")
    assert done.returncode == (0 if saved else 128 + signal.SIGTERM)


def test_a_step_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_PATIENCE", -1.0)
    straight = train(tmp_path / "a", steps=7)

    said: list[str] = []
    values = {**TINY, "run.out": tmp_path, "run.name": "r", "run.steps": 7}
    # As if the signal had come a moment later, within step 6.
    monkeypatch.setattr("ganzoo.training.ending.Ending.is_due", lambda _: False)
    with pytest.raises(Interrupted, match="after step 4"):
        start(resolve([Layer("test", values)]), observers=[Sends(signal.SIGTERM, 5)], say=said.append)
    assert any("Step 6 takes too long" in sentence for sentence in said)
    monkeypatch.undo()
    assert weights(train(tmp_path, resume=tmp_path / "r", steps=7), 7) == weights(straight, 7)


@pytest.mark.parametrize(
    ("text", "seconds"), [("300", 300), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("2d", 172800), ("90s", 90)]
)
def test_times_as_people_write_them(text: str, seconds: float) -> None:
    assert resolve([Layer("test", {"run.max_time": text}, textual=True)]).run.max_time == seconds
    assert resolve([Layer("test", {"run.max_time": seconds})]).run.max_time == Seconds(seconds)


@pytest.mark.parametrize("text", ["", "m", "5x", "-5m", "0", "nan", "inf", "1m1h", "true"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="max_time"):
        resolve([Layer("test", {"run.max_time": text}, textual=True)])


def test_the_time_limit_saves_and_leaves_and_the_run_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    run = train(tmp_path, said, steps=10**6, **also({"run.max_time": 1.0, "run.checkpoint_every": 0}))
    assert "--max-time" in said[-1]
    assert f"--resume {run.path}" in said[-1]
    (saved,) = checkpoint.list_all(run.checkpoints)
    step = checkpoint.step_of(saved)
    assert run.metrics()[-1]["step"] == step
    assert run.last_grid() == run.samples / f"{saved.name}.png"
    assert run.metrics()[-1]["seconds"] >= 1.0
    assert step < 10**6
    # The limit is saved with the run, and three steps may take longer on a busy machine.
    again = train(tmp_path, resume=run.path, steps=step + 3, **also({"run.checkpoint_every": 0, "run.max_time": None}))
    assert weights(train(tmp_path / "s", steps=step + 3, **also({"run.checkpoint_every": 0})), step + 3) == weights(
        again, step + 3
    )


# The same command again.


FLAGS = flags({key: value for key, value in TINY.items() if key != "run.keep_last"})


def test_the_same_command_says_how_to_continue(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = ["run", *FLAGS, "--out", str(tmp_path)]
    assert cli.main([*line, "--steps", "4"]) == 0
    assert cli.main([*line, "--steps", "4"]) == 0
    assert "same settings" not in capfd.readouterr().err  # the first one is done
    assert cli.main([*line, "--steps", "6", "--seed", "1"]) == 0
    assert "same settings" not in capfd.readouterr().err  # the others had another seed
    assert cli.main([*line, "--steps", "8"]) == 0
    said = capfd.readouterr().err
    assert "has the same settings and stopped after step 4 of 8. To continue it, add --resume auto." in said
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(("answer", "runs"), [("y", 1), ("n", 2)])
def test_on_a_terminal_the_same_command_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, runs: int
) -> None:
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    train(tmp_path, steps=4, **also({"run.keep_last": 2}))
    leader, follower = pty.openpty()
    os.write(leader, f"{answer}\n".encode())
    with os.fdopen(follower, encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert cli.main(["run", *FLAGS, "--out", str(tmp_path), "--steps", "5"]) == 0
    os.close(leader)
    assert len(list(tmp_path.iterdir())) == runs


@pytest.mark.skipif(sys.platform == "win32", reason="has other pipes")
def test_a_reader_of_the_log_that_goes_away_ends_no_run(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "ganzoo", "run", *flags({**TINY, "run.out": tmp_path, "run.name": "r"})]
    process = subprocess.Popen([*command, "--steps", "300"], stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    assert os.read(reader, 100)
    os.close(reader)
    assert process.wait(120) == 0
    assert checkpoint.step_of(checkpoint.newest_good(tmp_path / "r")) == 300


def test_a_run_keeps_its_name_when_it_goes_on(tmp_path: Path) -> None:
    run = train(tmp_path, **also({"run.steps": 1}))
    with pytest.raises(UsageError, match=r"keeps its name when it is continued; leave --name other out"):
        ganzoo.train(resume=run.path, steps=2, name="other")
    assert ganzoo.train(resume=run.path, steps=2, name=run.path.name).path == run.path
