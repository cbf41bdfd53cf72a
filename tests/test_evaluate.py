"""Scores of runs, exports and images: from a path to a result, and back into the run and its card."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ganzoo
from ganzoo.cli import main
from ganzoo.data import ArrayDataset
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.evaluation.result import differences, read_results
from ganzoo.outputs.export import export_run
from ganzoo.outputs.sampling import sample_to
from ganzoo.registry import create

TINY: dict[str, Any] = {"gen.width": 8, "disc.width": 8, "run.batch_size": 8, "run.steps": 2, "run.samples": 4}
COUNT = 120


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(autouse=True)
def cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(home / "cache"))


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    """A conditional run on digits, hardly trained."""
    settings = {"gen": "cgan", "data.size": 8, "disc.norm": "none", "run.out": str(home), "run.name": "cond"}
    return ganzoo.train({**TINY, **settings}).path


PLAIN: dict[str, Any] = {**TINY, "gen": "dcgan", "data.size": 8, "disc.norm": "none"}


@pytest.fixture(scope="module")
def plain(home: Path) -> Path:
    """An unconditional one."""
    return ganzoo.train({**PLAIN, "run.out": str(home), "run.name": "plain"}).path


@pytest.fixture(scope="module")
def ring(home: Path) -> Path:
    return ganzoo.train({**TINY, "data": "ring", "run.out": str(home), "run.name": "ring"}).path


@pytest.fixture(scope="module")
def images(home: Path, run: Path) -> Path:
    """The run's samples as files."""
    sample_to(run, home / "images", n=COUNT, device="cpu")
    return home / "images"


def digits() -> ArrayDataset:
    found = create("dataset", "digits", ganzoo.Spec((1, 8, 8), 10))
    assert isinstance(found, ArrayDataset)
    return found


def evaluate(path: Path, **asked: Any) -> ganzoo.Result:
    return ganzoo.evaluate(path, **{"device": "cpu", **asked})


def test_a_run_has_the_scores_that_suit_it(run: Path) -> None:
    result = evaluate(run, samples=COUNT)
    names = [score.name for score in result.scores]
    assert names == ["fid", "kid", "isc", "classes", "class_entropy", "class_kl", "accuracy"]
    assert all(score.label.endswith("[digit-cnn]") for score in result.scores)
    assert result.protocol["samples"] == COUNT
    assert result.protocol["reference"] == "digits"
    assert result.protocol["real_samples"] == 1797
    assert "biased upwards" in result.scores[0].note
    assert sum(result.details["class_histogram"]) == COUNT
    assert len(result.details["accuracy_per_class"]) == 10
    assert result.subject["step"] == 2


