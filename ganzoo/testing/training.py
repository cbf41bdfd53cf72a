"""Training without a run's directory: live parts of a configuration, and data of any shape."""

from __future__ import annotations

from typing import Any

import torch

from ganzoo.api import Spec
from ganzoo.config import RunConfig
from ganzoo.data import ArrayDataset, Dataset, DataStream
from ganzoo.nn import Bundle, Trainer
from ganzoo.nn.bundle import derive_seed
from ganzoo.registry import build
from ganzoo.training.build import build_bundle, check_what_was_built


def noise(spec: Spec, n: int = 16) -> ArrayDataset:
    """A data set of ``n`` samples of noise, always the same ones, with labels if ``spec`` has classes."""
    rng = torch.Generator().manual_seed(derive_seed("noise", spec))
    if spec.is_image:
        samples = torch.randint(0, 256, (n, *spec.shape), generator=rng, dtype=torch.uint8)
    else:
        samples = torch.randn(n, *spec.shape, generator=rng)
    labels = torch.arange(n) % spec.num_classes if spec.num_classes else None
    return ArrayDataset(samples, labels, spec)


class Session:
    """The live parts of a configuration, on the CPU.

    Args:
        config: what to train.
        dataset: what to train on; the data set of the configuration unless given.

    Raises:
        UsageError: a rule refuses what was built.
    """

    def __init__(self, config: RunConfig, dataset: Dataset | None = None) -> None:
        device = torch.device("cpu")
        data: Dataset = build(config.data, config.spec()) if dataset is None else dataset
        self.bundle = build_bundle(config, data.spec, device)
        check_what_was_built(config.plan(data.spec), self.bundle)
        self.trainer: Trainer = build(config.trainer, data.spec)
        self.trainer.setup(self.bundle)
        self.stream = DataStream(data.to(device), config.run.batch_size, config.run.seed, device)
        self.step = 0

    def take(self, steps: int) -> list[dict[str, float]]:
        """The metrics of each of some steps."""
        metrics = []
        for _ in range(steps):
            self.bundle.begin(self.step)
            metrics.append({name: value.item() for name, value in self.trainer.step(self.stream).items()})
            self.step += 1
        return metrics

    def state(self) -> dict[str, Any]:
        """What a resumed run gets back."""
        sides = (self.bundle.gen_side, self.bundle.disc_side)
        state = {
            "modules": [side.state_dict() for side in sides],
            "optimizers": [side.optimizer.state_dict() for side in sides],
            "trainer": self.trainer.state_dict(),
        }
        return {**_copy(state), "position": self.stream.position, "step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        for index, side in enumerate((self.bundle.gen_side, self.bundle.disc_side)):
            side.load_state_dict(state["modules"][index])
            side.optimizer.load_state_dict(state["optimizers"][index])
        self.trainer.load_state_dict(state["trainer"])
        self.stream.position, self.step = state["position"], state["step"]


def take_steps(
    config: RunConfig, steps: int = 2, *, dataset: Dataset | None = None
) -> tuple[Bundle, list[dict[str, float]]]:
    """Train ``config`` for some steps on the CPU without a run directory.

    Args:
        config: what to train.
        steps: how many steps.
        dataset: what to train on, :func:`noise` for instance; the data set of the configuration unless given.

    Returns:
        The bundle as it is after the last step, and each step's metrics.

    Raises:
        UsageError: a rule refuses the configuration.
    """
    session = Session(config, dataset)
    metrics = session.take(steps)
    return session.bundle, metrics


def _copy(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
