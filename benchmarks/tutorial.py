"""Train one of the common scripts for some seconds of wall time, and save what its generator draws.

``python benchmarks/tutorial.py mlp-gan --seconds 300 --seed 0 --out samples.npz``; score the file with ``ganzoo eval``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final

import numpy as np
from tutorials import data
from tutorials.contenders import SCRIPTS, samples, train

from ganzoo.training.device import resolve_device

SIDES: Final = {"mnist": 28, "digits": 16}
"""Side of the samples, which is that of what ganzoo draws by default."""


def main(arguments: list[str] | None = None) -> None:
    """Train, save, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("script", choices=SCRIPTS)
    parser.add_argument("--data", choices=("mnist", "digits"), default="mnist", help="what to train on (mnist)")
    parser.add_argument("--seconds", type=float, required=True, help="of training, data included")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=10_000, help="how many to draw (10,000)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True, help="an .npz for the samples")
    asked = parser.parse_args(arguments)
    source = {"mnist": data.mnist, "digits": data.digits}[asked.data]()
    if source.name.startswith("random"):
        parser.error("MNIST is not on this machine; point GANZOO_DATA at the folder that holds it")
    device = resolve_device(asked.device).device
    trained = train(SCRIPTS[asked.script], source, asked.seconds, asked.seed, device)
    np.savez(asked.out, images=samples(trained.pair, asked.samples, asked.seed, SIDES[asked.data]))
    print(json.dumps({"steps": trained.steps, "seconds": round(trained.seconds, 3), **trained.losses}))


if __name__ == "__main__":
    main()
