"""How far real data are from other real data of the same kind: the floor of FID[digit-cnn], by the number of samples.

Run it with MNIST at hand: ``python benchmarks/bias.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.evaluation.evaluate import build_extractor
from ganzoo.evaluation.features import extract
from ganzoo.evaluation.statistics import frechet_distance, gaussian_of
from ganzoo.registry import create

SPEC = Spec((1, 28, 28), 10)
COUNTS = (500, 1000, 2000, 5000, 10_000, 20_000)
REPEATS = 5


def features(split: Literal["train", "test"]) -> Tensor:
    """Features ``[N, 96]`` of a part of MNIST."""
    samples: Tensor = create("dataset", "mnist", SPEC, split=split).samples

    def batches() -> Iterator[tuple[Tensor, None]]:
        for start in range(0, len(samples), 256):
            yield samples[start : start + 256], None

    network = build_extractor("digit-cnn", {}, SPEC)
    found = extract(batches(), network, total=len(samples), device="cpu", keep={"features"}).features
    assert found is not None
    return found


def distance(a: Tensor, b: Tensor) -> float:
    """FID between two sets of features."""
    return frechet_distance(gaussian_of(a), gaussian_of(b))


def main() -> None:
    """Print the table."""
    train, test = features("train"), features("test")
    half = len(train) // 2
    print(f"train against test            {distance(train, test):.4f}")
    print(f"first half against second     {distance(train[:half], train[half:]):.4f}")
    rng = torch.Generator().manual_seed(0)
    for count in COUNTS:
        orders = [torch.randperm(len(train), generator=rng) for _ in range(REPEATS)]
        found = torch.tensor([distance(train[order[:count]], train[order[half:]]) for order in orders])
        print(f"{count:6} against another 30,000  {found.mean():.4f} (std {found.std():.4f} of {REPEATS} draws)")


if __name__ == "__main__":
    main()
