"""Help, listings and dry runs are quick because they never import torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

HEAVY = {"torch", "torchvision", "torch_fidelity"}
PROGRAM = """
import json, sys
from ganzoo.cli import main
try:
    code = main(json.loads(sys.argv[1]))
except SystemExit as stop:
    code = stop.code
assert not code, code
print(json.dumps(sorted(name for name in sys.modules if "." not in name or name.startswith("ganzoo"))), file=sys.stderr)
"""


def modules_after(*args: str, **env: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(args)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "line",
    [
        "list",
        "list --json",
        "show gen/dcgan",
        "plugins",
        "run --help",
        "run --gen mlp --data ring --loss wgan-gp --help",
        "run --dry-run",
        "run --reg r1 --dry-run --json",
        "sample --help",
        "export --help",
        "doctor --help",
        "show dataset/mnist",
        "run --cond on --dry-run",
        "sweep --loss ns,wgan-gp --loss.gp-weight 1,10 --dry-run",
        "sweep --help",
        "compare --help",
        "data prepare --help",
        "data cache",
    ],
)
def test_torch_is_not_imported_by(line: str) -> None:
    assert not HEAVY & modules_after(*line.split())


@pytest.mark.parametrize("line", ["--help", "--version", ""])
def test_the_first_page_imports_no_plugins_and_no_rich(line: str) -> None:
    found = modules_after(*line.split())
    assert not {"rich", "pluggy", *HEAVY} & found
    assert not [name for name in found if name.startswith("ganzoo_") or name.startswith("ganzoo.cli.")]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ganzoo sa", "plain,sample"),
        ("ganzoo run --gen dc", "plain,dcgan"),
        ("ganzoo run --loss wgan-gp --loss.gp", "plain,--loss.gp-weight"),
        ("ganzoo run --gen.norm lay", "plain,layer"),
        ("ganzoo run --gen nonsense --dry", "plain,--dry-run"),
    ],
)
def test_shells_complete_names_and_options_without_torch(words: str, expected: str) -> None:
    env = {"_GANZOO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    program = "import sys; from ganzoo.cli import main\ntry: main([])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )
    assert expected in done.stdout.splitlines(), done.stderr


def test_import_ganzoo_is_free_of_torch() -> None:
    program = "import sys, ganzoo; ganzoo.list_components('generator'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help_starts_within_four_times_the_time_of_click() -> None:
    def seconds(*args: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *args], check=True, capture_output=True)
        return time.perf_counter() - started

    pairs = [(seconds("-c", "import click"), seconds("-m", "ganzoo", "--help")) for _ in range(4)]
    assert min(after for _, after in pairs) < 4 * min(before for before, _ in pairs)
