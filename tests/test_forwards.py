"""R1 and R2 differentiate the forward pass that the loss makes anyway: they add none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from installing import installed
from running import POINTS
from torch import Tensor

from ganzoo.config import Layer, resolve
from ganzoo.testing.training import Session

STEPS, BATCH = 3, 4
TRAINERS: dict[str, tuple[dict[str, Any], int]] = {
    # A critic step looks at reals and at fakes, a generator step at fakes.
    "alternating": ({"trainer": "alternating", "trainer.critic_steps": 2}, 2 * 2 + 1),
    # Before the generator's objective, which is minus the critic's, there are two looks for each unrolled step.
    "unrolled": ({"trainer": "unrolled", "trainer.steps": STEPS}, 2 * STEPS + 2 + 2),
    "recomputed": (
        {"trainer": "unrolled", "trainer.steps": STEPS, "trainer.checkpointing": True},
        2 * (2 * STEPS) + 2 + 2,
    ),
}


def forwards(settings: dict[str, Any], reg: tuple[str, ...]) -> int:
    """How many batches the critic looks at within a step; two in one pass are two."""
    base = {**POINTS, "loss": "minimax", "run.batch_size": BATCH, "run.cond": "off", "reg": reg or "none"}
    session = Session(resolve([Layer("test", {**base, **settings})]))
    seen = 0

    def count(_: object, inputs: tuple[Tensor, ...], __: object) -> None:
        nonlocal seen
        seen += len(inputs[0])

    session.bundle.disc.register_forward_hook(count)
    session.take(1)
    return seen // BATCH


@pytest.fixture
def lazy() -> Iterator[None]:
    """The regularizer of ``lazy_parts``, which is due at some steps only, is installed."""
    with installed("lazy_parts"):
        yield


@pytest.mark.usefixtures("lazy")
@pytest.mark.parametrize("reg", [(), ("r1",), ("r2",), ("r1", "r2"), ("lazy-r1",)], ids="+".join)
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_penalty_at_the_samples_adds_no_forward_pass(trainer: str, reg: tuple[str, ...]) -> None:
    settings, expected = TRAINERS[trainer]
    assert forwards(settings, reg) == expected


def test_a_penalty_elsewhere_adds_one_a_critic_step() -> None:
    settings, expected = TRAINERS["alternating"]
    assert forwards(settings, ("gp",)) == expected + 2
