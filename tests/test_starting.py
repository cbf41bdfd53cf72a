"""What happens between the command and the first step: signals while modules are imported, devices that are missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import POINTS, flags

from ganzoo import cli
from ganzoo.errors import MissingError, UsageError

_TRACED = "import time:"
"""How the lines begin that Python writes when it has imported a module."""


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    """``ganzoo run``, telling of each module that it imports."""
    line = ["run", *flags({**POINTS, "run.out": out, "run.device": "cpu"}), "--quiet", *more]
    return subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "ganzoo", *line],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def heard(out: Path, modules: int) -> tuple[int, str]:
    """Exit code, and what was said, of a run that gets SIGINT after so many modules since it hears signals."""
    with start(out, "--steps", "100000000", "--max-time", "60") as process:
        assert process.stderr is not None
        said, hears = [], False
        for line in process.stderr:
            if not line.startswith(_TRACED):
                said.append(line)
                continue
            hears = hears or line.endswith("ganzoo.training.signals\n")
            modules -= hears
            if modules == 0:
                process.send_signal(signal.SIGINT)
    return process.returncode, "".join(said)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_signal_at_any_moment_of_the_start_is_one_sentence_and_its_exit_code(tmp_path: Path) -> None:
    """A third of the moments lie where torch, in C, imports numpy and goes on without what it could not import."""
    with start(tmp_path / "whole", "--steps", "1") as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    after = said.partition("ganzoo.training.signals\n")[2].splitlines()
    names = [line.rpartition("|")[2].strip() for line in after if line.startswith(_TRACED)]
    last = names.index("ganzoo.training.loop")
    numpy = [at for at, name in enumerate(names) if name.startswith("numpy._core.") and at < names.index("numpy")]
    moments = [*range(2, last, last // 8), *numpy[3 :: max(1, len(numpy) // 5)]]
    assert len(moments) >= 12
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda moment: heard(tmp_path / str(moment), moment), moments)
        for moment, (code, words) in zip(moments, found, strict=True):
            assert (code, words.count("\n")) == (128 + signal.SIGINT, 1), (names[moment], code, words)
            assert words.startswith("Error: SIGINT: stopped "), (names[moment], words)


IMPORTING = """
import sys, time
from ganzoo.errors import Interrupted
from ganzoo.training.signals import StopSignals
try:
    with StopSignals("stopped early"):
        import theirs
        print("whole" if theirs.whole else "torn", flush=True)
        time.sleep(60)
except Interrupted as err:
    print(err)
    sys.exit(err.exit_code)
"""
THEIRS = """
import os, signal, time
whole = False
try:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(20):
        time.sleep(0.01)
    whole = True
except Exception:
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ("", 128 + signal.SIGTERM, ["whole", "SIGTERM: stopped early."]),
        ("import nothing_of_this_name", 128 + signal.SIGTERM, ["SIGTERM: stopped early."]),
        ("os.kill(os.getpid(), signal.SIGINT)", 128 + signal.SIGINT, []),
    ],
    ids=["caught there", "fails after it", "a second one"],
)
def test_a_signal_waits_for_the_end_of_an_import(tmp_path: Path, more: str, code: int, said: list[str]) -> None:
    (tmp_path / "theirs.py").write_text(f"{THEIRS}\n{more}\n", encoding="utf-8")
    line = [sys.executable, "-c", IMPORTING]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (code, said, "")


@pytest.mark.parametrize("command", [["run", "--data", "ring"], ["eval", "."]], ids=lambda words: words[0])
@pytest.mark.parametrize(("device", "code"), [("xpu", MissingError.exit_code), ("nosuch", UsageError.exit_code)])
def test_a_device_that_is_missing_is_said_before_processes_are_started(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], command: list[str], device: str, code: int
) -> None:
    where = ["--out", str(tmp_path)] if command[0] == "run" else []
    assert cli.main([*command, *where, "--devices", "2", "--device", device]) == code
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(("Error: The device 'xpu' was asked for", "Error: There is no device 'nosuch'"))
    assert list(tmp_path.iterdir()) == []
