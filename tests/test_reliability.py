"""What is kept of a run, on a disk that is full or fails, and after a process that was killed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from running import TINY, also, train, weights

import ganzoo
from ganzoo.api import Spec, hookimpl
from ganzoo.config import Layer, resolve
from ganzoo.errors import GanzooError
from ganzoo.options import Seconds
from ganzoo.training import checkpoint, keeping
from ganzoo.training.checkpoint import Retention, Snapshot
from ganzoo.training.run import Run
from ganzoo.training.start import start


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
