"""Runs that stop, go back, meet a full disk or another process: nothing is lost, and every refusal is a sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

import ganzoo
from ganzoo import cli
from ganzoo.api import Spec, hookimpl
from ganzoo.config import Layer, resolve
from ganzoo.errors import DivergedError, GanzooError, Interrupted, UsageError
from ganzoo.nn.bundle import Side
from ganzoo.nn.guard import Guard
from ganzoo.options import Seconds
from ganzoo.plugins import loaded
from ganzoo.training import checkpoint, keeping, lock, signals
from ganzoo.training.checkpoint import Retention, Snapshot
from ganzoo.training.lock import RunLock, is_locked
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


# The lock.


def test_the_second_process_is_refused_by_the_name_of_the_first(tmp_path: Path) -> None:
    held = RunLock.take(tmp_path)
    assert is_locked(tmp_path)
    with pytest.raises(GanzooError, match=rf"trained by process {os.getpid()} on .*, since 20"):
        RunLock.take(tmp_path)
    held.release()
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == []
    RunLock.take(tmp_path).release()


def written(folder: Path, **changes: Any) -> Path:
    """A lock of somebody else."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lines = {"pid": ended.pid, "host": socket.gethostname(), "started": "then", "since": "then", "token": "x"}
    file = folder / lock.NAME
    file.write_text(json.dumps({**lines, **changes}), encoding="utf-8")
    return file


@pytest.mark.parametrize("changes", [{}, {"pid": os.getpid()}], ids=["dead", "its number is another's by now"])
def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = written(tmp_path, **changes)
    said: list[str] = []
    held = RunLock.take(tmp_path, said.append)
    assert "over from process" in said[0]
    assert held.held
    assert json.loads(file.read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_a_holder_on_another_machine_is_judged_by_its_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, host="elsewhere")
    monkeypatch.setattr(lock, "PATIENCE", 2.0)
    beat = threading.Timer(0.5, lambda: os.utime(file, (1, 1)))
    beat.start()
    with pytest.raises(GanzooError, match="on elsewhere"):
        RunLock.take(tmp_path)
    beat.join()
    RunLock.take(tmp_path).release()  # its last sign of life is very old now
    written(tmp_path, host="elsewhere")
    monkeypatch.setattr(lock, "PATIENCE", 0.2)
    RunLock.take(tmp_path).release()


