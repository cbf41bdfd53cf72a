"""Scores: by hand, and equal to what torch-fidelity says of the same images with the same weights."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from feature_parts import SPEC, Linear, batches, images
from PIL import Image
from published_parts import save_inception
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.backends import torch_fidelity
from ganzoo.errors import UsageError
from ganzoo.evaluation.features import FeatureSet, extract
from ganzoo.evaluation.metrics import Evidence, keep_for, label
from ganzoo.evaluation.result import Score
from ganzoo.evaluation.table import METRICS, metrics_named
from ganzoo.registry import create

ALL: Any = frozenset({"moments", "features", "logits"})
COLOUR = Spec((3, 16, 16))


def features_of(pixels: Tensor, extractor: Any = None) -> FeatureSet:
    return extract(batches(pixels, 7), extractor or Linear(), total=len(pixels), device="cpu", keep=ALL)


def scores(evidence: Evidence, *names: str) -> dict[str, Score]:
    return {score.name: score for metric in metrics_named(names) for score in metric.compute(evidence)}


class Both(NamedTuple):
    """What ganzoo and what torch-fidelity say."""

    ours: dict[str, Score]
    theirs: dict[str, float]
    weights: Path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """20 PNG files through an Inception with random weights, from a file in the published format."""
    root = tmp_path_factory.mktemp("fidelity")
    weights = save_inception(root / "inception.pth")
    sides = {"fake": images(10, 1, COLOUR), "real": images(10, 2, COLOUR, low=90)}
    for name, pixels in sides.items():
        (root / name).mkdir()
        for index, image in enumerate(pixels):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / name / f"{index:02}.png")
    theirs: dict[str, float] = torch_fidelity().calculate_metrics(
        input1=str(root / "fake"),
        input2=str(root / "real"),
        cuda=False,
        fid=True,
        kid=True,
        isc=True,
        prc=True,
        kid_subset_size=5,
        feature_extractor="inception-v3-compat",
        feature_extractor_weights_path=str(weights),
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )
    extractor = create("extractor", "inception", COLOUR, weights=weights)
    fake, real = (features_of(pixels, extractor) for pixels in sides.values())
    evidence = Evidence(fake, real, "inception", COLOUR, kid_subset=5, caveat=extractor.caveat)
    return Both(scores(evidence, "fid", "kid", "isc", "prc"), theirs, weights)


def test_scores_are_those_of_torch_fidelity(both: Both) -> None:
    names = {
        "fid": "frechet_inception_distance",
        "kid": "kernel_inception_distance_mean",
        "isc": "inception_score_mean",
        "precision": "precision",
        "recall": "recall",
        "f-score": "f_score",
    }
    assert both.ours.keys() == names.keys()
    for ours, theirs in names.items():
        assert both.ours[ours].value == pytest.approx(both.theirs[theirs], rel=1e-4), ours
    assert both.ours["kid"].std == pytest.approx(both.theirs["kernel_inception_distance_std"], rel=1e-4)
    assert both.ours["isc"].std == pytest.approx(both.theirs["inception_score_std"], rel=1e-4)
    assert both.ours["fid"].value > 0.01, "the random weights tell the two sets apart"


def test_scores_say_what_they_are(both: Both) -> None:
    assert {score.label for score in both.ours.values()} == {
        "FID",
        "KID",
        "IS",
        "Precision[inception]",
        "Recall[inception]",
        "F-score[inception]",
    }
    assert all("inception.pth, not the published file" in score.note for score in both.ours.values())
    assert "10 samples and 10 of reference are fewer than 2,049" in both.ours["fid"].note


def test_labels_are_bare_only_for_the_customary_extractor() -> None:
    assert label("FID", "inception") == "FID"
    assert label("FID", "digit-cnn") == "FID[digit-cnn]"
    assert label("Recall", "vgg16", "vgg16") == "Recall"


def test_a_set_against_itself() -> None:
    side = features_of(images(400, 0))
    found = scores(Evidence(side, side, "linear", SPEC), "fid", "kid", "prc")
    assert 0 <= found["fid"].value < 1e-6
    assert found["fid"].label == "FID[linear]"
    assert -0.01 < found["kid"].value < 1e-3, "an image in both subsets pulls it below zero"
    assert found["precision"].value == found["recall"].value == 1


def test_statistics_stand_in_for_the_reference_of_fid_alone() -> None:
    fake, real = features_of(images(300, 0)), features_of(images(300, 1, low=50))
    by_features = scores(Evidence(fake, real, "linear", SPEC), "fid")["fid"].value
    evidence = Evidence(fake, real.gaussian(), "linear", SPEC)
    assert scores(evidence, "fid")["fid"].value == pytest.approx(by_features, rel=1e-12)
    for name in ("kid", "prc"):
        with pytest.raises(UsageError, match="statistics of a reference do not hold"):
            scores(evidence, name)


def test_an_order_does_not_change_fid_and_precision() -> None:
    pixels, real = images(500, 0), features_of(images(400, 1, low=60))
    turned = pixels[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    one, other = (scores(Evidence(features_of(x), real, "linear", SPEC), "fid", "prc") for x in (pixels, turned))
    for name, score in one.items():
        assert score.value == pytest.approx(other[name].value, rel=1e-5), name


def test_precision_and_recall_are_not_swapped() -> None:
    """Fakes that keep to a corner of the real ones are precise and recall little."""
    wide = features_of(images(400, 0))
    assert wide.features is not None
    rng = torch.Generator().manual_seed(0)
    narrow = wide.features[:1] + 1e-3 * torch.randn(400, wide.features.shape[1], generator=rng)
    found = scores(Evidence(FeatureSet(400, wide.extractor, features=narrow), wide, "linear", SPEC), "prc")
    assert found["precision"].value == 1
    assert found["recall"].value <= 0.01


def test_the_inception_score_by_hand() -> None:
    """As many sure votes for each of 4 classes: exp of the entropy, 4; nothing but doubt: 1."""
    sure = 100 * torch.eye(4).repeat(250, 1)
    for logits, value in ((sure, 4.0), (torch.zeros(1000, 4), 1.0)):
        side = FeatureSet(1000, "a" * 64, logits=logits)
        found = scores(Evidence(side, None, "linear", SPEC), "isc")["isc"]
        assert found.value == pytest.approx(value, rel=0.02)
        assert found.better == "higher"


@pytest.mark.parametrize("far", [800.0, 1e6, 1e30])
def test_the_inception_score_of_votes_that_are_surer_than_a_number_can_say(far: float) -> None:
    for classes, value in ((4, 4.0), (2, 2.0)):
        sure = far * torch.eye(4)[:classes].repeat(1000 // classes, 1)
        found = scores(Evidence(FeatureSet(1000, "a" * 64, logits=sure), None, "linear", SPEC), "isc")["isc"]
        assert found.value == pytest.approx(value, rel=0.02)
        assert found.std is not None
        assert found.std < 0.1


def test_votes_that_a_number_can_say_are_scored_as_torch_fidelity_does() -> None:
    logits = 30 * torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    found = scores(Evidence(FeatureSet(200, "a" * 64, logits=logits), None, "linear", SPEC), "isc")["isc"]
    torch_fidelity()
    theirs = importlib.import_module("torch_fidelity.metric_isc").isc_features_to_metric(logits, 10, True, 2020)
    assert found.value == pytest.approx(theirs["inception_score_mean"], rel=1e-14)


def test_kid_by_hand() -> None:
    """Two points a side, in one dimension: k(x, y) = (x y + 1)^3, over all pairs."""
    fake, real = (FeatureSet(12, "a" * 64, features=torch.full((12, 1), value)) for value in (1.0, 2.0))
    found = scores(Evidence(fake, real, "linear", SPEC), "kid")["kid"]
    assert found.value == pytest.approx(2**3 + 5**3 - 2 * 3**3)
    assert "subsets of 6 instead of 1,000, because there are only 12 samples" in found.note


def test_few_samples_are_told_or_refused() -> None:
    small, enough = features_of(images(9, 0)), features_of(images(2100, 1))
    assert (
        "biased upwards: 9 samples are fewer than 2,048"
        in scores(Evidence(small, enough, "x", SPEC), "fid")["fid"].note
    )
    assert scores(Evidence(enough, enough, "x", SPEC), "fid")["fid"].note == ""
    with pytest.raises(UsageError, match="KID needs at least 10"):
        scores(Evidence(small, enough, "x", SPEC), "kid")
    with pytest.raises(UsageError, match="at least 10 samples"):
        scores(Evidence(small, enough, "x", SPEC), "isc")
    tiny = features_of(images(3, 0))
    with pytest.raises(UsageError, match="more than 3 samples"):
        scores(Evidence(tiny, enough, "x", SPEC), "prc")
    with pytest.raises(UsageError, match="at least 2 samples"):
        scores(Evidence(features_of(images(1, 0)), enough, "x", SPEC), "fid")


def test_what_is_not_there_is_a_sentence() -> None:
    side = features_of(images(50, 0), Linear(classes=4))
    with pytest.raises(UsageError, match="--against"):
        scores(Evidence(side, None, "x", SPEC), "fid")
    with pytest.raises(UsageError, match="needs images"):
        scores(Evidence(None, None, "x", Spec((2,))), "fid")
    with pytest.raises(UsageError, match="class scores"):
        scores(Evidence(FeatureSet(50, "a"), None, "x", SPEC), "isc")
    other = features_of(images(50, 0), Linear(seed=3))
    for name in ("fid", "kid", "prc"):
        with pytest.raises(UsageError, match="extractor"):
            scores(Evidence(side, other, "x", SPEC), name)
    with pytest.raises(UsageError, match="Did you mean fid"):
        metrics_named(["fdi"])


def test_infinity_stands_beside_the_plain_one() -> None:
    fake, real = features_of(images(500, 0)), features_of(images(2100, 1))
    found = scores(Evidence(fake, real, "inception", SPEC, infinity=True), "fid")
    assert list(found) == ["fid", "fid-infinity"]
    assert found["fid-infinity"].label == "FID-infinity"
    assert abs(found["fid-infinity"].value) < found["fid"].value / 2
    assert "biased" not in found["fid-infinity"].note
    for count, least in ((40, 20), (240, 24)):
        few = scores(Evidence(features_of(images(count, 0)), real, "inception", SPEC, infinity=True), "fid")
        said = few["fid-infinity"].note
        assert f"biased downwards: it begins at {least} samples, no more than the 24 features" in said


def test_needs_say_what_is_kept() -> None:
    assert keep_for(metrics_named(["fid"])) == {"moments"}
    assert keep_for(metrics_named(["fid"]), infinity=True) == {"moments", "features"}
    assert keep_for(metrics_named(["fid", "kid", "isc"])) == ALL
    assert keep_for(metrics_named(["fid", "isc"]), reference=True) == {"moments"}
    assert keep_for(metrics_named(["prc"]), reference=True) == {"features"}
    assert keep_for(metrics_named(["isc"]), reference=True) == set()
    assert [name for name, metric in METRICS.items() if not metric.default] == ["prc"]
