"""Training the cells of the matrix. ``python tests/cells.py`` trains all that are allowed, which takes some minutes."""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.matrix import AXES, Cell, cells, settings
from ganzoo.testing import take_steps

TINY: Mapping[str, Any] = {
    "run.batch_size": 4,
    "gen.width": 4,
    "disc.width": 4,
    "disc.model": "shufflenet_v2_x0_5",
    "gen.latent_dim": 6,
    "trainer.steps": 1,
}


def data_in(folder: Path) -> dict[str, dict[str, Any]]:
    """A small data set of each kind that needs no download; some images are written to ``folder``."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pixels)
    return {
        "labelled images": {"data": "digits"},
        "images": {"data": "npz", "data.path": folder / "images.npz"},
        "labelled points": {"data": "ring"},
        "points": {"data": "swissroll"},
    }


def configure(**values: Any) -> RunConfig:
    """A configuration of small networks; the recipes' other settings stay."""
    return resolve([Layer("tiny", TINY, optional=True), Layer("cell", values)])


def train(cell: Cell, data: Mapping[str, Mapping[str, Any]]) -> None:
    """Train a cell for two steps; everything stays finite."""
    config = configure(**settings(cell.gen, cell.disc, cell.loss, cell.trainer, cell.reg), **data[cell.data])
    assert not config.plan().broken_rules(), cell
    bundle, metrics = take_steps(config)
    for step in metrics:
        assert {"loss_d", "loss_g", "d_real", "d_fake"} <= step.keys(), cell
        assert all(math.isfinite(value) for value in step.values()), (cell, step)
    assert all(torch.isfinite(p).all() for side in (bundle.gen_side, bundle.disc_side) for p in side.parameters()), cell


def covering(every: Iterable[Cell], costly: Collection[str] = ()) -> list[Cell]:
    """Few cells in which every two components meet that meet in any; those with ``costly`` ones only if need be."""
    left = {cell: _pairs(cell) for cell in every}
    wanted = set().union(*left.values())
    chosen = []
    while wanted:
        gain = {cell: len(pairs & wanted) for cell, pairs in left.items()}
        best = max(gain, key=lambda cell: gain[cell] / (1 if {cell.disc, cell.gen}.isdisjoint(costly) else 5))
        chosen.append(best)
        wanted -= left.pop(best)
    return chosen


def _pairs(cell: Cell) -> frozenset[Any]:
    return frozenset(itertools.combinations(((axis, getattr(cell, axis)) for axis in AXES), 2))


def main(arguments: list[str] | None = None) -> int:
    """Train every allowed cell; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", default="1/1", help="which part of how many, such as 2/4")
    index, parts = map(int, parser.parse_args(arguments).part.split("/"))
    allowed = [cell for cell in cells() if cell.status != "refused"][index - 1 :: parts]
    failed, started = [], time.monotonic()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = data_in(Path(folder))
        for number, cell in enumerate(allowed, 1):
            try:
                train(cell, data)
            except Exception as err:
                failed.append(cell)
                sys.stdout.write(f"failed: {cell}: {err!r}\n")
            if number % 50 == 0 or number == len(allowed):
                seconds = time.monotonic() - started
                sys.stdout.write(f"{number} of {len(allowed)} cells, {len(failed)} failed, {seconds:.0f} s\n")
                sys.stdout.flush()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
