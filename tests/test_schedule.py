"""The learning rate's fall: its values by hand, resumed to the bit, and the unrolled critic's copy of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import POINTS, weights

import ganzoo
from ganzoo.nn.optim import build_schedule
from ganzoo.settings import OptimConfig
from ganzoo.training import checkpoint

TINY = {**POINTS, "run.checkpoint_every": 3, "run.keep_last": 9}


def test_half_a_cosine() -> None:
    rate = build_schedule(OptimConfig(lr=0.4, decay_steps=8))
    assert rate is not None
    assert [rate(step) for step in (0, 4, 8, 100)] == pytest.approx([0.4, 0.2, 0.0, 0.0], abs=1e-12)
    assert rate(2) == pytest.approx(0.4 * (1 + 0.5**0.5) / 2)
    assert build_schedule(OptimConfig(lr=0.4)) is None


@pytest.mark.parametrize("trainer", ["alternating", "unrolled"])
def test_it_falls_in_a_run_and_a_resumed_run_is_the_same(tmp_path: Path, trainer: str) -> None:
    settings = {**TINY, "trainer": trainer, "optim.decay_steps": 9, "run.out": str(tmp_path)}
    straight = ganzoo.train({**settings, "run.steps": 9, "run.name": "straight"})
    parts = ganzoo.train({**settings, "run.steps": 3, "run.name": "parts"})
    ganzoo.train({"run.steps": 9}, resume=parts.path)
    assert weights(straight, 9) == weights(parts, 9)
    saved = checkpoint.load(straight.checkpoints / checkpoint.name_of(9))
    rate = build_schedule(straight.config.gen_optim)
    assert rate is not None
    assert saved.state["groups"]["gen"][0]["lr"] == rate(8)


def test_at_rate_zero_nothing_moves(tmp_path: Path) -> None:
    settings = {**TINY, "optim.decay_steps": 3, "run.out": str(tmp_path), "run.ema_half_life": 0}
    run = ganzoo.train({**settings, "run.steps": 6})
    third, sixth = (checkpoint.load(run.checkpoints / checkpoint.name_of(step)).model for step in (3, 6))
    assert all(third[name].equal(sixth[name]) for name in third if name.startswith("gen."))
