"""Scores beside torch-fidelity's: the final algebra of FID, a cached reference, and memory over the number of samples.

Everything is a ratio of things measured in one run, because machines are shared and clocks drift. ``python
benchmarks/evaluation.py`` takes a few minutes; ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.backends import torch_fidelity
from ganzoo.evaluation.cache import FeatureCache
from ganzoo.evaluation.features import extract, extract_known
from ganzoo.evaluation.metrics import Evidence, fid, kid
from ganzoo.evaluation.statistics import frechet_distance, gaussian_of
from ganzoo.nn import Extractor, Features

DIM: Final = 2048
SPEC: Final = Spec((3, 32, 32))


class Cheap(Extractor):
    """One matrix: what is measured is everything else."""

    digest = "c4" * 32

    def __init__(self, dim: int, work: int = 1) -> None:
        super().__init__(SPEC)
        self.dim, self.work = dim, work
        rng = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(SPEC.numel, dim, generator=rng) / SPEC.numel**0.5

    def forward(self, images: Tensor) -> Features:
        for _ in range(self.work):
            features = (images.flatten(1).float() / 255) @ self.matrix
        return Features(features)


def noise(count: int, seed: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Batches of images that are made when they are asked for."""
    rng = torch.Generator().manual_seed(seed)
    for start in range(0, count, 250):
        n = min(250, count - start)
        yield torch.randint(0, 256, (n, *SPEC.shape), generator=rng, dtype=torch.uint8), None


def features(count: int, seed: int, decades: float) -> Tensor:
    """Correlated features whose standard deviations fall off over some powers of ten, as a network's do."""
    mix = torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(7)) / DIM**0.5
    x = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))
    made: Tensor = (x * torch.logspace(0, -decades, DIM)) @ mix
    return made


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time that a piece of work takes, which other processes disturb little, and what it gives."""
    begun = time.process_time()
    found = work()
    return time.process_time() - begun, found


def algebra(rounds: int) -> list[dict[str, Any]]:
    """From statistics to FID, ours beside torch-fidelity's, in turns."""
    torch_fidelity()
    theirs: Any = importlib.import_module("torch_fidelity.metric_fid")
    found = []
    for count, decades in ((4096, 0.5), (4096, 2.0), (1024, 2.0)):
        sets = [features(count, seed, decades) for seed in (1, 2)]
        statistic = [theirs.fid_features_to_statistics(each) for each in sets]
        own = [gaussian_of(each) for each in sets]
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            ours, value = seconds(partial(frechet_distance, *own))
            other, result = seconds(partial(theirs.fid_statistics_to_metric, *statistic, verbose=False))
            times.append((ours, other))
        apart = abs(value - result["frechet_inception_distance"])
        found.append(
            {
                "measured": f"FID of {DIM} features, {count:,} samples, deviations over 10^{decades:g}",
                "ratio": statistics.median(ours / other for ours, other in times),
                "ours_s": statistics.median(ours for ours, _ in times),
                "theirs_s": statistics.median(other for _, other in times),
                "fid": value,
                "apart": apart,
            }
        )
    return found


def cached(root: Path) -> dict[str, Any]:
    """The second of two evaluations against the same reference of 20,000 images, beside the first."""
    reference, fake = 20_000, 2_000
    extractor = Cheap(256, work=20)
    cache = FeatureCache(root)

    def evaluate() -> list[float]:
        keep: Any = ("moments", "features")
        settings: dict[str, Any] = {"device": "cpu", "keep": keep}
        real = extract_known(
            noise(reference, 0), extractor, data={"digest": "reference"}, total=reference, cache=cache, **settings
        )
        generated = extract(noise(fake, 1), extractor, total=fake, **settings)
        evidence = Evidence(generated, real, "cheap", SPEC)
        return [score.value for score in (*fid(evidence), *kid(evidence))]

    (first, one), (second, two) = seconds(evaluate), seconds(evaluate)
    return {
        "measured": f"second evaluation of {fake:,} images against the same {reference:,}, by the first",
        "ratio": second / first,
        "first_s": first,
        "second_s": second,
        "equal_bits": one == two,
    }


def memory() -> list[dict[str, Any]]:
    """Peak memory of a process that extracts 50,000 images, beside one with 5,000."""
    found = []
    for keep in ("moments", "features"):
        peaks = []
        for count in (5_000, 50_000):
            command = [sys.executable, __file__, "--peak", keep, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks.append(json.loads(done.stdout))
        rose = {name: peaks[1][name] - peaks[0][name] for name in peaks[0]}
        found.append(
            {
                "measured": f"peak memory at 50,000 images by that at 5,000, keeping {keep}",
                "ratio": peaks[1]["private_mb"] / peaks[0]["private_mb"],
                "private_mb": [peak["private_mb"] for peak in peaks],
                "with_file_pages_mb": [peak["resident_mb"] for peak in peaks],
                "rose_private_mb": rose["private_mb"],
            }
        )
    return found


def peak(keep: Any, count: int) -> dict[str, float]:
    """In a process of its own: the most memory that was its own, and the most with pages of files, in MB."""
    highest = {"private_mb": 0.0, "resident_mb": 0.0}

    def look(_: int, __: int) -> None:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        told = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        private = int(told["RssAnon"]) / 1024
        highest["private_mb"] = max(highest["private_mb"], private)
        highest["resident_mb"] = max(highest["resident_mb"], sum(map(int, told.values())) / 1024)

    extract(noise(count, 0), Cheap(512), total=count, device="cpu", keep={keep}, on_progress=look)
    return highest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns of the algebra")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--peak", nargs=2, metavar=("KEEP", "COUNT"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print(json.dumps(peak(asked.peak[0], int(asked.peak[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [*algebra(asked.rounds), cached(Path(folder)), *memory()]
    for row in rows:
        rest = {key: value for key, value in row.items() if key not in ("measured", "ratio")}
        words = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in rest.items())
        print(f"{row['ratio']:.2f}  {row['measured']}\n      {', '.join(words)}")
    if asked.json:
        asked.json.write_text(
            json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=2), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
