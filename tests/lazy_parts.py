"""A penalty that is taken at some steps only and owns a parameter that nothing else uses: what wrappers of modules get
wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganzoo.api import NEEDS_SAMPLE_GRADIENTS, SAMPLE_GRADIENT_RULES, Component, Spec, hookimpl, option
from ganzoo.nn import CriticPass, Regularizer, r1_penalty


@dataclass(frozen=True)
class LazyConfig:
    """Options of ``lazy-r1``."""

    every: int = option(4, min=1, help="Critic steps between two penalties.")


class LazyR1(Regularizer):
    """R1 at each fourth critic step, times its interval and a learned factor."""

    config: LazyConfig
    steps: Tensor
    name = "lazy_r1"
    differentiates = frozenset({"real"})

    def __init__(self, config: LazyConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.factor = nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def penalty(self, critic_pass: CriticPass) -> Tensor | None:
        due = int(self.steps) % self.config.every == 0
        self.steps += 1
        return self.factor * self.config.every * r1_penalty(critic_pass) if due else None


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The regularizer."""
    yield Component(
        "regularizer",
        "lazy-r1",
        target=f"{__name__}:LazyR1",
        config=LazyConfig,
        summary="R1 at some steps only.",
        rules=SAMPLE_GRADIENT_RULES,
        traits=(NEEDS_SAMPLE_GRADIENTS,),
    )