def test_two_evaluations_are_equal_to_the_bit(run: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate(run, samples=COUNT, metrics=["fid", "kid", "prc"])
    monkeypatch.setenv("GANZOO_CACHE", str(home / "other"))
    second = evaluate(run, samples=COUNT, metrics=["fid", "kid", "prc"])
    assert first.scores == second.scores
    assert differences(first, second) == []
    assert differences(first, evaluate(run, samples=COUNT - 1, metrics=["fid"])) == ["samples"]


def test_saved_images_score_like_the_generator(run: Path, images: Path) -> None:
    asked = ["fid", "kid", "isc", "prc"]
    drawn = evaluate(run, samples=COUNT, metrics=asked)
    saved = evaluate(images, against="digits", metrics=asked)
    assert saved.scores == drawn.scores
    assert saved.subject["kind"] == "images"


def test_an_export_scores_like_its_run_and_its_card_tells(run: Path, home: Path) -> None:
    result = evaluate(run, samples=COUNT, metrics=["fid"], update=True)
    assert read_results(run) == [result]
    out = export_run(run, home / "export")
    assert read_results(out) == [result]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert f"| `FID[digit-cnn]` | {result['fid']:.5g} |" in card
    assert "samples 120" in card
    again = evaluate(out, samples=COUNT, metrics=["kid"], update=True)
    assert [score.name for score in again.scores] == ["kid"]
    assert "KID[digit-cnn]" in (out / "README.md").read_text(encoding="utf-8")
    assert evaluate(out, samples=COUNT, metrics=["fid"]).scores == result.scores


def test_real_data_are_at_no_distance_from_themselves(home: Path) -> None:
    file = home / "digits.npz"
    np.savez(file, images=digits().samples.numpy())
    result = evaluate(file, against="digits", metrics=["fid", "kid", "prc"])
    assert abs(result["fid"]) < 1e-6
    assert abs(result["kid"]) < 1e-3
    assert result["precision"] == result["recall"] == 1


def test_order_changes_nothing(home: Path) -> None:
    samples = digits().samples[:300]
    np.savez(home / "a.npz", images=samples.numpy())
    np.savez(home / "b.npz", images=samples[torch.randperm(300, generator=torch.Generator().manual_seed(1))].numpy())
    a, b = (evaluate(home / name, against="digits", metrics=["fid"])["fid"] for name in ("a.npz", "b.npz"))
    assert a == pytest.approx(b, rel=1e-5)


def test_the_size_of_batches_changes_next_to_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(home / "c.npz", images=digits().samples[:300].numpy())
    asked: dict[str, Any] = {"against": "digits", "metrics": ["fid", "kid", "prc"], "real_samples": 500}
    whole = evaluate(home / "c.npz", **asked)
    monkeypatch.setattr("ganzoo.evaluation.features.BATCH", 7)
    monkeypatch.setenv("GANZOO_CACHE", str(home / "by seven"))
    for one, other in zip(evaluate(home / "c.npz", **asked).scores, whole.scores, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-5, abs=1e-7)


def test_what_changed_is_never_served_from_the_cache(
    run: Path, plain: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name and path, and behind it other pixels or weights; or another number of them."""
    real, eyes = home / "real.npz", home / "eyes"
    pixels = digits().samples[:200].numpy().copy()
    other = ganzoo.train({**PLAIN, "run.out": str(home), "run.name": "seed 5", "run.seed": 5}).path
    asked: dict[str, Any] = {"against": str(real), "metrics": ["fid"], "samples": 60, "real_samples": 150}
    asked |= {"features": "discriminator", "feature_options": {"run": str(eyes)}}

    def put(source: Path) -> None:
        shutil.rmtree(eyes, ignore_errors=True)
        shutil.copytree(source, eyes)

    def score(place: str) -> float:
        monkeypatch.setenv("GANZOO_CACHE", str(home / place))
        return float(evaluate(run, **asked)["fid"])

    put(plain)
    np.savez(real, images=pixels)
    seen = [score("warm")]
    assert score("warm") == seen[0]
    for number, change in enumerate(("data", "count", "weights")):
        if change == "data":
            np.savez(real, images=255 - pixels)
        elif change == "count":
            asked["real_samples"] = 149
        else:
            put(other)
        cold = score(f"cold {number}")
        assert score("warm") == cold
        assert cold not in seen
        seen.append(cold)


def test_saved_statistics_stand_for_the_data(run: Path, home: Path) -> None:
    file = home / "stats.npz"
    whole = evaluate(run, samples=COUNT, metrics=["fid"], save_stats=file)
    from_file = evaluate(run, samples=COUNT, ref_stats=file)
    assert from_file["fid"] == pytest.approx(whole["fid"], rel=1e-9)
    assert "kid" not in {score.name for score in from_file.scores}
    with np.load(file) as arrays:
        assert arrays["mu"].shape == (96,)
        assert arrays["sigma"].shape == (96, 96)


def test_points_are_judged_by_their_modes(ring: Path, home: Path) -> None:
    result = evaluate(ring, picture=home / "field.png")
    assert [score.name for score in result.scores] == ["modes", "high_quality", "least_mode", "reverse_kl"]
    assert result.protocol["samples"] == 2500
    assert "extractor" in result.protocol
    with Image.open(home / "field.png") as picture:
        assert picture.size[0] > 100
    evaluate(ring, update=True)
    assert (ring / "evaluation.png").is_file()


def test_the_command_prints_plain_json(ring: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(ring), "--json", "--device", "cpu"]) == 0
    told = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert told["format"] == "ganzoo-eval/1"
    assert {score["name"] for score in told["scores"]} >= {"modes", "high_quality"}


def test_stacked_digits_are_looked_at_channel_by_channel(home: Path) -> None:
    root = home / "stacked" / "MNIST" / "raw"
    root.mkdir(parents=True)
    pixels = torch.nn.functional.interpolate(digits().samples[:200].float(), 28).byte().numpy()
    for name, array, magic in (
        ("train-images-idx3-ubyte", pixels[:, 0], (2051, 200, 28, 28)),
        ("train-labels-idx1-ubyte", (np.arange(200) % 10).astype(np.uint8), (2049, 200)),
    ):
        header = b"".join(number.to_bytes(4, "big") for number in magic)
        (root / name).write_bytes(header + array.tobytes())
    settings = {"data": "stacked-mnist", "data.root": str(home / "stacked"), "run.out": str(home), "run.name": "stack"}
    path = ganzoo.train({**TINY, **settings}).path
    result = evaluate(path, samples=60, real_samples=100)
    assert {"fid", "modes", "mode_kl"} <= {score.name for score in result.scores}
    assert result["modes"] >= 1
    assert len(result.details["mode_counts"]) == 1000


def write_images(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        Image.new("L", size, number).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ({"metrics": ["fdi"]}, UsageError, "There is no metric 'fdi'. Did you mean"),
        ({"features": "inceptoin"}, UsageError, "Did you mean inception"),
        ({"against": "nosuch"}, UsageError, "There is no dataset 'nosuch'"),
        ({"against": "digits:test"}, UsageError, "has no splits"),
        ({"against": "ring"}, UsageError, "their own size"),
        ({"samples": 1, "metrics": ["fid"]}, UsageError, ">= 2, not 1"),
        ({"samples": 5, "metrics": ["kid"]}, UsageError, "KID needs at least"),
        ({"real_samples": 5000}, UsageError, "digits has 1,797 samples"),
        ({"metrics": ["modes"]}, UsageError, "The metric modes is not for images"),
        ({"picture": "x.png", "samples": 20}, UsageError, "points in the plane"),
        ({"ref_stats": "none.npz"}, MissingError, "none.npz"),
        ({"device": "quantum"}, UsageError, "There is no device"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    run: Path, asked: dict[str, Any], error: type[GanzooError], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        evaluate(run, **asked)
    assert sentence in str(caught.value)


def test_images_that_cannot_be_scored_are_a_sentence(home: Path, images: Path, ring: Path) -> None:
    def refused(path: Path, sentence: str, **asked: Any) -> None:
        with pytest.raises(GanzooError) as caught:
            evaluate(path, **asked)
        assert sentence in str(caught.value)
        assert str(caught.value).endswith(".")

    refused(images, "say so with --against DATASET", metrics=["fid"], features="digit-cnn")
    refused(images, "has 120 samples, fewer than the 500 asked for", against="digits", samples=500)
    refused(images, "nobody asked for classes here", against="digits", metrics=["accuracy"])
    refused(images, "nowhere to keep the result", against="digits", update=True)
    refused(write_images(home / "mixed", (8, 8), (9, 8)), "different sizes (8x8 in 0.png, 9x8 in 1.png)")
    refused(write_images(home / "empty"), "holds no images")
    refused(images, "empty holds no images", against=str(home / "empty"))
    alone = write_images(home / "alone", (8, 8))
    refused(alone, "FID needs at least 2 samples to score, and there is 1: take more", against="digits")
    refused(images, "FID needs at least 2 real samples", against=str(alone), features="digit-cnn")
    refused(write_images(home / "large", (16, 8), (16, 8)), "their own size", against="digits")
    refused(images, "samples are images of 1x8x8 and those of ring are points in 2 dimensions", against="ring")
    refused(ring, "a feature network and --ref-stats are for images", features="digit-cnn")
    broken = write_images(home / "broken", (8, 8), (8, 8), (8, 8))
    data = (broken / "1.png").read_bytes()
    (broken / "1.png").write_bytes(data[: len(data) // 2])
    for path, asked in ((broken, "digits"), (images, str(broken))):  # nothing is skipped where scores are compared
        for words in (f"The image 1.png in {broken} cannot be read", "): mend or remove it."):
            refused(path, words, against=asked, metrics=["fid"], features="digit-cnn")
    with pytest.raises(MissingError, match="no run, export, folder or file of images"):
        evaluate(home / "nosuch")


def test_what_cannot_be_is_refused_before_the_work(
    run: Path, plain: Path, images: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def stage(title: str, total: int) -> Any:
        begun.append(title)
        return begun.append

    monkeypatch.setenv("GANZOO_CACHE", str(home / "none yet"))
    np.savez(home / "seven.npz", mu=np.zeros(7), sigma=np.eye(7))
    seven = home / "seven.npz"
    for path, asked, sentence in (
        (run, {"ref_stats": seven}, "have 7 features and the extractor digit-cnn has 96"),
        (run, {"ref_stats": seven, "metrics": ["kid"]}, "--ref-stats is for fid"),
        (images, {"metrics": ["kid"], "features": "inception"}, "say so with --against DATASET"),
        (images, {"against": "digits", "samples": 500}, "fewer than the 500 asked for"),
        (run, {"weights": seven}, "The extractor digit-cnn takes no weights; leave --weights out."),
    ):
        with pytest.raises(UsageError) as caught:
            evaluate(path, progress=stage, **asked)
        assert sentence in str(caught.value)
    assert begun == []
    with pytest.raises(UsageError, match="This extractor has no classes"):
        evaluate(run, features="discriminator", feature_options={"run": str(plain)}, metrics=["classes"], samples=20)


def test_inception_without_weights_says_where_they_go(run: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(MissingError) as caught:
        evaluate(run, features="inception", samples=10)
    for part in ("weights-inception-2015-12-05-6726825d.pth", "--weights", "--features digit-cnn"):
        assert part in str(caught.value)
    (home / "wrong.pth").write_bytes(b"no weights")
    with pytest.raises(GanzooError, match=r"wrong\.pth"):
        evaluate(run, features="inception", weights=home / "wrong.pth", samples=10)


def test_the_best_checkpoint_is_kept_and_patience_ends_a_run(home: Path) -> None:
    settings = {"data": "ring", "run.out": str(home), "run.name": "scored", "run.steps": 40, "run.keep_last": 1}
    every = {"run.eval_every": 4, "run.eval_patience": 3, "run.eval_samples": 100, "run.checkpoint_every": 4}
    done = ganzoo.train({**TINY, **settings, **every})
    scores = done.scores()
    best = json.loads((done.checkpoints / "best.json").read_text(encoding="utf-8"))
    tops = [(line["scores"]["modes"], line["scores"]["high_quality"]) for line in scores]
    first = max(range(len(tops)), key=lambda i: (tops[i], -i))
    assert best["step"] == scores[first]["step"]
    assert (done.checkpoints / f"step-{best['step']:08d}").is_dir()
    last = scores[-1]["step"]
    assert last == min(40, best["step"] + 12)
    assert evaluate(done.path, best=True, samples=20).subject["step"] == best["step"]
    assert evaluate(done.path, samples=20).subject["step"] == last
    out = export_run(done.path, home / "the best", best=True)
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["steps"] == best["step"]
    with pytest.raises(UsageError, match="leave --best out"):
        evaluate(out, best=True)
    assert done.metrics()[-1]["step"] == last
    assert "scores" not in done.metrics()[-1]


def test_scores_go_on_where_they_were(home: Path) -> None:
    settings = {**TINY, "data": "ring", "run.out": str(home), "run.eval_every": 3, "run.eval_samples": 50}
    straight = ganzoo.train({**settings, "run.steps": 12, "run.name": "straight"})
    parts = ganzoo.train({**settings, "run.steps": 6, "run.name": "parts"})
    ganzoo.train({"run.steps": 12}, resume=parts.path)
    assert parts.scores() == straight.scores()
    first, second = ((each.checkpoints / "best.json").read_text(encoding="utf-8") for each in (straight, parts))
    assert first == second


def test_a_run_without_scores_has_no_best_checkpoint(run: Path) -> None:
    with pytest.raises(MissingError, match="has no best checkpoint"):
        ganzoo.load(run, best=True)


def test_a_score_that_is_not_computed_cannot_tell_the_best(home: Path) -> None:
    with pytest.raises(UsageError, match="cannot be told by 'fid'"):
        ganzoo.train({**TINY, "data": "ring", "run.out": str(home), "run.eval_every": 1, "run.eval_metric": "fid"})


def test_a_generator_of_no_numbers_has_no_score(run: Path, home: Path) -> None:
    from ganzoo.nn.weights import load_tensors, save_tensors

    out = export_run(run, home / "nan")
    tensors = load_tensors(out / "model.safetensors")
    metadata = {"format": "pt"}
    with torch.no_grad():
        for value in tensors.values():
            if value.is_floating_point():
                value.fill_(math.nan)
    save_tensors(out / "model.safetensors", tensors, metadata)
    with pytest.raises(GanzooError, match=r"finite|altered|checksum"):
        evaluate(out, samples=20, metrics=["fid"])
    shutil.rmtree(out)
