"""Does bfloat16 cost quality? FID[digit-cnn] of a DCGAN on MNIST at 28x28 after equal steps, over some seeds.

``python tools/bfloat16.py --steps 1000 --seeds 0,1,2`` prints a line a run. Where the processor has no bfloat16 it is
emulated: what torch's autocast computes in bfloat16 gets its inputs, weights, outputs, and the gradients of all of
them, rounded to bfloat16, and is summed in float32, as the hardware sums. That shows what rounding does to training,
and nothing about speed.
"""

from __future__ import annotations

import argparse
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import ganzoo
from ganzoo.nn import Precision

PRODUCTS = {torch.conv2d, torch.conv_transpose2d, F.linear}
OTHERS = {torch.relu, torch.relu_, F.relu, F.leaky_relu, torch.tanh, F.batch_norm}


class Round(torch.autograd.Function):
    """To bfloat16 and back, and so the gradient."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        """Rounded."""
        return x.bfloat16().float()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        """Rounded."""
        return gradients[0].bfloat16().float()


class Rounded(TorchFunctionMode):
    """Rounds around every operation that autocast computes in bfloat16."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS:
            args = tuple(Round.apply(a) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args)
        out = func(*args, **(kwargs or {}))
        return Round.apply(out) if func in PRODUCTS | OTHERS else out


def emulated(precision: Precision) -> AbstractContextManager[Any]:
    """In place of autocast."""
    return nullcontext() if precision.is_full else Rounded()


def main() -> None:
    """Train and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=Path("runs/bfloat16"))
    asked = parser.parse_args()
    setattr(Precision, "autocast", emulated)  # noqa: B010
    for seed in map(int, asked.seeds.split(",")):
        for precision in ("fp32", "bf16"):
            started = time.time()
            settings = {
                "data": "mnist",
                "gen": "dcgan",
                "disc": "dcgan",
                "gen.width": asked.width,
                "disc.width": asked.width,
                "loss": "ns",
                "run.cond": "off",
                "run.precision": precision,
                "run.layout": "contiguous",
                "run.steps": asked.steps,
                "run.seed": seed,
                "run.out": asked.out,
                "run.name": f"{precision}-{seed}",
                "run.sample_every": 0,
                "run.checkpoint_every": 0,
            }
            run = ganzoo.train(settings)
            score = ganzoo.evaluate(run.path, metrics=["fid"], samples=5000, real_samples=10_000)["fid"]
            print(f"seed {seed}, {precision}: FID[digit-cnn] {score:.3f}, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
