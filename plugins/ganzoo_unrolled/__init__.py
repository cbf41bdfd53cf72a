"""Unrolled GAN (Metz et al. 2016, arXiv:1611.02163): the generator sees the critic's next steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ganzoo.api import NO_DOUBLE_BACKWARD, Component, Rule, hookimpl, option


@dataclass(frozen=True)
class UnrolledConfig:
    """Options of the trainer ``unrolled``."""

    steps: int = option(5, min=0, help="Critic steps to unroll; time and memory grow in proportion.")
    checkpointing: bool = option(
        False,
        help="Activation checkpointing: each unrolled step is computed again in the backward pass instead of kept, so "
        "that memory hardly grows with steps.",
    )
    critic_steps: int = option(1, min=1, help="Ordinary critic steps before each generator step.")
    objective: Literal["auto", "value", "loss"] = option(
        "auto",
        help="What the generator minimises behind the unrolled critic: value, minus the critic's whole loss, real term "
        "included, as in the paper; loss, the loss's own generator objective; auto, value for zero-sum losses.",
    )


_RULES = (
    Rule(
        lambda plan: plan.has(NO_DOUBLE_BACKWARD, "disc") and plan.trainer.config.steps > 0,
        what="discriminator {disc} cannot be unrolled",
        why="unrolling differentiates the critic's own gradient steps, and its gradient cannot be differentiated",
        instead="use --trainer alternating, or another --disc",
    ),
)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The trainer."""
    yield Component(
        "trainer",
        "unrolled",
        target="ganzoo_unrolled.trainer:UnrolledTrainer",
        config=UnrolledConfig,
        summary="The generator is updated through K differentiable steps of the critic's optimiser.",
        paper="arXiv:1611.02163",
        recipe={"loss": "minimax"},
        rules=_RULES,
    )
