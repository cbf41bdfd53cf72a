"""Signals to several processes at awkward moments, and processes that are lost at the start of a run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from group import environment
from running import wait_for
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from ganzoo.errors import GanzooError
from ganzoo.training import checkpoint
from ganzoo.training.launch import _code_of

HERE = Path(__file__).parent
SMALL = ["--data", "ring", "--gen", "mlp", "--disc", "mlp", "--gen.width", "6", "--disc.width", "6", "--samples", "4"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


@contextmanager
def started(out: Path, *more: str, part: str = "hard_parts.py", **env: str) -> Iterator[subprocess.Popen[str]]:
    """``ganzoo run --devices 2`` in a folder."""
    run = ["--devices", "2", "--quiet", "--out", str(out), "--name", "it", "-p", str(HERE / part)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ganzoo", "run", *SMALL, *run, *more],
        env=environment(**env),
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_later_signals_change_nothing_and_the_state_is_saved(tmp_path: Path) -> None:
    with started(tmp_path, "--trainer", "slow", "--steps", "9", "--log-every", "1") as process:
        wait_for((tmp_path / "it" / "metrics.jsonl").exists, process, 180)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        _, said = process.communicate(timeout=60)
    assert said.startswith("Error: SIGINT: stopped after step "), said
    assert process.returncode == 128 + signal.SIGINT
    step = int(said.split("step ")[1].split()[0])
    assert checkpoint.newest_good(tmp_path / "it").name == checkpoint.name_of(step)


def test_a_signal_in_the_last_step_of_a_run_that_ends_well_is_no_failure(tmp_path: Path) -> None:
    with started(tmp_path, "--trainer", "slow", "--steps", "2", "--log-every", "1") as process:
        wait_for((tmp_path / "it" / "metrics.jsonl").exists, process, 180)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert checkpoint.newest_good(tmp_path / "it").name == checkpoint.name_of(2)


LATE = """
import os, time
from pathlib import Path
from ganzoo.api import Component, hookimpl

if os.environ.get("RANK") == "0":
    Path(os.environ["LATE"]).touch()
    time.sleep(600)

@hookimpl
def ganzoo_components():
    yield Component("regularizer", "late", target="late:Late", summary="Late.")
"""


def test_a_signal_while_one_waits_for_the_other_to_start_ends_both_soon(tmp_path: Path) -> None:
    part, mark = tmp_path / "late.py", tmp_path / "mark"
    part.write_text(LATE, encoding="utf-8")
    with started(tmp_path, part=str(part), LATE=str(mark)) as process:
        wait_for(mark.exists, process, 180)
        time.sleep(8)  # by now the other one waits
        process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        process.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert process.returncode == 128 + signal.SIGTERM


def test_a_failure_of_the_first_process_in_the_first_step_is_said_once(tmp_path: Path) -> None:
    with started(tmp_path, "--trainer", "first") as process:
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (4, "Error: The moon is missing; look for it.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lost_a_process_in_the_first_step_can_go_on_as_it_says(tmp_path: Path) -> None:
    with started(tmp_path, "--trainer", "dying") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    lost, killed = sorted(said.splitlines())
    assert f"go on with: ganzoo run --resume {tmp_path / 'it'}" in lost
    assert killed.startswith("Error: Process 1 of 2 was killed by SIGKILL, perhaps because memory ran out")
    assert (tmp_path / "it" / "config.json").is_file()


@pytest.mark.parametrize(
    ("ended", "received", "code"),
    [
        # The first has missed the second, which hung, and which torchrun's machinery has killed after 30 s.
        ([(1, 0), (-signal.SIGKILL, 30)], 0, 1),
        ([(-signal.SIGKILL, 0), (4, 1)], 0, 4),
        ([(143, 0), (143, 0)], signal.SIGTERM, 143),
        ([(1, 0), (143, 0)], signal.SIGTERM, 1),
        ([(-signal.SIGINT, 0), (-signal.SIGTERM, 0)], signal.SIGINT, 130),
    ],
)
def test_which_process_has_the_exit_code_of_all(ended: list[tuple[int, int]], received: int, code: int) -> None:
    assert _code_of(failed(ended), len(ended), received, gave_up=False) == code


def test_a_process_that_was_killed_is_named_also_after_a_signal() -> None:
    for received in (0, signal.SIGTERM):
        with pytest.raises(GanzooError, match="Process 1 of 2 was killed by SIGKILL, perhaps because memory ran out"):
            _code_of(failed([(1, 0), (-signal.SIGKILL, 0)]), 2, received, gave_up=False)
    assert _code_of(failed([(143, 0), (-signal.SIGKILL, 0)]), 2, signal.SIGTERM, gave_up=True) == 143


def failed(ended: list[tuple[int, int]]) -> dict[int, ProcessFailure]:
    """Processes by rank, from their exit codes and the seconds at which they ended."""
    failures = {rank: ProcessFailure(rank, 0, code, "") for rank, (code, _) in enumerate(ended)}
    for rank, (_, when) in enumerate(ended):
        failures[rank].timestamp = when
    return failures
