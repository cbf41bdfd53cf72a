"""The short form of the faults; ``long.py`` is the long one, and docs/reliability.md has its figures."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import campaign

import ganzoo
from ganzoo.registry import list_components
from ganzoo.training import checkpoint
from ganzoo.training.run import Run

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")

FORKED = """
import random, sys, tempfile, warnings
from pathlib import Path
from faults import campaign
from faults.faulty import warm_up

warnings.simplefilter("ignore", DeprecationWarning)
warm_up()
folder = Path(sys.argv[1])
for name, count in (("kills", 4), ("kill_points", 6), ("disks", 8), ("signals", 6)):
    (folder / name).mkdir()
    print(name, getattr(campaign, name)(folder / name, count, random.Random(0)))
"""


@posix
def test_kills_failing_disks_and_signals_cost_nothing(tmp_path: Path) -> None:
    # In a process of its own, because it forks, and this one may have started torch's threads.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(" ")[0] for line in done.stdout.splitlines()] == ["kills", "kill_points", "disks", "signals"]


def test_damaged_files_are_noticed_or_without_consequence(tmp_path: Path) -> None:
    found = campaign.flips(tmp_path, 120, random.Random(0))
    assert found["noticed"] + found["without consequence"] == 120
    assert found["of the checkpoint"] >= 50


@posix
def test_a_signal_while_torch_is_imported_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ganzoo", "run", "--out", str(tmp_path / "runs")], stderr=subprocess.PIPE
    )
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    # Before our first line, the signal does what it does to any program.
    assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM)
    assert b"Traceback" not in err
    runs = tmp_path / "runs"
    assert not runs.exists() or all(checkpoint.newest_good(run) for run in runs.iterdir())


TINY: dict[str, Any] = {
    "run.batch_size": 4,
    "run.samples": 2,
    "run.log_every": 2,
    "run.sample_every": 3,
    "run.checkpoint_every": 1,
    "run.keep_last": 10,
}
IMAGES = {"data": "digits", "data.size": 8, "gen.width": 2, "disc.width": 2, "gen.latent_dim": 4}
COVERING: list[dict[str, Any]] = [
    {**IMAGES, "data": "npz", "loss": "minimax", "data.flip": True},
    {**IMAGES, "loss": "ns", "run.precision": "bf16", "disc.norm": "spectral"},
    {**IMAGES, "data": "npz", "loss": "lsgan", "gen": "cgan", "data.crop": 1},
    {**IMAGES, "loss": "hinge", "reg": ("r1", "r2"), "run.on_nonfinite": "skip"},
    {**IMAGES, "loss": "rpgan", "disc.dropout": 0.2, "data.size": 16},
    {**IMAGES, "loss": "wgan-clip", "data.size": 16, "optim.name": "rmsprop"},
    {**IMAGES, "loss": "wgan-gp", "run.precision": "bf16", "gen.norm": "none"},
    {"data": "ring", "loss": "ns", "reg": ("dragan", "gp"), "run.on_nonfinite": "rollback"},
    {"data": "grid", "loss": "hinge", "disc_optim.name": "sgd", "disc_optim.momentum": 0.5},
    {"data": "swissroll", "loss": "wgan-gp", "optim.name": "adamw", "run.ema_half_life": 0},
]
TRAINERS: dict[str, dict[str, Any]] = {"alternating": {"trainer.critic_steps": 2}, "unrolled": {"trainer.steps": 2}}


def test_every_trainer_and_loss_is_covered() -> None:
    """A new one must be tried too; those that other packages bring are theirs to try."""
    ours = {name for name in list_components("loss") if "/" not in name}
    assert ours <= {settings["loss"] for settings in COVERING}
    assert set(list_components("trainer")) <= TRAINERS.keys()


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("settings", COVERING, ids=lambda settings: f"{settings['data']}-{settings['loss']}")
def test_a_run_resumed_at_every_point_is_the_straight_run(
    tmp_path: Path, trainer: str, settings: dict[str, Any]
) -> None:
    steps = 4
    values = {**TINY, **settings, "trainer": trainer, **TRAINERS[trainer]}
    if values["data"] == "npz":
        del values["data.size"]
        np.savez(tmp_path / "a.npz", x=np.arange(640, dtype=np.uint8).reshape(10, 8, 8), y=np.arange(10) % 3)
        values["data.path"] = tmp_path / "a.npz"
    if trainer == "unrolled" and "disc.dropout" in values:
        del values["disc.dropout"]
    train: Callable[..., Run] = ganzoo.train
    straight = train({**values, "run.out": tmp_path, "run.name": "straight"}, steps=steps)
    run = train({**values, "run.out": tmp_path, "run.name": "resumed"}, steps=1)
    for step in range(2, steps + 1):
        run = train({}, resume=run.path, steps=step)
    for file in ("model.safetensors", "optimizer.safetensors"):
        whole, resumed = (each.checkpoints / checkpoint.name_of(steps) / file for each in (straight, run))
        assert whole.read_bytes() == resumed.read_bytes(), file
    assert straight.last_grid() is not None
    assert (straight.samples / "step-00000004.png").read_bytes() == (run.samples / "step-00000004.png").read_bytes()