def test_of_many_that_take_a_dead_lock_over_one_gets_it(tmp_path: Path) -> None:
    for _ in range(20):
        written(tmp_path)
        barrier, got = threading.Barrier(6), list[RunLock]()

        def take(barrier: threading.Barrier = barrier, got: list[RunLock] = got) -> None:
            barrier.wait()
            with suppress(GanzooError):
                got.append(RunLock.take(tmp_path))

        threads = [threading.Thread(target=take) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len([held for held in got if held.held]) == 1
        assert len(got) == 1
        got[0].release()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("claimed", ["new", "old"])
def test_a_claim_of_a_process_that_died_is_in_nobodys_way(tmp_path: Path, claimed: str) -> None:
    shutil.copy(written(tmp_path, token=claimed), tmp_path / ".lock.old.claim.tmp")
    written(tmp_path, token="old")
    held = RunLock.take(tmp_path)
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_without_links_the_lock_works_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    held = RunLock.take(tmp_path)
    with pytest.raises(GanzooError, match="trained by process"):
        RunLock.take(tmp_path)
    held.release()


def test_a_locked_run_is_not_continued_but_read(tmp_path: Path) -> None:
    run = train(tmp_path, steps=4)
    assert not is_locked(run.path)
    held = RunLock.take(run.path)
    with pytest.raises(GanzooError, match="is being trained by process"):
        train(tmp_path, resume=run.path, steps=8)
    assert ganzoo.load(run.path) is not None
    held.release()
    train(tmp_path, resume=run.path, steps=8)


class TakenOver:
    @hookimpl
    def ganzoo_step_end(self, run: Run, step: int) -> None:
        if step == 2:
            written(run.path, pid=1)


def test_who_lost_the_lock_writes_no_more(tmp_path: Path) -> None:
    with pytest.raises(GanzooError, match=r"taken .* over"):
        ganzoo.train({**TINY, "run.out": tmp_path, "run.name": "r"}, steps=8, observers=[TakenOver()])
    assert checkpoint.list_all(tmp_path / "r" / "checkpoints") == []


def test_what_a_killed_process_was_about_to_make_is_swept(tmp_path: Path) -> None:
    draft = tmp_path / ".0123.run.tmp"
    draft.mkdir()
    written(draft)
    os.utime(draft, (1, 1))
    fresh = tmp_path / ".4567.run.tmp"
    fresh.mkdir()
    train(tmp_path, steps=1)
    assert not draft.exists()
    assert fresh.exists()


def test_a_run_without_a_checkpoint_is_started_over_in_its_place(tmp_path: Path) -> None:
    run = train(tmp_path / "a", steps=6)
    whole = weights(run, 6)
    for path in checkpoint.list_all(run.checkpoints):
        shutil.rmtree(path)
    (run.path / ".config.json.0123.tmp").write_text("torn", encoding="utf-8")
    again = ganzoo.train({**TINY, "run.out": tmp_path / "a"}, steps=6, resume="auto")
    assert again.path == run.path
    assert weights(again, 6) == whole
    assert not list(run.path.glob(".*"))


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


# Numbers that are not finite.


@pytest.fixture
def hiccups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GANZOO_PLUGINS", "hiccup_parts")
    loaded.cache_clear()
    yield
    monkeypatch.undo()
    loaded.cache_clear()


OPTIMIZERS: dict[str, Any] = {
    "adam": lambda p: Adam(p, 0.01, fused=True),
    "adamw": lambda p: AdamW(p, 0.01, fused=True),
    "adam, not fused": lambda p: Adam(p, 0.01, foreach=True),
    "rmsprop": lambda p: RMSprop(p, 0.01, foreach=True),
    "sgd": lambda p: SGD(p, 0.01, fused=True),
    "sgd with momentum": lambda p: SGD(p, 0.01, momentum=0.9, fused=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("where", ["gradient", "loss"])
def test_a_skipped_update_changes_nothing_and_leaves_no_trace(name: str, where: str) -> None:
    def side() -> Side:
        layer = torch.nn.Linear(3, 2)
        torch.nn.init.constant_(layer.weight, 0.5)
        torch.nn.init.constant_(layer.bias, 0.25)
        return Side({"gen": layer}, OPTIMIZERS[name])

    def state(optimizer: Optimizer) -> list[Any]:
        return [
            value.tolist()
            for moments in optimizer.state_dict()["state"].values()
            for value in moments.values()
            if isinstance(value, torch.Tensor)
        ]

    ours, plain = side(), side()
    guard = Guard(torch.device("cpu"))
    for bad in (True, False, True, False, False):
        for each in (ours, plain):
            for i, parameter in enumerate(each.trainable):
                parameter.grad = torch.full_like(parameter, 0.1 * (i + 1))
        total = torch.tensor(1.0)
        if bad and where == "loss":
            total = torch.tensor(float("inf"))
        elif bad:
            assert ours.trainable[1].grad is not None
            ours.trainable[1].grad[0] = float("nan")
        guard.step(ours, total)
        if not bad:
            plain.optimizer.step()
    for mine, its in zip(ours.trainable, plain.trainable, strict=True):
        assert torch.equal(mine, its)
    assert state(ours.optimizer) == state(plain.optimizer)
    assert int(guard.skipped) == 2


def test_the_guard_puts_the_statistics_of_a_norm_back() -> None:
    norm = torch.nn.BatchNorm1d(2)
    side = Side({"gen": norm}, OPTIMIZERS["adam"])
    guard = Guard(torch.device("cpu"))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    guard.begin([side])
    total = norm(torch.full((4, 2), float("nan"))).sum()
    total.backward()
    guard.step(side, total)
    guard.settle()
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_a_guarded_run_of_good_numbers_is_the_same_run(tmp_path: Path) -> None:
    plain = train(tmp_path / "a", steps=6)
    for mode in ("skip", "rollback"):
        assert weights(train(tmp_path / mode, steps=6, **also({"run.on_nonfinite": mode})), 6) == weights(plain, 6)


HICCUPS: dict[str, Any] = {
    "skip": {"loss": "hiccup", "loss.at": (6, 9), "run.on_nonfinite": "skip"},
    "rollback": {"loss": "hiccup", "loss.at": (6, 9), "loss.once": True, "run.on_nonfinite": "rollback"},
    "skip, sgd": {
        "loss": "hiccup",
        "loss.at": (1, 6),
        "run.on_nonfinite": "skip",
        "optim.name": "sgd",
        "optim.momentum": 0.5,
    },
}


@pytest.mark.usefixtures("hiccups")
@pytest.mark.parametrize("name", HICCUPS)
def test_a_run_gets_over_bad_numbers_and_resumes_exactly(tmp_path: Path, name: str) -> None:
    straight = train(tmp_path / "straight", steps=14, **HICCUPS[name])
    kinds = [event["event"] for event in straight.events()]
    assert kinds
    assert set(kinds) == {HICCUPS[name]["run.on_nonfinite"].replace("skip", "skipped")}
    assert straight.metrics()[-1]["step"] == 14
    for text in straight.metrics_file.read_text(encoding="utf-8").splitlines():
        json.loads(text, parse_constant=pytest.fail)
    saved = checkpoint.load(straight.checkpoints / checkpoint.name_of(14))
    assert all(torch.isfinite(value).all() for value in saved.model.values())
    counts = saved.state["nonfinite"]
    assert counts["attempt" if name == "rollback" else "skipped"] >= 1
    for first in (2, 4, 5, 7, 8, 11):
        out = tmp_path / str(first)
        halted = train(out, steps=first, **HICCUPS[name])
        resumed = train(out, resume=halted.path, steps=14, **HICCUPS[name])
        assert weights(resumed, 14) == weights(straight, 14), first
        assert checkpoint.load(resumed.checkpoints / checkpoint.name_of(14)).state["nonfinite"] == counts


@pytest.mark.usefixtures("hiccups")
@pytest.mark.parametrize("mode", ["skip", "rollback"])
def test_too_many_bad_numbers_stop_the_run(tmp_path: Path, mode: str) -> None:
    settings: dict[str, Any] = {
        "loss": "hiccup",
        "loss.at": tuple(range(6, 40)),
        "run.on_nonfinite": mode,
        "run.nonfinite_limit": 2,
    }
    with pytest.raises(DivergedError, match=r"Step [67]: .*became NaN.*--nonfinite-limit 2") as caught:
        train(tmp_path, steps=40, **settings)
    assert caught.value.exit_code == 3
    (run,) = tmp_path.iterdir()
    saved = checkpoint.load(checkpoint.newest_good(run))
    assert all(torch.isfinite(value).all() for value in saved.model.values())


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
