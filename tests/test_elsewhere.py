"""Steps on a device that is not the CPU; see ``elsewhere.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from running import DIGITS, POINTS

from ganzoo.registry import registry

HERE = Path(__file__).parent
FEW = {"run.cond": "off", "trainer.critic_steps": 2, "trainer.steps": 2}


def parts(kind: str) -> list[str]:
    return [entry.component.name for entry in registry().entries(kind) if entry.plugin.builtin]


def others(kind: str) -> list[str]:
    """Those for images."""
    return [name for name in parts(kind) if name != "mlp"]


def labelled(gen: str, disc: str) -> dict[str, Any]:
    return {"gen": gen, "disc": disc, "run.cond": "on" if gen == "cgan" else "off"}


OBJECTIVES = [{"loss": loss} for loss in parts("loss")] + [
    {"loss": "ns", "reg": (reg,)} for reg in parts("regularizer")
]
ON_POINTS = [{**POINTS, **each, "trainer": trainer} for each in OBJECTIVES for trainer in parts("trainer")]
STEPPED = [
    {**POINTS, "trainer": "unrolled", "trainer.checkpoint": True, "disc_optim.name": name, "run.on_nonfinite": policy}
    for name in ("adam", "adamw", "rmsprop", "sgd")
    for policy in ("stop", "skip")
]
PAIRS = [
    (gen, disc) for gen in others("generator") for disc in others("discriminator") if (gen, disc) != ("dcgan", "cgan")
]
ON_IMAGES = [{**DIGITS, **labelled(*pair)} for pair in PAIRS] + [
    {**DIGITS, "disc.norm": norm, "run.layout": layout}
    for norm in ("spectral", "layer", "batch")
    for layout in ("contiguous", "channels-last")
]


def problems(settings: list[dict[str, Any]], plugins: str = "") -> list[str]:
    """What is wrong with each run on the other device."""
    done = subprocess.run(
        [sys.executable, HERE / "elsewhere.py"],
        input="".join(json.dumps({**FEW, **each}) + "\n" for each in settings),
        capture_output=True,
        text=True,
        env={**os.environ, "GANZOO_PLUGINS": plugins},
        check=False,
    )
    if "cannot import name '_setup_privateuseone_for_python_backend'" in done.stderr:
        pytest.skip("this torch has no devices that are written in Python")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("settings", [ON_POINTS, STEPPED, ON_IMAGES], ids=["points", "optimisers", "images"])
def test_nothing_of_a_step_is_left_at_home(settings: list[dict[str, Any]]) -> None:
    found = problems(settings)
    assert len(found) == len(settings)
    assert [(each, problem) for each, problem in zip(settings, found, strict=True) if problem] == []


def test_what_is_left_at_home_is_found() -> None:
    losses = ("at-home", "asking", "double")
    at_home, asking, double = problems([{**POINTS, "loss": loss} for loss in losses], str(HERE / "elsewhere_parts.py"))
    assert "FakeTensorDeviceMismatchError" in at_home
    assert "DataDependentOutputException" in asking
    assert "there is no float64" in double
