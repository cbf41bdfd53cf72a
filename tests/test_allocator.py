"""Memory that a step frees is kept while a run lasts, unless the user says otherwise, and then given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from running import DIGITS

import ganzoo
from ganzoo import decisions
from ganzoo.decisions import KEPT, Decision, Machine, memory
from ganzoo.errors import GanzooError
from ganzoo.training import allocator
from ganzoo.training.allocator import freed_memory


def machine(device: str = "cpu") -> Machine:
    return Machine(device, "of the test", "test", 1, bf16=False)


def test_memory_is_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in decisions._MALLOC:
        monkeypatch.delenv(name, raising=False)
    there = decisions._has_glibc()
    assert (memory(machine()).value == KEPT) == there
    assert memory(machine("cuda")).value != KEPT
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert (memory(machine()).value == KEPT) == there
    for name, value in (
        ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.malloc.top_pad=1"),
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("LD_PRELOAD", "/usr/lib/libjemalloc.so.2"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert memory(machine()).reason == f"{name} says how"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What libc is told; memory is kept, whatever the system of the test."""
    found: list[Any] = []
    monkeypatch.setattr(allocator, "_set", lambda _, thresholds: found.append(thresholds))
    monkeypatch.setattr(allocator, "memory", lambda _: Decision("memory", KEPT, "of the test"))
    monkeypatch.setattr(allocator, "_libc", lambda: SimpleNamespace(malloc_trim=found.append))
    return found


def test_a_run_keeps_memory_until_its_end(told: list[Any], tmp_path: Path) -> None:
    config = {**DIGITS, "run.steps": 1, "run.out": str(tmp_path), "run.name": "one"}
    ganzoo.train(config)
    assert told == [allocator._KEPT, allocator._ADAPTED, 0]
    told.clear()
    with pytest.raises(GanzooError, match="one"):  # there is such a run already
        ganzoo.train(config)
    assert told == [allocator._KEPT, allocator._ADAPTED, 0]


def test_the_last_of_several_runs_gives_memory_back(told: list[Any]) -> None:
    with freed_memory(machine()):
        with freed_memory(machine()):
            pass
        assert told == [allocator._KEPT] * 2
    assert told[2:] == [allocator._ADAPTED, 0]


def test_an_older_glibc_takes_smaller_thresholds() -> None:
    said: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        said.append((name, value))
        return int(value <= 32 * 2**20 or name == allocator._TRIM_THRESHOLD)

    allocator._set(SimpleNamespace(mallopt=mallopt), allocator._KEPT)
    assert said[-1] == (allocator._MMAP_THRESHOLD, 32 * 2**20)


@pytest.mark.skipif(not decisions._has_glibc(), reason="memory is kept where glibc allocates it")
def test_memory_that_is_kept_is_given_back_at_the_end(tmp_path: Path) -> None:
    """In a process of its own: faults while the same tensors come and go, and what is resident afterwards."""
    script = tmp_path / "faults.py"
    script.write_text(
        "import resource, torch\n"
        "from pathlib import Path\n"
        "from ganzoo.training.allocator import freed_memory\n"
        "from ganzoo.training.fast import machine_of\n"
        "def faults():\n"
        "    def of_now():\n"
        "        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    def step():\n"
        "        [torch.zeros(2**18 + i) for i in range(16)]\n"
        "    step()\n"
        "    before = of_now()\n"
        "    for _ in range(20): step()\n"
        "    return of_now() - before\n"
        "def resident():\n"
        "    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize()\n"
        "plain = faults()\n"
        "with freed_memory(machine_of(torch.device('cpu'))):\n"
        "    kept = faults()\n"
        "    inside = resident()\n"
        "print(plain, kept, inside - resident())\n",
        encoding="utf-8",
    )
    env = {name: value for name, value in os.environ.items() if name not in decisions._MALLOC}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=True)
    plain, kept, returned = (int(word) for word in done.stdout.split())
    assert kept < plain / 10
    assert returned > 10 * 2**20
