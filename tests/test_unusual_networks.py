"""Networks unlike ganzoo's own are trained, averaged, drawn from, resumed and stored as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed

import ganzoo
from ganzoo.api import MIXES_SAMPLES
from ganzoo.config import Layer, resolve
from ganzoo.errors import UsageError
from ganzoo.nn import Batch
from ganzoo.nn.objectives import learned
from ganzoo.nn.traits import dependence, mixes_samples, observed_traits
from ganzoo.registry import create
from ganzoo.testing import take_steps
from ganzoo.training import checkpoint
from ganzoo.training.run import Run
from ganzoo.training.vitals import Examiner

SMALL: dict[str, Any] = {"data": "ring", "disc": "mlp", "batch_size": 8, "samples": 4, "cond": "off"}


@pytest.fixture(scope="module", autouse=True)
def unusual_parts() -> Iterator[None]:
    with installed("unusual_parts"):
        yield


def train(out: Path, name: str, **settings: Any) -> Run:
    given = SMALL | {key.replace("__", "."): value for key, value in settings.items()}
    return ganzoo.train(resolve([Layer("test", given | {"out": out, "name": name})]))


def model(run: Run) -> dict[str, torch.Tensor]:
    return dict(checkpoint.load(checkpoint.newest_good(run.path)).model)


@pytest.mark.parametrize("gen", ["asking", "orthogonal", "replacing", "counting"])
def test_it_is_trained_resumed_and_loaded(gen: str, tmp_path: Path) -> None:
    whole = train(tmp_path, "whole", gen=gen, steps=4)
    part = train(tmp_path, "part", gen=gen, steps=2)
    rest = ganzoo.train(resume=part.path, steps=4)
    assert all(torch.equal(value, model(rest)[name]) for name, value in model(whole).items())
    loaded = ganzoo.load(whole.path)
    stored = {name.removeprefix("ema."): value for name, value in model(whole).items() if name.startswith("ema.")}
    assert all(torch.equal(value, stored[name]) for name, value in loaded.state_dict().items())
    assert loaded(loaded.latent(3, torch.Generator().manual_seed(0))).shape == (3, 2)


def test_looking_at_samples_changes_no_buffer(tmp_path: Path) -> None:
    often, never = (
        model(train(tmp_path, name, gen="replacing", steps=4, ema_half_life=0, sample_every=every))
        for name, every in (("often", 1), ("never", 0))
    )
    assert all(torch.equal(value, never[name]) for name, value in often.items())


def test_a_critic_that_mixes_by_numbers_alone_is_found_out(tmp_path: Path) -> None:
    spec = ganzoo.Spec((2,))
    x = torch.randn(6, 2)
    assert mixes_samples(create("discriminator", "centred", spec), x, None)
    for sound in ("chancy", "powered"):
        assert not mixes_samples(create("discriminator", sound, spec), x, None), "other numbers are no other samples"
    run = train(tmp_path, "it", gen="mlp", disc="centred", steps=1)
    decisions = json.loads((run.path / "config.json").read_text())["decisions"]
    (said,) = (each for each in decisions if each["name"] == "critic")
    assert "its logits depend on other samples" in said["reason"]
    with pytest.raises(UsageError, match="discriminator centred, which mixes the samples of a batch, cannot have a"):
        train(tmp_path, "no", gen="mlp", disc="centred", loss="wgan-gp", steps=1)


def test_a_batch_norm_that_is_kept_in_evaluation_mixes_nothing(tmp_path: Path) -> None:
    spec = ganzoo.Spec((2,))
    settled = create("discriminator", "settled", spec)
    for mode in (True, False):
        assert not observed_traits(settled.train(mode))
        assert settled.training is mode
        assert not settled.part[1].training
        whole = create("discriminator", "mlp", spec, norm="batch").train(mode)
        assert observed_traits(whole) == {MIXES_SAMPLES}, "one that is looked at in evaluation is not frozen"
        assert {layer.training for layer in whole.modules()} == {mode}
    train(tmp_path, "it", gen="mlp", disc="settled", loss="wgan-gp", steps=1)
    with pytest.raises(UsageError, match="cannot have a gradient penalty"):
        train(tmp_path, "no", gen="mlp", disc="unsettled", loss="wgan-gp", steps=1)


@pytest.mark.parametrize(
    "settings", [{}, {"trainer": "unrolled", "trainer__steps": 2}], ids=["alternating", "unrolled"]
)
def test_what_a_critic_does_not_learn_is_not_clipped(settings: dict[str, Any], tmp_path: Path) -> None:
    given = {"gen": "mlp", "disc": "picking", "loss": "wgan-clip", "log_every": 1, **settings}
    before, after = (model(train(tmp_path, str(steps), steps=steps, **given)) for steps in (0, 3))
    kept = ("disc.order", "disc.backbone.weight", "disc.backbone.bias")
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert after["disc.backbone.weight"].abs().max() > 0.01
    assert all(value.abs().max() <= 0.01 for name, value in after.items() if name.startswith("disc.main"))


def test_the_health_of_a_critic_with_whole_numbers_is_watched(tmp_path: Path) -> None:
    bundle, _ = take_steps(resolve([Layer("test", SMALL | {"gen": "mlp", "disc": "picking", "loss": "wgan-clip"})]), 1)
    for value in learned(bundle.disc).values():
        value.detach().sign_().mul_(0.01)
    real = Batch(torch.randn(64, 2))
    vitals = Examiner(bundle, real, bundle.gen.latent(64, torch.Generator().manual_seed(0)), by_class=False).look()
    assert vitals.at_bound == 1, "of those that are learned"
    assert vitals.disc_size > 0.01
    assert dependence(bundle.disc, torch.randn(4, 2), None) == (False, False)


def test_unrolled_steps_that_are_computed_again_draw_the_same_numbers(tmp_path: Path) -> None:
    kept, again = (
        model(
            train(
                tmp_path,
                str(checkpointing),
                gen="mlp",
                disc="chancy",
                trainer="unrolled",
                trainer__steps=3,
                trainer__checkpointing=checkpointing,
                steps=3,
            )
        )
        for checkpointing in (False, True)
    )
    assert all(torch.equal(value, again[name]) for name, value in kept.items())
