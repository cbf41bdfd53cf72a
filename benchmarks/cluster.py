"""A model of many GPUs, not a measurement: the all-reduce of each step against the step's arithmetic.

Every process computes its part of the step and then averages gradients and buffers with the others, once for each
optimiser step, in one flat all-reduce: ``2 (n - 1) / n`` times the bytes over the slowest link of a ring, and a latency
for each of its ``2 (n - 1)`` hops. Nothing of it overlaps with arithmetic, which is how ganzoo does it.
``python benchmarks/cluster.py`` prints the tables that ``report.py`` puts into ``docs/performance.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from measure.flops import dcgan_parameters, dcgan_step, halvings

COUNTS: Final = (1, 8, 16, 64, 256, 1000)
BYTES: Final = 4
"""Gradients and buffers are averaged in float32."""


@dataclass(frozen=True)
class Assumptions:
    """What the model takes for granted.

    Attributes:
        name: of this set.
        teraflops: that a GPU reaches in these networks, in 1e12 operations a second.
        inside, outside: bandwidth in GB/s, each way, between two GPUs of a machine and for one GPU between machines.
        hop_inside, hop_outside: latency of one hop of the ring, in microseconds.
        per_machine: GPUs of a machine.
        launch: milliseconds of a step that do not shrink with the batch, such as kernel launches.
    """

    name: str
    teraflops: float
    inside: float
    outside: float
    hop_inside: float
    hop_outside: float
    per_machine: int
    launch: float


SETS: Final = (
    Assumptions("fast network", 150.0, 300.0, 40.0, 3.0, 8.0, 8, 3.0),
    Assumptions("ordinary network", 150.0, 300.0, 2.5, 3.0, 30.0, 8, 3.0),
)


@dataclass(frozen=True)
class Model:
    """A pair of networks: DCGAN of a side, width and channels.

    Attributes:
        name: for the table.
        per_gpu: samples of one GPU's part of a batch.
    """

    name: str
    side: int
    width: int
    channels: int
    per_gpu: int
    latent_dim: int = 100

    @property
    def numbers(self) -> int:
        """Gradients and buffers that are averaged in one step, of both sides.

        Beside the weights, each normalised layer has two parameters and two buffers for each channel; buffers go
        along with both sides' gradients.
        """
        sizes = (self.side, self.width, self.channels)
        weights = dcgan_parameters(*sizes) + dcgan_parameters(*sizes, self.latent_dim)
        n, _ = halvings(self.side)
        of_disc = sum(self.width << i for i in range(1, n))
        of_gen = sum(self.width << i for i in range(n))
        return weights + 2 * (of_disc + of_gen) + 2 * 2 * (of_disc + of_gen)

    @property
    def operations(self) -> float:
        """Of one GPU's part of a step."""
        return self.per_gpu * dcgan_step(self.side, self.width, self.channels, self.latent_dim)


MODELS: Final = (
    Model("DCGAN 64x64x3, width 64", 64, 64, 3, 64),
    Model("DCGAN 64x64x3, width 64, 512 a GPU", 64, 64, 3, 512),
    Model("DCGAN 128x128x3, width 128, 128 a GPU", 128, 128, 3, 128),
)


@dataclass(frozen=True)
class Expected:
    """What the model says of so many GPUs, in milliseconds of a step; the efficiency is against one GPU."""

    count: int
    arithmetic: float
    communication: float

    @property
    def step(self) -> float:
        """One whole step."""
        return self.arithmetic + self.communication

    @property
    def efficiency(self) -> float:
        """Throughput for each GPU, by that of one alone with the same part of a batch."""
        return self.arithmetic / self.step


def expected(model: Model, count: int, given: Assumptions) -> Expected:
    """The model's arithmetic: a step of ``count`` GPUs, each with its own part of the batch."""
    arithmetic = model.operations / (given.teraflops * 1e12) * 1e3 + given.launch
    if count == 1:
        return Expected(1, arithmetic, 0.0)
    apart = count > given.per_machine
    bandwidth = given.outside if apart else given.inside
    hop = given.hop_outside if apart else given.hop_inside
    moved = 2 * (count - 1) / count * BYTES * model.numbers / (bandwidth * 1e9) * 1e3
    return Expected(count, arithmetic, moved + 2 * 2 * (count - 1) * hop * 1e-3)


def tables() -> Iterator[str]:
    """The assumptions and what follows from them, as lines of Markdown."""
    yield "Assumptions; none of them was measured here:"
    yield ""
    yield "| | " + " | ".join(each.name for each in SETS) + " |"
    yield "| --- |" + " ---: |" * len(SETS)
    for label, field, unit in (
        ("Operations that a GPU reaches in these networks", "teraflops", "TFLOP/s"),
        ("GPUs of a machine", "per_machine", ""),
        ("Bandwidth within a machine, each way", "inside", "GB/s"),
        ("Bandwidth of a GPU to other machines, each way", "outside", "GB/s"),
        ("Latency of a hop within a machine", "hop_inside", "microseconds"),
        ("Latency of a hop between machines", "hop_outside", "microseconds"),
        ("Part of a step that no GPU shortens", "launch", "ms"),
    ):
        yield f"| {label} | " + " | ".join(f"{getattr(each, field):g} {unit}".strip() for each in SETS) + " |"
    for model in MODELS:
        yield ""
        size = BYTES * model.numbers / 1e6
        yield (
            f"**{model.name}**: {size:.1f} MB averaged in each step, "
            f"{model.operations / 1e12:.3f} TFLOP for each GPU, {model.per_gpu} samples each."
        )
        yield ""
        heads = [f"{each.name}: {word}" for each in SETS for word in ("ms a step", "of it all-reduce", "efficiency")]
        yield "| GPUs | global batch | " + " | ".join(heads) + " |"
        yield "| ---: | ---: |" + " ---: |" * len(heads)
        for count in COUNTS:
            cells = []
            for given in SETS:
                found = expected(model, count, given)
                cells += [f"{found.step:.2f}", f"{found.communication:.2f}", f"{100 * found.efficiency:.0f} %"]
            yield f"| {count:,} | {count * model.per_gpu:,} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print("\n".join(tables()))
