"""Threads of a run give up their cores soon where they wait, and what the user says of it counts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = "steps=0, batch_size=4, samples=4, out=sys.argv[1]"
COMMANDS = {
    "command line": ["-m", "ganzoo", "run", "--steps", "0", "--batch-size", "4", "--samples", "4", "--quiet", "--out"],
    "train": ["-c", f"import os, sys, ganzoo; ganzoo.train({RUN}); assert 'GOMP_SPINCOUNT' not in os.environ"],
    "load": ["-c", "import ganzoo; ganzoo.load"],
}


def spins(command: list[str], **said: str) -> str:
    """How long threads spin, as GNU's OpenMP says when torch loads it."""
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    env = plain | {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "2"} | said
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=env, check=True)
    found = [line for line in done.stderr.splitlines() if "GOMP_SPINCOUNT" in line]
    if not found:
        pytest.skip("torch does not come with GNU's OpenMP here")
    return found[0].split("'")[1]


@pytest.mark.parametrize("way", COMMANDS)
def test_threads_wait_briefly(way: str, tmp_path: Path) -> None:
    assert spins([*COMMANDS[way], str(tmp_path)]) == "3000"


def test_what_the_user_says_of_waiting_counts(tmp_path: Path) -> None:
    command = [*COMMANDS["command line"], str(tmp_path)]
    assert spins(command, GOMP_SPINCOUNT="77") == "77"
    assert spins(command, OMP_WAIT_POLICY="passive") == "0"
