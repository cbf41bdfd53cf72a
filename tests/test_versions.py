"""A run says which code it was made by, third parties' too."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PARTS = """
import os, signal
from ganzoo.api import Component, Spec, hookimpl
from ganzoo.nn import Generator
from torch import nn

def spec(config):
    if os.environ.get("SIGNALLED"):
        os.kill(os.getpid(), signal.SIGTERM)
    return Spec((2,))

class Net(Generator):
    def __init__(self, config, spec):
        super().__init__(spec, 4)
        self.body = nn.Linear(4, 2)

    def forward(self, z, y=None):
        return self.body(z)
@hookimpl
def ganzoo_components():
    yield Component("generator", "line", target="my_line:Net")
    yield Component("dataset", "dots", target="ganzoo_datasets.toys:Ring", spec=spec)
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "my_line.py").write_text(PARTS)
    run = ["run", "-p", "my_line.py", "--gen", "line", "--steps", "1", "--device", "cpu", "--quiet", "--name", "it"]
    return [sys.executable, "-m", "ganzoo", *run]


def test_a_run_names_the_versions_of_its_plugins(command: list[str], tmp_path: Path) -> None:
    subprocess.run([*command, "--data", "ring"], cwd=tmp_path, check=True, capture_output=True)
    said = json.loads((tmp_path / "runs" / "it" / "config.json").read_text())["versions"]
    assert said["my_line"] == f"sha256:{hashlib.sha256(PARTS.encode()).hexdigest()[:16]}"
    assert {"python", "ganzoo", "torch"} < said.keys()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal as POSIX does")
def test_a_signal_before_the_processes_are_started_is_one_sentence(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*command, "--data", "dots", "--devices", "2"],
        cwd=tmp_path,
        env={**os.environ, "SIGNALLED": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.strip().endswith("SIGTERM: stopped before the first step of training; nothing was changed.")
    assert not (tmp_path / "runs").exists()
