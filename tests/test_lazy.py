"""Help, listings and dry runs are quick because they never import torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

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
        "eval --cache list",
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


@pytest.mark.parametrize("line", ["run --help", "sample --help", "run --gen mlp --data ring --help"])
def test_the_help_of_a_command_imports_no_rich_and_reads_no_toml(line: str) -> None:
    assert not {"rich", "tomllib", "numpy", "PIL"} & modules_after(*line.split())


SLOW = {"torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp", "torch.onnx", "sympy"}
"""What a first step needs none of; torch's optimisers alone import all of it."""
TRAINING = """
import gc, json, os, sys
from ganzoo.cli import main

slow, run = set(json.loads(sys.argv[1])), os.path.join(sys.argv[2], "run")

def check(*args):
    assert main(args) == 0
    assert not slow & sys.modules.keys(), (args, sorted(slow & sys.modules.keys()))

check("run", "--data", "digits", "--gen.width", "4", "--disc.width", "4", "--steps", "1", "--out", sys.argv[2],
      "--name", "run")
assert gc.isenabled()
assert gc.get_freeze_count() > 50_000, gc.get_freeze_count()
check("run", "--resume", run, "--steps", "2")
check("sample", run, "--out", os.path.join(sys.argv[2], "samples.png"))
check("export", run)

import torch
from ganzoo.config import OptimConfig
from ganzoo.nn.optim import build_optimizer

for name in ("adam", "adamw", "rmsprop", "sgd"):
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer(OptimConfig(name=name), [parameter])
    optimizer.zero_grad()
    parameter.sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert not slow & sys.modules.keys(), (name, sorted(slow & sys.modules.keys()))
"""


def test_training_and_sampling_never_import_the_compiler_of_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, json.dumps(sorted(SLOW)), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [line.split()[-3:-1] for line in done.stdout.splitlines() if line.split()[-3:-2] == ["ganzoo"]]
    assert shown == [["ganzoo", verb] for verb in ("sample", "eval", "export")] * 2


@pytest.mark.parametrize(("plugins", "paused"), [("", True), ("watcher.py", False)])
def test_the_collector_pauses_while_torch_is_imported_unless_a_plugin_may_need_it(
    tmp_path: Path, plugins: str, paused: bool
) -> None:
    """What a plugin of others left open is flushed at the end as ever."""
    (tmp_path / "watcher.py").write_text(
        """
from ganzoo.api import hookimpl

class Notes:
    def __init__(self):
        self.me = self  # only the collector can free it
        self.file = open("notes.txt", "w", encoding="utf-8")

notes = Notes()

@hookimpl
def ganzoo_run_start(run):
    notes.file.write("began")
""",
        encoding="utf-8",
    )
    program = """
import gc, sys
from ganzoo.cli.loading import importing_torch
with importing_torch():
    paused = not gc.isenabled()
assert gc.isenabled()
assert paused == (gc.get_freeze_count() > 5_000) == (sys.argv[1] == "True"), (paused, gc.get_freeze_count())
if "watcher" in sys.modules:
    sys.modules["watcher"].ganzoo_run_start(None)
"""
    env = {**os.environ, "GANZOO_PLUGINS": plugins}
    done = subprocess.run(
        [sys.executable, "-c", program, str(paused)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    if plugins:
        assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "began"


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
