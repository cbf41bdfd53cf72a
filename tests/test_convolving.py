"""Which products are computed by matrices: what may be, what is remembered, and that nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import DIGITS, weights
from torch import nn

import ganzoo
from ganzoo import decisions
from ganzoo.api import Spec
from ganzoo.config import Layer, resolve
from ganzoo.decisions import PLAIN, Arrangement, Machine
from ganzoo.nn import Precision
from ganzoo.nn.convolution import PRODUCTS, ByMatrices, Geometry
from ganzoo.registry import registry
from ganzoo.settings import RunSettings
from ganzoo.testing.training import Session, noise
from ganzoo.training import convolving, fast
from ganzoo.training.run import Run

LAST = Arrangement("fp32", "channels-last")
IMAGES = Spec((1, 16, 16))
GAINED = convolving._gained
TINY = {**DIGITS, "run.steps": 3, "loss": "ns"}


def machine(device: str = "cpu", *, bf16: bool = True) -> Machine:
    return Machine(device, "of the test", "test", 1, bf16)


@pytest.mark.parametrize(
    ("settings", "spec", "where"),
    [
        ({}, Spec((2,)), machine()),
        ({}, IMAGES, machine("cuda:0")),
        ({}, IMAGES, machine("mps")),
        ({"deterministic": True}, IMAGES, machine()),
        ({"layout": "channels-last"}, IMAGES, machine()),
        ({"compile": True}, IMAGES, machine()),
        ({"precision": "fp16"}, IMAGES, machine()),
        ({"precision": "bf16"}, IMAGES, machine(bf16=False)),
    ],
)
def test_where_nothing_is_measured(settings: dict[str, Any], spec: Spec, where: Machine) -> None:
    found = decisions.convolutions(RunSettings(**settings), spec, where, settings.get("precision", "fp32"))
    assert found is not None
    assert found.value == PLAIN
    for precision in ("fp32", "bf16"):
        assert decisions.convolutions(RunSettings(), IMAGES, machine(), precision) is None


def everything(session: Session) -> list[str]:
    """The names of all products of a session's networks."""
    layers = convolving._convolutions(session.bundle.gen, session.bundle.disc)
    return [f"{name}/{product}" for name, _ in layers for product in PRODUCTS]


CASES: dict[str, dict[str, Any]] = {
    "ns": {"loss": "ns"},
    "wgan-gp": {"loss": "wgan-gp"},
    "r1": {"loss": "ns", "reg": ("r1",), "disc.norm": "none"},
    "spectral": {"loss": "hinge", "disc.norm": "spectral"},
    "unrolled": {"loss": "ns", "disc.norm": "none", "trainer": "unrolled", "trainer.steps": 2},
    "recomputed": {"loss": "ns", "trainer": "unrolled", "trainer.steps": 2, "trainer.checkpointing": True},
    "nearest": {"loss": "ns", "gen.upsample": "nearest"},
    "cgan": {"loss": "ns", "gen": "cgan", "disc": "cgan"},
    "torchvision": {"loss": "ns", "disc": "torchvision", "disc.model": "shufflenet_v2_x0_5", "disc.norm": "none"},
}


@pytest.mark.parametrize(("precision", "close"), [("fp32", (1e-3, 1e-5, 0.02)), ("bf16", (0.02, 0.02, 0.15))])
@pytest.mark.parametrize("case", CASES)
def test_training_by_matrices_is_the_same_training(
    case: str, precision: Any, close: tuple[float, float, float]
) -> None:
    small = Layer("small", DIGITS, optional=True)
    config = resolve([small, Layer("test", {"data.size": 16, **CASES[case]})])
    found = []
    for by_matrices in (False, True):
        session = Session(config, noise(config.spec()))
        session.bundle.precision = Precision(precision, session.bundle.precision.device)
        if by_matrices:
            names = everything(session)
            assert names
            convolving.apply(session.bundle.gen, session.bundle.disc, names)
        (metrics,) = session.take(1)
        sides = (session.bundle.gen_side, session.bundle.disc_side)
        found.append((metrics, [p.grad for side in sides for p in side.trainable if p.grad is not None]))
    relative, absolute, of_norm = close
    assert found[0][0] == pytest.approx(found[1][0], rel=relative, abs=absolute)
    # The generator's critic has taken one step, in which gradients next to zero may have changed their sign.
    whole = [torch.cat([gradient.flatten() for gradient in gradients]) for _, gradients in found]
    assert (whole[0] - whole[1]).norm() < of_norm * whole[0].norm()


def test_every_network_of_convolutions_has_layers_that_can() -> None:
    known = {entry.component.name for kind in ("generator", "discriminator") for entry in registry().entries(kind)}
    assert {"dcgan", "cgan", "torchvision"} <= known
    for name in ("dcgan", "cgan"):
        config = resolve([Layer("test", {**DIGITS, "gen": name, "disc": name})])
        assert len(everything(Session(config))) >= 2 * 2 * len(PRODUCTS)


def take_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every product be quicker by matrices, whatever the clock says."""
    for bound in ("GAIN", "WORTH"):
        monkeypatch.setattr(convolving, bound, -1.0)
    monkeypatch.setattr(convolving, "_HOPELESS", float("inf"))
    monkeypatch.setattr(convolving, "_BUDGET", float("inf"))


@pytest.fixture
def last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """Even tiny networks take channels-last, and what is chosen is remembered in a folder of the test."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(convolving, "LEAST", 0)
    monkeypatch.setattr(fast, "_measure", lambda *_: {})
    monkeypatch.setattr(convolving, "_gained", lambda *_: 2.0)
    monkeypatch.setattr(fast, "_verdict", lambda *_: {"chosen": LAST, "reason": "the test wants it"})
    return monkeypatch


