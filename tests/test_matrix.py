"""Every generator x discriminator x loss x trainer, and every regularizer, on every kind of data.

Driven by the registry: a component is tested by being registered. A cell trains two steps or a rule refuses it.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ganzoo
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.testing import take_steps

KINDS = ("gen", "disc", "loss", "trainer")
CELLS = list(itertools.product(*(ganzoo.list_components(kind) for kind in KINDS)))
DATA = ("labelled-images", "images", "labelled-points", "points")
TINY: dict[str, Any] = {
    "run.batch_size": 4,
    "gen.width": 4,
    "disc.width": 4,
    "disc.model": "shufflenet_v2_x0_5",
    "gen.latent_dim": 6,
    "trainer.steps": 1,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    unlabelled = tmp_path_factory.mktemp("data") / "images.npz"
    rng = np.random.default_rng(0)
    np.savez(unlabelled, images=rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8))
    return {
        "labelled-images": {"data": "digits"},
        "images": {"data": "npz", "data.path": unlabelled},
        "labelled-points": {"data": "ring"},
        "points": {"data": "swissroll"},
    }


def configure(**settings: Any) -> RunConfig:
    return resolve([Layer("tiny", TINY, optional=True), Layer("cell", settings)])


def check(config: RunConfig, broken: list[str]) -> None:
    if broken:
        for sentence in broken:
            assert sentence.endswith("."), sentence
            assert ": " in sentence, sentence
            assert "; " in sentence, sentence
        return
    bundle, metrics = take_steps(config)
    for step in metrics:
        assert {"loss_d", "loss_g", "d_real", "d_fake"} <= step.keys()
        assert all(math.isfinite(value) for value in step.values()), step
    assert all(torch.isfinite(p).all() for side in (bundle.gen_side, bundle.disc_side) for p in side.parameters())


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("gen", ganzoo.list_components("generator"))
@pytest.mark.parametrize("disc", ganzoo.list_components("discriminator"))
def test_every_cell_trains_or_is_refused(data: dict[str, dict[str, Any]], kind: str, gen: str, disc: str) -> None:
    for loss, trainer in itertools.product(ganzoo.list_components("loss"), ganzoo.list_components("trainer")):
        config = configure(gen=gen, disc=disc, loss=loss, trainer=trainer, **data[kind])
        check(config, config.plan().broken_rules())


@pytest.mark.parametrize("kind", ["labelled-images", "points"])
@pytest.mark.parametrize("reg", ganzoo.list_components("regularizer"))
@pytest.mark.parametrize("trainer", ganzoo.list_components("trainer"))
def test_every_regularizer_goes_with_every_loss(
    data: dict[str, dict[str, Any]], kind: str, reg: str, trainer: str
) -> None:
    for loss in ganzoo.list_components("loss"):
        config = configure(loss=loss, trainer=trainer, reg=(reg,), **data[kind])
        broken = config.plan().broken_rules()
        assert not broken, broken
        check(config, broken)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"data": "digits"}, False),
        ({"data": "digits", "gen": "cgan"}, False),
        ({"data": "ring"}, False),
        ({"data": "ring", "gen": "dcgan"}, True),
        ({"data": "swissroll", "gen": "cgan"}, True),
        ({"data": "digits", "gen": "cgan", "disc": "dcgan"}, True),
        ({"data": "digits", "gen": "dcgan", "disc": "cgan"}, True),
        ({"data": "ring", "disc": "torchvision"}, True),
        ({"data": "digits", "loss": "wgan-gp", "disc.norm": "batch", "data.size": 32}, True),
        ({"data": "digits", "loss": "wgan-gp", "data.size": 32}, False),
        ({"data": "digits", "reg": ("r1",), "disc.norm": "batch", "data.size": 32}, True),
        ({"data": "digits", "disc": "torchvision", "disc.norm": "batch", "loss": "wgan-gp"}, True),
    ],
)
def test_what_is_refused_and_what_is_not(settings: dict[str, Any], refused: bool) -> None:
    assert bool(resolve([Layer("test", settings)]).plan().broken_rules()) is refused


def test_the_matrix_has_every_component() -> None:
    assert len(CELLS) == math.prod(len(ganzoo.list_components(kind)) for kind in KINDS)
    assert len(CELLS) >= 100


def test_unlabelled_images_are_read(data: dict[str, dict[str, Any]]) -> None:
    assert isinstance(data["images"]["data.path"], Path)
    assert resolve([Layer("test", data["images"])]).spec().num_classes is None
