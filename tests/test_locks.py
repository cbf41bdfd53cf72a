"""The lock of a run: one process writes, whoever died is taken over from, and every refusal is a sentence."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from running import TINY, train, weights

import ganzoo
from ganzoo.api import hookimpl
from ganzoo.errors import GanzooError
from ganzoo.training import checkpoint, lock
from ganzoo.training.lock import RunLock, is_locked
from ganzoo.training.run import Run


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
