"""Modes of a mixture by the protocol of VEEGAN and PacGAN, and the picture of the critic's field."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.data import GaussianMixture
from ganzoo.errors import GanzooError, UsageError
from ganzoo.evaluation.modes import mode_scores, within
from ganzoo.outputs.field import field, save_field
from ganzoo.registry import create

RING, GRID = Spec((2,), 8), Spec((2,), 25)


def values(samples: Tensor, centers: Tensor, std: float, **options: float) -> dict[str, float]:
    return {score.name: score.value for score in mode_scores(samples, centers, std, **options)[0]}


def mixture(name: str) -> GaussianMixture:
    made = create("dataset", name, RING if name == "ring" else GRID)
    assert isinstance(made, GaussianMixture)
    return made


def test_scores_that_were_worked_out_by_hand() -> None:
    centers = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    samples = torch.tensor([[0.0, 2.9], [0.0, -1.0], [9.0, 0.5], [0.0, 3.1], [6.0, 0.0], [math.nan, 0.0]])
    scores, details = mode_scores(samples, centers, 1.0)
    assert {score.name: score.value for score in scores} == pytest.approx(
        {
            "modes": 2,
            "high_quality": 0.5,
            "least_mode": 0,
            "reverse_kl": math.log(3) + (2 / 3) * math.log(2 / 3) + (1 / 3) * math.log(1 / 3),
        }
    )
    assert details["hits_per_mode"] == [2, 1, 0]
    assert "published ones are from 2,500" in scores[0].note


def test_the_nearest_mode_is_hit_though_another_is_near_too() -> None:
    centers = torch.tensor([[0.0], [2.0]])
    assert mode_scores(torch.tensor([[0.9], [1.1], [1.2]]), centers, 1.0)[1]["hits_per_mode"] == [1, 2]


def test_how_far_counts_as_near_can_be_chosen() -> None:
    centers, samples = torch.zeros(1, 2), torch.tensor([[0.0, 3.5]])
    assert values(samples, centers, 1.0)["high_quality"] == 0
    assert values(samples, centers, 1.0, sigmas=4.0)["high_quality"] == 1


@pytest.mark.parametrize(("name", "floor"), [("ring", 0.0014), ("grid", 0.0048)])
def test_a_perfect_generator_reaches_the_ceiling_and_the_floor(name: str, floor: float) -> None:
    data, rng = mixture(name), torch.Generator().manual_seed(0)
    runs = [mode_scores(data.draw(2500, rng).x, data.modes(), data.std) for _ in range(20)]
    means = {score.name: sum(run[0][i].value for run in runs) / len(runs) for i, score in enumerate(runs[0][0])}
    ceiling = 1 - math.exp(-4.5)
    assert means["modes"] == len(data.modes())
    # The mean of 20 runs of 2,500 has the standard error sqrt(p (1 - p) / 50,000), here 0.0005.
    assert means["high_quality"] == pytest.approx(ceiling, abs=0.0019)
    assert means["reverse_kl"] == pytest.approx(floor, rel=0.35)
    assert runs[0][1]["reverse_kl_expected"] == pytest.approx(floor, abs=1e-4)
    assert runs[0][1]["high_quality_ceiling"] == pytest.approx(ceiling)
    assert runs[0][0][0].note == ""


def test_the_share_within_some_deviations_is_that_of_the_chi_distribution() -> None:
    assert within(3, 2) == pytest.approx(0.98889, abs=1e-5)
    assert within(3, 1) == pytest.approx(0.9973, abs=1e-4)


def test_a_collapsed_generator_has_one_mode() -> None:
    data, rng = mixture("ring"), torch.Generator().manual_seed(0)
    samples = data.modes()[3] + data.std * torch.randn(2500, 2, generator=rng)
    found = values(samples, data.modes(), data.std)
    assert (found["modes"], found["least_mode"]) == (1, 0)
    assert found["reverse_kl"] == pytest.approx(math.log(8))


def test_a_generator_that_hits_nothing_says_so() -> None:
    scores, _ = mode_scores(torch.full((10, 2), 99.0), torch.zeros(3, 2), 0.1)
    assert [score.value for score in scores] == [0, 0, 0, math.inf]
    assert scores[3].note == "no sample hits a mode"


@given(seed=st.integers(0, 10**6), modes=st.integers(1, 6), dim=st.integers(1, 4), count=st.integers(1, 60))
@settings(max_examples=40)
def test_order_and_labels_of_modes_are_nothing(seed: int, modes: int, dim: int, count: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    centers, samples = torch.randn(modes, dim, generator=rng), torch.randn(count, dim, generator=rng)
    found = values(samples, centers, 0.3)
    again = values(samples[torch.randperm(count, generator=rng)], centers[torch.randperm(modes, generator=rng)], 0.3)
    assert found == pytest.approx(again)
    assert 0 <= found["high_quality"] <= 1
    assert found["modes"] <= min(modes, count)
    assert found["least_mode"] <= 1 / modes + 1e-12
    assert found["reverse_kl"] >= 0


@pytest.mark.parametrize(
    ("samples", "centers", "std", "sentence"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 3), 1.0, r"\[3, 2\] around \[4, 3\]"),
        (torch.zeros(0, 2), torch.zeros(4, 2), 1.0, r"\[0, 2\]"),
        (torch.zeros(3, 2), torch.zeros(4, 2), 0.0, "positive std"),
    ],
)
def test_what_does_not_fit_is_a_sentence(samples: Tensor, centers: Tensor, std: float, sentence: str) -> None:
    with pytest.raises(GanzooError, match=sentence):
        mode_scores(samples, centers, std)


def pixel(image: Image.Image, x: int, y: int) -> Any:
    return image.getpixel((x, y))


def test_the_field_is_green_where_the_critic_is_high_and_the_points_are_where_they_are() -> None:
    real, fake = torch.tensor([[1.0, 1.0]]), torch.tensor([[-1.0, 0.5]])
    image = field(fake, real, lambda points: points[:, 0], extent=(-2, 2, -2, 2))
    assert image.size == (640, 640)
    red, green, blue = pixel(image, 630, 400)
    assert green > red
    assert green > blue
    red, green, blue = pixel(image, 10, 400)
    assert green < min(red, blue)
    assert pixel(image, 480, 160) == (140, 140, 140)
    red, _, blue = pixel(image, 160, 240)
    assert blue > red + 50


def test_up_is_up() -> None:
    points = torch.tensor([[0.0, 0.0]])
    image = field(points, points, lambda places: places[:, 1], extent=(-2, 2, -2, 2))
    above, below = pixel(image, 250, 30), pixel(image, 250, 600)
    assert above[1] > above[0]
    assert below[1] < below[0]


@pytest.mark.parametrize("logit", [0.0, math.nan])
def test_a_critic_that_says_nothing_is_drawn(tmp_path: Path, logit: float) -> None:
    points = torch.tensor([[0.3, 0.2], [math.nan, 0.0]])
    made = [
        save_field(points, points, lambda places: torch.full((len(places),), logit), tmp_path / f"{name}.png")
        for name in "ab"
    ]
    assert made[0].read_bytes() == made[1].read_bytes()
    assert made[0].stat().st_size > 1000


def test_a_field_is_of_the_plane() -> None:
    with pytest.raises(UsageError, match="in the plane"):
        field(torch.zeros(3, 3), torch.zeros(3, 3), lambda points: points[:, 0])
