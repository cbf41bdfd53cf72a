"""Memory that a step frees is kept while a run lasts, unless the user says otherwise, and then given back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ganzoo import decisions
from ganzoo.decisions import KEPT, Machine, memory


def machine(device: str = "cpu") -> Machine:
    return Machine(device, "of the test", "test", 1, bf16=False)


def test_memory_is_kept_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in decisions._MALLOC:
        monkeypatch.delenv(name, raising=False)
    there = decisions._has_glibc()
    assert (memory(machine()).value == KEPT) == there
    assert memory(machine("cuda")).value != KEPT
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=1")
    assert (memory(machine()).value == KEPT) == there
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert memory(machine()).reason == "MALLOC_TRIM_THRESHOLD_ says how"


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