def train(out: Path, name: str, **more: Any) -> Run:
    return ganzoo.train({**TINY, "run.out": out, "run.name": name, **more})


def chosen(run: Run) -> str:
    listed = json.loads((run.path / "config.json").read_text(encoding="utf-8"))["decisions"]
    (found,) = (each["value"] for each in listed if each["name"] == "convolutions")
    return str(found)


def test_measuring_leaves_no_trace_in_a_run(last: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measure, seen = GAINED, list[float]()

    def gained(*some: Any) -> float:
        seen.append(measure(*some))
        return 0.0

    last.setattr(convolving, "_gained", gained)
    take_everything(last)
    measured = train(tmp_path, "measured", **{"disc.norm": "spectral"})
    assert chosen(measured) == PLAIN
    assert len(seen) == 1
    assert 0.01 < seen[0] < 100
    asked = train(tmp_path, "asked", **{"disc.norm": "spectral", "run.layout": "channels-last"})
    assert weights(measured, 3) == weights(asked, 3)


def test_what_is_quicker_is_found(last: pytest.MonkeyPatch, tmp_path: Path) -> None:
    take_everything(last)
    names = chosen(train(tmp_path, "all")).split()
    assert len(names) == len(set(names)) >= 12
    assert {name.rpartition("/")[2] for name in names} == set(PRODUCTS)
    last.setattr(convolving, "_BUDGET", -1.0)
    assert chosen(train(tmp_path, "none", loss="hinge")) == PLAIN  # there was no time to look


def test_what_was_chosen_is_remembered_by_the_run_and_by_the_machine(last: pytest.MonkeyPatch, tmp_path: Path) -> None:
    some = ["disc.main.0/weight", "gen.main.0/scatter"]
    last.setattr(convolving, "_quicker", lambda _: some)
    first = train(tmp_path, "first")
    assert chosen(first) == " ".join(some)
    last.setattr(convolving, "_quicker", lambda _: pytest.fail("measured twice"))
    again = train(tmp_path, "again")
    assert weights(first, 3) == weights(again, 3)
    for file in (tmp_path / "cache" / "choices").glob("*.json"):
        if "names" in json.loads(file.read_text(encoding="utf-8")):
            file.write_text(json.dumps({"names": [], "reason": "another wants that"}), encoding="utf-8")
    straight = train(tmp_path, "straight", **{"run.steps": 5})
    assert chosen(straight) == PLAIN
    resumed = ganzoo.train({}, resume=first.path, steps=5)
    assert chosen(resumed) == " ".join(some)


def test_a_choice_for_other_layers_is_made_anew(last: pytest.MonkeyPatch, tmp_path: Path) -> None:
    last.setattr(convolving, "_quicker", lambda _: ["disc.main.0/weight"])
    train(tmp_path, "first")
    (file,) = (
        file
        for file in (tmp_path / "cache" / "choices").glob("*.json")
        if "names" in json.loads(file.read_text(encoding="utf-8"))
    )
    for number, wrong in enumerate(
        ({"names": ["disc.main.77/weight"], "reason": ""}, {"names": 3}, {"names": []}, {"names": [], "reason": 1}, {})
    ):
        file.write_text(json.dumps(wrong), encoding="utf-8")
        assert chosen(train(tmp_path, f"again-{number}")) == "disc.main.0/weight"


def test_a_layer_keeps_its_way_through_the_average_and_the_export(last: pytest.MonkeyPatch, tmp_path: Path) -> None:
    last.setattr(convolving, "_quicker", lambda layers: [f"{each.name}/{name}" for each in layers for name in PRODUCTS])
    run = train(tmp_path, "first")
    gen = ganzoo.load(run.path)
    assert not any(isinstance(module.__dict__.get("forward"), ByMatrices) for module in gen.modules())
    assert torch.isfinite(gen(gen.latent(2, torch.Generator()))).all()


def test_a_run_of_before_goes_on_as_it_began(last: pytest.MonkeyPatch, tmp_path: Path) -> None:
    last.setattr(convolving, "_quicker", lambda _: [])
    run = train(tmp_path, "first")
    file = run.path / "config.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["decisions"] = [each for each in record["decisions"] if each["name"] != "convolutions"]
    file.write_text(json.dumps(record), encoding="utf-8")
    last.setattr(convolving, "_quicker", lambda _: pytest.fail("measured"))
    for kept in (tmp_path / "cache" / "choices").glob("*.json"):
        kept.unlink()
    assert chosen(ganzoo.train({}, resume=run.path, steps=5)) == PLAIN


def test_one_layer_in_both_networks_is_one_and_names_hold_no_blanks() -> None:
    shared = nn.Conv2d(1, 1, 3)
    gen, disc = nn.Sequential(shared), nn.ModuleDict({"a b": nn.Conv2d(1, 1, 3), "c": shared, "d": nn.Conv2d(1, 1, 3)})
    assert [name for name, _ in convolving._convolutions(gen, disc)] == ["gen.0", "disc.d"]


def test_layers_with_many_patches_stay_torchs_without_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolving, "FUNCTIONS", {})
    on = Geometry((512, 512), (4, 4), (1, 1), (0, 0))
    assert not convolving._is_quicker(convolving._Layer("x", (64, 64, 4, 4), on, 64), "gather")
