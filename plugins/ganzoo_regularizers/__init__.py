"""Gradient penalties that go with any loss: ``--reg gp``, ``r1``, ``r2``, ``dragan``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from ganzoo.api import NEEDS_SAMPLE_GRADIENTS, SAMPLE_GRADIENT_RULES, Component, hookimpl, option


@dataclass(frozen=True)
class NormPenaltyConfig:
    """Options of ``gp`` and ``dragan``."""

    weight: float = option(10.0, min=0, help="Weight of the penalty.")
    target: float = option(1.0, min=0, help="What the norm of each sample's gradient is drawn to.")


@dataclass(frozen=True)
class ZeroPenaltyConfig:
    """Options of ``r1`` and ``r2``."""

    gamma: float = option(1.0, min=0, help="Weight; half of it multiplies the squared gradient, as in the papers.")


_OPTIMISERS: Final[dict[str, dict[str, Any]]] = {
    "dragan": {"optim.name": "adam", "optim.lr": 1e-4, "optim.betas": (0.5, 0.999)},
}
"""What was prescribed along with a penalty; the others go with several."""


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The regularizers."""
    for name, target, config, summary, paper in (
        ("gp", "GradientPenalty", NormPenaltyConfig, "between reals and fakes drawn to a norm of 1", "1704.00028"),
        ("dragan", "Dragan", NormPenaltyConfig, "around the reals drawn to a norm of 1", "1705.07215"),
        ("r1", "R1", ZeroPenaltyConfig, "at the reals drawn to zero", "1801.04406"),
        ("r2", "R2", ZeroPenaltyConfig, "at the fakes drawn to zero", "1801.04406"),
    ):
        yield Component(
            "regularizer",
            name,
            target=f"ganzoo_regularizers.penalties:{target}",
            config=config,
            summary=f"The critic's gradients {summary}.",
            paper=f"arXiv:{paper}",
            recipe={"disc.norm": "none", **_OPTIMISERS.get(name, {})},
            rules=SAMPLE_GRADIENT_RULES,
            traits=(NEEDS_SAMPLE_GRADIENTS,),
        )
