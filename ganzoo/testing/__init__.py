"""For tests of components, ours and yours."""

from __future__ import annotations

import torch

from ganzoo.config import RunConfig
from ganzoo.data import DataStream
from ganzoo.nn import Bundle, Trainer
from ganzoo.registry import build
from ganzoo.training.build import build_bundle, check_what_was_built

__all__ = ["take_steps"]


def take_steps(config: RunConfig, steps: int = 2) -> tuple[Bundle, list[dict[str, float]]]:
    """Train ``config`` for some steps on the CPU without a run directory.

    Returns:
        The bundle as it is after the last step, and each step's metrics.

    Raises:
        UsageError: a rule refuses the configuration.
    """
    spec = config.spec()
    device = torch.device("cpu")
    bundle = build_bundle(config, spec, device)
    check_what_was_built(config.plan(spec), bundle)
    trainer: Trainer = build(config.trainer, spec)
    trainer.setup(bundle)
    stream = DataStream(build(config.data, spec).to(device), config.run.batch_size, config.run.seed, device)
    metrics = []
    for step in range(steps):
        bundle.begin(step)
        metrics.append({name: value.item() for name, value in trainer.step(stream).items()})
    return bundle, metrics
