"""What is tried on runs: kills, failing disks, damaged files and signals. Each function counts and checks.

A failed check is an ``AssertionError`` that says how to repeat it.

The short form runs in the suite, the long one from ``long.py``.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from faults.faulty import Fault, fork, result, train, wait, weights

import ganzoo
from ganzoo.errors import GanzooError, MissingError
from ganzoo.training import checkpoint

LIMIT = 60.0
Figures = dict[str, int | float]


class Progress:
    """The step that a child has reached, told through memory that it shares with its parent."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    @property
    def step(self) -> int:
        """The last step that was taken."""
        return int(struct.unpack("q", self._memory[:8])[0])

    @step.setter
    def step(self, value: int) -> None:
        self._memory[:8] = struct.pack("q", value)

    def watch(self) -> None:
        """In the child: count the steps of the loop."""
        from ganzoo.training.loop import Session

        real: Callable[[Session], None] = Session._take_step

        def taken(session: Session) -> None:
            real(session)
            self.step = session.step

        setattr(Session, "_take_step", taken)  # noqa: B010  (it is replaced on purpose)


def run(out: Path, settings: dict[str, Any], prepare: Callable[[], Fault | None] = lambda: None) -> int:
    """Fork a training; returns its process number."""

    def work() -> int:
        return train(out, settings, prepare())

    return fork(work, out.parent / f"{out.name}.log")


def said(out: Path) -> str:
    """What the last child printed."""
    return (out.parent / f"{out.name}.log").read_text(encoding="utf-8", errors="replace")


def straight(folder: Path, settings: dict[str, Any]) -> tuple[bytes, ...]:
    """The result of a run that nobody disturbs."""
    out = folder / "straight"
    assert wait(run(out, settings), LIMIT) == 0, said(out)
    return result(out, settings["run.steps"])


def continued(out: Path, settings: dict[str, Any], expected: tuple[bytes, ...], words: str) -> None:
    """A run in ``out``, continued without faults, ends as one that was never disturbed."""
    code = wait(run(out, settings), LIMIT)
    assert code == 0, f"{words}: exit code {code}\n{said(out)}"
    assert weights(out, settings["run.steps"]) == expected[:2], f"{words}: other weights"
    left = [path.name for path in (out / "r").rglob(".*")]
    assert not left, f"{words}: left {left}"
    assert not (out / "r" / "lock").exists(), f"{words}: left its lock"


def kills(folder: Path, count: int, rng: random.Random) -> Figures:
    """SIGKILL at random moments, several times in one run, each followed by a restart."""
    settings: dict[str, Any] = {"run.steps": 80, "run.checkpoint_every": 5, "run.sample_every": 20}
    began = time.monotonic()
    expected = straight(folder, settings)
    long, done, resumed, runs, most = time.monotonic() - began, 0, 0, 0, 0
    while done < count:
        out, progress = folder / f"killed-{runs}", Progress()
        runs += 1
        reached = 0
        for _ in range(rng.randint(1, 6)):
            progress.step = 0
            pid = run(out, settings, progress.watch)
            time.sleep(rng.uniform(0, long))
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code != -signal.SIGKILL:
                assert code == 0, said(out)
                break
            done += 1
            reached = max(reached, progress.step)
            if reached:
                checkpoint.sweep(out / "r" / "checkpoints")
            try:
                saved = checkpoint.step_of(checkpoint.newest_good(out / "r"))
                resumed += 1
            except GanzooError:
                saved = 0
            assert checkpoint.problem(out / "r" / "checkpoints" / checkpoint.name_of(saved)) is None or saved == 0
            most = max(most, reached - saved)
            assert reached - saved <= 5, f"{reached - saved} steps were lost"
        continued(out, settings, expected, f"killed run {runs}")
        assert result(out, 80) == expected
        shutil.rmtree(out)
    return {"kills": done, "runs": runs, "killed after a checkpoint": resumed, "most steps lost": most}


def kill_points(folder: Path, count: int | None, rng: random.Random) -> Figures:
    """SIGKILL before and after each write, rename, link and flush of a run; ``count`` of them, or all."""
    settings: dict[str, Any] = {"run.steps": 12, "run.checkpoint_every": 5, "run.sample_every": 6}
    expected = straight(folder, settings)
    points = [(kind, at) for at in range(_calls(folder, settings)) for kind in ("before", "after")]
    chosen = points if count is None else rng.sample(points, min(count, len(points)))
    for kind, at in chosen:
        out = folder / f"{kind}-{at}"
        fault = Fault(kind, at)
        code = wait(run(out, settings, lambda fault=fault: fault), LIMIT)  # type: ignore[misc]
        assert code in (-signal.SIGKILL, 0), said(out)
        continued(out, settings, expected, f"killed {kind} call {at}")
        _remove(out)
    return {"points": len(points), "tried": len(chosen)}


def disks(folder: Path, count: int, rng: random.Random) -> Figures:
    """A disk that fails for some calls or for good: full, broken, forbidden, or in the middle of a write."""
    settings: dict[str, Any] = {"run.steps": 12, "run.checkpoint_every": 4, "run.sample_every": 6}
    expected = straight(folder, settings)
    calls = _calls(folder, settings)
    ends = {0: 0, 1: 0}
    for index in range(count):
        at = rng.randrange(calls)
        fault = Fault(rng.choice(["ENOSPC", "EIO", "EACCES", "short"]), at, rng.choice([at + 1, at + 4, 10**9]))
        out, words = folder / f"disk-{index}", repr(replace(fault, calls=[]))
        code = wait(run(out, settings, lambda fault=fault: fault), LIMIT)  # type: ignore[misc]
        assert code in ends, f"{words}: exit code {code}\n{said(out)}"
        assert "Traceback" not in said(out), f"{words}\n{said(out)}"
        assert code == 0 or "Error: " in said(out), words
        ends[code] += 1
        if code == 0:
            assert result(out, 12) == expected, words
        continued(out, settings, expected, words)
        _remove(out)
    return {"failures": count, "ended well": ends[0], "ended with a sentence": ends[1]}


