"""Scores of predicted classes, against numbers worked out by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from ganzoo.errors import GanzooError
from ganzoo.evaluation.classes import Scored, class_scores, stacked_scores
from ganzoo.evaluation.histogram import divergence, entropy, expected_divergence, shares


def values(scored: Scored) -> dict[str, float]:
    return {score.name: score.value for score in scored[0]}


def test_entropy_and_divergence_are_those_of_the_textbook() -> None:
    assert entropy(torch.tensor([2, 1, 1])) == pytest.approx(1.5 * math.log(2))
    assert entropy(torch.tensor([7, 0, 0])) == 0
    assert divergence(torch.tensor([2, 1, 1, 0])) == pytest.approx(math.log(4) - 1.5 * math.log(2))
    # 3/4 log(3/4 : 1/2) + 1/4 log(1/4 : 1/2)
    assert divergence(torch.tensor([3, 1]), torch.tensor([5, 5])) == pytest.approx(
        0.75 * math.log(1.5) - 0.25 * math.log(2)
    )
    assert divergence(torch.tensor([3, 1]), torch.tensor([0.75, 0.25])) == 0
    assert divergence(torch.tensor([3, 1]), torch.tensor([1, 0])) == math.inf
    assert divergence(torch.tensor([3, 0]), torch.tensor([1, 1])) == pytest.approx(math.log(2))


@pytest.mark.parametrize("counts", [[0, 0], [1, -1], [1.0, math.nan], [[1, 1]]])
def test_what_is_no_histogram_is_refused(counts: list[float]) -> None:
    with pytest.raises(GanzooError, match="A histogram needs counts"):
        shares(torch.tensor(counts))


def test_classes_that_were_worked_out_by_hand() -> None:
    predicted = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    asked = torch.tensor([0, 0, 1, 0, 1, 1, 2, 0])
    scored = class_scores(predicted, 4, asked=asked, by="digit-cnn")
    assert values(scored) == pytest.approx(
        {
            "classes": 3,
            "class_entropy": 1.5 * math.log(2),
            "class_kl": 0.5 * math.log(2),
            "accuracy": 0.75,
        }
    )
    assert scored[1]["class_histogram"] == [4, 2, 2, 0]
    assert scored[1]["accuracy_per_class"] == [0.75, pytest.approx(2 / 3), 1.0, None]
    assert [score.label for score in scored[0]][2:] == ["class KL[digit-cnn]", "accuracy[digit-cnn]"]
    assert [score.better for score in scored[0]] == ["higher", None, "lower", "higher"]
    json.dumps([scored[1], [score.value for score in scored[0]]], allow_nan=False)


def test_the_reference_is_what_is_aimed_at() -> None:
    predicted = torch.tensor([0, 0, 0, 1])
    assert values(class_scores(predicted, 2, reference=torch.tensor([750, 250])))["class_kl"] == 0
    assert values(class_scores(predicted, 2))["class_kl"] > 0.1


def test_a_class_that_the_reference_lacks_is_named() -> None:
    scores, _ = class_scores(torch.tensor([0, 1, 2, 2]), 3, reference=torch.tensor([1, 1, 0]))
    (kl,) = (score for score in scores if score.name == "class_kl")
    assert kl.value == math.inf
    assert kl.note.endswith("class 2")


def test_without_labels_asked_for_there_is_no_accuracy() -> None:
    assert "accuracy" not in values(class_scores(torch.tensor([0, 1]), 2))


def test_order_is_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    predicted, asked = torch.randint(10, (2, 500), generator=rng)
    order = torch.randperm(500, generator=rng)
    assert class_scores(predicted, 10, asked=asked) == class_scores(predicted[order], 10, asked=asked[order])


@pytest.mark.parametrize(
    ("predicted", "asked", "sentence"),
    [
        (torch.tensor([0, 10]), None, "predicted are in 0 .. 9, but there are 0 and 10"),
        (torch.tensor([0, 1]), torch.tensor([0, -1]), "asked for are in 0 .. 9"),
        (torch.tensor([0, 1]), torch.tensor([0]), "2 classes were predicted and 1 asked for"),
        (torch.tensor([0.5]), None, "torch.int64"),
        (torch.zeros(0, dtype=torch.int64), None, "N > 0"),
    ],
)
def test_what_does_not_fit_is_a_sentence(predicted: Tensor, asked: Tensor | None, sentence: str) -> None:
    with pytest.raises(GanzooError, match=sentence):
        class_scores(predicted, 10, asked=asked)


def test_triples_that_were_worked_out_by_hand() -> None:
    predicted = torch.tensor([[0, 0, 7], [0, 0, 7], [9, 9, 9], [1, 2, 3]])
    scored = stacked_scores(predicted, by="digit-cnn")
    assert values(scored) == pytest.approx({"modes": 3, "mode_kl": math.log(1000) - 1.5 * math.log(2)})
    counts = scored[1]["mode_counts"]
    assert (counts[7], counts[999], counts[123], sum(counts)) == (2, 1, 1, 4)
    assert "published ones are from 26,000" in scored[0][0].note


def test_triples_that_are_none_are_refused() -> None:
    with pytest.raises(GanzooError, match=r"\[N, 3\]"):
        stacked_scores(torch.zeros(5, 2, dtype=torch.int64))
    with pytest.raises(GanzooError, match=r"0 \.\. 9"):
        stacked_scores(torch.full((5, 3), 10))


def test_a_perfect_generator_is_at_the_floor_of_the_protocol() -> None:
    """0.0194 for equally likely digits; 0.0236 for those of MNIST (counts of its training set)."""
    rng = torch.Generator().manual_seed(0)
    uniform = stacked_scores(torch.randint(10, (26_000, 3), generator=rng))
    assert values(uniform)["modes"] == 1000
    assert values(uniform)["mode_kl"] == pytest.approx(0.0194, abs=0.003)
    assert uniform[1]["mode_kl_expected"] == pytest.approx(0.0194, abs=1e-4)
    assert uniform[0][0].note == ""
    mnist = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949.0])
    drawn = torch.multinomial(mnist, 3 * 26_000, replacement=True, generator=rng).view(-1, 3)
    assert values(stacked_scores(drawn))["mode_kl"] == pytest.approx(0.0236, abs=0.003)


def test_what_chance_makes_of_a_divergence_is_known() -> None:
    rng = torch.Generator().manual_seed(0)
    draws = torch.randint(10, (400, 500), generator=rng)
    mean = sum(divergence(torch.bincount(row, minlength=10)) for row in draws) / len(draws)
    assert mean == pytest.approx(expected_divergence(10, 500), rel=0.1)
