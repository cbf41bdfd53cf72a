"""Runs that stop, go back, meet a full disk or another process: nothing is lost, and every refusal is a sentence."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import ganzoo
from ganzoo import cli
from ganzoo.api import Spec, hookimpl
from ganzoo.config import Layer, resolve
from ganzoo.errors import GanzooError, Interrupted, UsageError
from ganzoo.options import Seconds
from ganzoo.training import checkpoint, keeping, signals
from ganzoo.training.checkpoint import Retention, Snapshot
from ganzoo.training.run import Run
from ganzoo.training.start import start

TINY: dict[str, Any] = {
    "data": "ring",
    "gen.width": 4,
    "disc.width": 4,
    "gen.latent_dim": 4,
    "run.batch_size": 8,
    "run.samples": 4,
    "run.log_every": 3,
    "run.sample_every": 0,
    "run.checkpoint_every": 4,
    "run.keep_last": 20,
}


def train(out: Path, said: list[str] | None = None, *, resume: Path | None = None, **settings: Any) -> Run:
    values = {**TINY, "run.out": out, **settings}
    return start(resolve([Layer("test", values)]), resume=resume, say=(said if said is not None else []).append)


def also(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that are no words of Python."""
    return settings


def weights(run: Run, step: int) -> tuple[bytes, ...]:
    folder = run.checkpoints / checkpoint.name_of(step)
    return tuple((folder / name).read_bytes() for name in (checkpoint.MODEL, checkpoint.OPTIMIZER))


# Signals and time.


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

    def slow(*_: object) -> None:
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


def test_a_step_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_PATIENCE", -1.0)
    straight = train(tmp_path / "a", steps=7)

    said: list[str] = []
    values = {**TINY, "run.out": tmp_path, "run.name": "r", "run.steps": 7}
    # As if the signal had come a moment later, within step 6.
    monkeypatch.setattr("ganzoo.training.loop.Session._must_stop", lambda _: False)
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
    again = train(tmp_path, resume=run.path, steps=step + 3, **also({"run.checkpoint_every": 0}))
    assert weights(train(tmp_path / "s", steps=step + 3, **also({"run.checkpoint_every": 0})), step + 3) == weights(
        again, step + 3
    )


# The same command again.

FLAGS = [
    f"--{key.removeprefix('run.').replace('_', '-')}={value}" for key, value in TINY.items() if key != "run.keep_last"
]


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


# What is kept.


def small(step: int) -> Snapshot:
    return Snapshot({"gen.w": torch.full((2,), float(step))}, {}, {"step": step})


def kept(folder: Path) -> list[int]:
    return [checkpoint.step_of(path) for path in reversed(checkpoint.list_all(folder))]


def test_the_newest_every_so_many_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in range(1, 21):
        checkpoint.save(tmp_path, step, small(step), Retention(2, 8))
        if step == 5:
            checkpoint.mark_best(tmp_path, 5, fid=3.5)
    assert kept(tmp_path) == [5, 8, 16, 19, 20]
    assert checkpoint.best(tmp_path) == tmp_path / checkpoint.name_of(5)
    with pytest.raises(GanzooError, match="cannot be the best"):
        checkpoint.mark_best(tmp_path, 7)
    checkpoint.mark_best(tmp_path, 19)
    checkpoint.save(tmp_path, 30, small(30), Retention(1))
    assert kept(tmp_path) == [19, 30]
    (tmp_path / checkpoint.BEST).write_text("5", encoding="utf-8")
    assert checkpoint.best(tmp_path) is None


def test_later_checkpoints_that_are_damaged_push_no_good_one_out(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, small(step), Retention(9))
    (tmp_path / checkpoint.name_of(3) / checkpoint.STATE).unlink()
    checkpoint.save(tmp_path, 2, small(2), Retention(2))
    assert kept(tmp_path) == [1, 2, 3]


def test_a_draft_that_is_whole_takes_its_place(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 3, small(3), Retention(2))
    path.rename(tmp_path / f".{path.name}.00ff.tmp")
    torn = tmp_path / f".{checkpoint.name_of(4)}.00ff.tmp"
    shutil.copytree(tmp_path / f".{path.name}.00ff.tmp", torn)
    (torn / checkpoint.MODEL).write_bytes(b"")
    checkpoint.sweep(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert checkpoint.problem(path) is None


def test_too_little_room_is_said_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_MARGIN", 2**62)
    with pytest.raises(GanzooError, match=r"left, but this run needs about .*--keep-last"):
        train(tmp_path / "runs", steps=1)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_disk_that_fails_pauses_saving_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = train(tmp_path / "a", steps=13)
    real = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        @hookimpl
        def ganzoo_step_end(self, step: int) -> None:
            monkeypatch.setattr(os, "fsync", full if 3 <= step <= 10 else real)

    said: list[str] = []
    values = {**TINY, "run.out": tmp_path / "b", "run.steps": 13}
    run = start(resolve([Layer("test", values)]), observers=[Full()], say=said.append)
    failed = [sentence for sentence in said if "could not be saved" in sentence]
    assert len(failed) == 1
    assert [checkpoint.step_of(path) for path in checkpoint.list_all(run.checkpoints)] == [13, 12]
    assert "the disk is full; free some space" in failed[0]
    assert any("could be saved again" in sentence for sentence in said)
    assert [event["event"] for event in run.events()] == ["unsaved"]
    assert weights(run, 13) == weights(straight, 13)
    assert not list(run.path.rglob(".*"))


def test_a_last_state_that_cannot_be_saved_is_exit_code_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaks:
        @hookimpl
        def ganzoo_step_end(self, run: Run, step: int) -> None:
            if step == 5:
                shutil.rmtree(run.samples)
                run.samples.write_text("a file in the way", encoding="utf-8")
            if step == 7:
                monkeypatch.setattr(os, "fsync", broken)

    def broken(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    values = {**TINY, "run.out": tmp_path, "run.name": "r"}
    with pytest.raises(GanzooError, match=r"could not be saved.*reports an error.*step-00000004\.") as caught:
        ganzoo.train(values, steps=9, observers=[Breaks()])
    assert caught.value.exit_code == 1
    monkeypatch.undo()
    with pytest.raises(GanzooError, match="whose state is saved, but other files could not be written"):
        ganzoo.train({}, resume=tmp_path / "r", steps=11)
    assert checkpoint.step_of(checkpoint.newest_good(tmp_path / "r")) == 11


def test_the_specification_of_a_run_survives(tmp_path: Path) -> None:
    run = train(tmp_path, steps=1, **also({"run.max_time": 60.0}))
    assert Run.open(run.path).config.run.max_time == Seconds(60)
    assert Run.open(run.path).spec == Spec((2,), run.spec.num_classes)