def _calls(folder: Path, settings: dict[str, Any]) -> int:
    """How many calls a run makes that could fail."""
    memory, fault = mmap.mmap(-1, 8), Fault()

    def work() -> int:
        code = train(folder / "counted", settings, fault)
        memory[:8] = struct.pack("q", len(fault.calls))
        return code

    assert wait(fork(work, folder / "counted.log"), LIMIT) == 0
    return int(struct.unpack("q", memory[:8])[0])


def _remove(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    (out.parent / f"{out.name}.log").unlink(missing_ok=True)


def flips(folder: Path, count: int, rng: random.Random) -> Figures:
    """Change one byte, or cut a file short: of a checkpoint always noticed, of an export, or without consequence.

    In this process, so that thousands take seconds; call it last, since forks do not like what torch has started.
    """
    assert train(folder, {"run.steps": 10, "run.checkpoint_every": 5}, say=lambda _: None) == 0
    run = folder / "r"
    from ganzoo.outputs.export import export_run

    export = export_run(run)
    newest = run / "checkpoints" / checkpoint.name_of(10)
    files = [*sorted(newest.iterdir()), *sorted(export.iterdir())]
    gen = ganzoo.load(export, "cpu").state_dict()
    found: Figures = {"flips": 0, "truncations": 0, "of the checkpoint": 0, "noticed": 0, "without consequence": 0}
    for index in range(count):
        file = files[index % len(files)]
        whole = file.read_bytes()
        if index // len(files) % 4 == 3:
            found["truncations"] += 1
            damaged = bytearray(whole[: rng.randrange(len(whole))])
        else:
            found["flips"] += 1
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= rng.randrange(1, 256)
        file.write_bytes(damaged)
        try:
            of_run = file.parent == newest
            if of_run:
                assert checkpoint.step_of(checkpoint.newest_good(run)) == 5
            noticed = of_run or _noticed_export(export, gen)
        except Exception as err:
            raise AssertionError(f"{file.name} with {damaged!r:.200}: {err!r}") from err
        finally:
            file.write_bytes(whole)
        found["of the checkpoint"] += of_run
        found["noticed" if noticed else "without consequence"] += 1
    return found


def _noticed_export(export: Path, good: dict[str, Any]) -> bool:
    try:
        loaded = ganzoo.load(export, "cpu").state_dict()
    except GanzooError:
        return True
    assert _equal(loaded, good)
    return False


def _equal(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


PHASES = ("build", "first grid", "step", "log", "checkpoint", "finish")


def signals(folder: Path, count: int, rng: random.Random) -> Figures:
    """SIGTERM while a run builds, draws, takes a step, writes or finishes; it leaves within 10 s, to be continued."""
    settings: dict[str, Any] = {"run.steps": 12, "run.checkpoint_every": 4, "run.sample_every": 6}
    expected = straight(folder, settings)
    slowest = 0.0
    for index in range(count):
        phase = PHASES[index % len(PHASES)]
        out, words = folder / f"signal-{index}", f"SIGTERM in phase {phase!r}"
        heard, told = os.pipe()
        pid = run(out, settings, lambda phase=phase, told=told: _pause(phase, told))  # type: ignore[misc]
        os.close(told)
        assert os.read(heard, 1) == b"x", f"{words}: it never came so far\n{said(out)}"
        os.close(heard)
        time.sleep(rng.uniform(0, 0.05))
        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        code = wait(pid, 10)
        slowest = max(slowest, time.monotonic() - began)
        complete = (out / "r" / "checkpoints" / checkpoint.name_of(12)).exists()
        assert code == 128 + signal.SIGTERM or (code == 0 and complete), f"{words}: exit code {code}\n{said(out)}"
        assert "Traceback" not in said(out), said(out)
        try:
            checkpoint.newest_good(out / "r")
        except MissingError:
            assert phase == "build", words
            assert not out.exists() or not list(out.iterdir()), f"{words}: left half a run"
        continued(out, settings, expected, words)
        _remove(out)
    return {"signals": count, "slowest, s": round(slowest, 2)}


def _pause(phase: str, told: int) -> None:
    """In the child: tell the parent when the phase begins, and take a moment for it."""
    from ganzoo.training import loop

    def slowly(owner: Any, name: str, turn: int) -> None:
        real, calls = getattr(owner, name), []

        def paused(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if len(calls) == turn:
                os.write(told, b"x")
                until = time.monotonic() + 0.1
                while time.monotonic() < until:
                    time.sleep(0.01)
            return real(*args, **kwargs)

        setattr(owner, name, paused)

    places = {
        "build": (loop, "build_bundle", 1),
        "first grid": (loop.Session, "draw", 1),
        "step": (loop.Session, "_take_step", 7),
        "log": (loop.Session, "log", 1),
        "checkpoint": (checkpoint, "save_tensors", 3),
        "finish": (loop.Session, "_finish", 1),
    }
    slowly(*places[phase])
