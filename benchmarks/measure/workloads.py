"""The settings that are measured, as data: names to settings of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from tutorials import data
from tutorials.data import Source

from measure.context import Context

CONTIGUOUS: Final = {"run.layout": "contiguous"}
CHANNELS_LAST: Final = {"run.layout": "channels-last"}
PLAIN: Final[dict[str, Any]] = {"run.precision": "fp32", **CONTIGUOUS}
"""What a bare loop computes."""
SETTINGS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("fp32, contiguous", PLAIN),
    ("fp32, channels_last", {"run.precision": "fp32", **CHANNELS_LAST}),
    ("bf16, contiguous", {"run.precision": "bf16", **CONTIGUOUS}),
    ("bf16, channels_last", {"run.precision": "bf16", **CHANNELS_LAST}),
    ("fp16, contiguous", {"run.precision": "fp16", **CONTIGUOUS}),
    ("fp16, channels_last", {"run.precision": "fp16", **CHANNELS_LAST}),
    ("fp32, compiled", {**PLAIN, "run.compile": True}),
    ("bf16, compiled", {"run.precision": "bf16", "run.compile": True}),
)
"""Each precision and layout. What this ganzoo or this machine does not have is left out, and said to be."""


@dataclass(frozen=True)
class Workload:
    """Networks, their images and how many make a batch.

    Attributes:
        name: for the table.
        data: which images: ``colour``, ``mnist`` or ``digits`` through files that both sides read, or a data set of
            ganzoo by its name.
        size: side of the images that the networks see.
        settings: of the run.
        loop: of the tutorial beside it: the official example's or the common script's.
    """

    name: str
    data: str
    size: int
    settings: dict[str, Any]
    loop: Literal["official", "script"] = "official"

    def source(self) -> Source:
        """The images that both sides read."""
        found: Source = {"colour": data.colour, "mnist": data.mnist, "digits": data.digits}[self.data]()
        return found

    def of_run(self, context: Context, more: dict[str, Any] | None = None) -> dict[str, Any]:
        """Settings of a run on these images."""
        here: dict[str, Any] = {"data": self.data}
        if self.data in ("colour", "mnist", "digits"):
            path = self.source().save(context.folder)
            here = {"data": "npz", "data.path": str(path), "data.size": self.size}
        settings = {**here, **self.settings, **(more or {})}
        return {**settings, **_tiny(settings)} if context.small else settings

    def batch_size(self, context: Context) -> int:
        """Samples of one step."""
        return int(self.of_run(context)["run.batch_size"])


def _tiny(settings: dict[str, Any]) -> dict[str, Any]:
    """What makes a workload small enough for a test."""
    tiny: dict[str, Any] = {path: 4 for path in ("gen.width", "disc.width") if path in settings}
    return {**tiny, "run.batch_size": 8}


def dcgan(width: int, batch: int) -> dict[str, Any]:
    """Settings of both DCGAN networks."""
    return {
        "gen": "dcgan",
        "disc": "dcgan",
        "disc.norm": "batch",
        "loss": "ns",
        "gen.width": width,
        "disc.width": width,
        "run.batch_size": batch,
    }


DCGAN_64: Final = Workload("DCGAN 64x64x3, width 64", "colour", 64, dcgan(64, 64))
DCGAN_32: Final = Workload("DCGAN 32x32, width 32", "digits", 32, dcgan(32, 32))
DCGAN_28: Final = Workload("DCGAN 28x28, width 32", "mnist", 28, dcgan(32, 64))
MLP_28: Final = Workload(
    "script's MLP 28x28",
    "mnist",
    28,
    {"gen": "script-mlp", "disc": "script-mlp", "loss": "ns", "run.batch_size": 64},
    "script",
)
RING: Final = Workload(
    "MLP on the ring", "ring", 2, {"gen": "mlp", "disc": "mlp", "loss": "minimax", "run.batch_size": 512}
)
IMAGES: Final = (DCGAN_64, MLP_28, DCGAN_28)
"""What is measured against the tutorial way."""
