"""Parts that treat memory and state in unusual ways are trained as they are, and looking at them changes nothing."""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from installing import installed
from torch import Tensor, nn

import ganzoo
from ganzoo.api import Spec
from ganzoo.config import Layer, resolve
from ganzoo.decisions import Arrangement
from ganzoo.nn import EMA
from ganzoo.nn.buffers import KeptState
from ganzoo.nn.traits import dependence
from ganzoo.registry import create
from ganzoo.training import checkpoint, convolving, trial
from ganzoo.training.build import arrange
from ganzoo.training.loop import Session
from ganzoo.training.run import Run

SMALL: dict[str, Any] = {"gen": "mlp", "disc": "mlp", "batch_size": 8, "samples": 4, "cond": "off"}
POINTS, IMAGES = SMALL | {"data": "ring"}, SMALL | {"data": "digits", "data.size": 8}
ODD = "odd_parts/"


@pytest.fixture(scope="module", autouse=True)
def odd_parts() -> Iterator[None]:
    with installed("odd_parts"):
        yield


def train(out: Path, name: str, base: dict[str, Any], **settings: Any) -> Run:
    given = base | {key.replace("__", "."): value for key, value in settings.items()}
    return ganzoo.train(resolve([Layer("test", given | {"out": out, "name": name})]))


def model(run: Run) -> dict[str, Tensor]:
    return dict(checkpoint.load(checkpoint.newest_good(run.path)).model)


def assert_same(one: Run, other: Run) -> None:
    its = model(other)
    assert [name for name, value in model(one).items() if not torch.equal(value, its[name])] == []


def decided(run: Run, what: str) -> dict[str, str]:
    found = json.loads((run.path / "config.json").read_text())["decisions"]
    return next(each for each in found if each["name"] == what)


def session(out: Path, **settings: Any) -> Session:
    config = resolve([Layer("test", IMAGES | settings | {"out": out})])
    return Session(Run.create(config, config.spec(), {}), torch.device("cpu"), say=lambda _: None)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_gradients_that_a_trainer_puts_there_are_read_right(optimiser: str, tmp_path: Path) -> None:
    settings = {"disc": f"{ODD}turned", "disc_optim.name": optimiser, "steps": 3}
    put, plain = (train(tmp_path, name, POINTS | settings, trainer=f"{ODD}{name}") for name in ("putting", "alternate"))
    assert_same(put, plain)


@pytest.mark.parametrize("guarded", [False, True])
def test_expanded_buffers_are_trained_resumed_and_loaded(guarded: bool, tmp_path: Path) -> None:
    settings = {"gen": f"{ODD}ones", "on_nonfinite": "skip" if guarded else "stop"}
    whole = train(tmp_path, "whole", POINTS | settings, steps=4)
    part = train(tmp_path, "part", POINTS | settings, steps=2)
    assert_same(ganzoo.train(resume=part.path, steps=4), whole)
    loaded: Any = ganzoo.load(whole.path)
    assert torch.equal(loaded.saved, torch.linspace(-1, 1, 6).expand(2, 6))


@pytest.mark.parametrize("settings", [{"loss": "wgan-gp"}, {"reg": "r1"}, {"trainer": "unrolled", "trainer.steps": 2}])
def test_attention_is_differentiated_twice(settings: dict[str, Any], tmp_path: Path) -> None:
    train(tmp_path, "it", POINTS | settings, disc=f"{ODD}attentive", steps=2)
    on: Any = torch.backends.cuda
    assert on.flash_sdp_enabled(), "elsewhere it is as quick as ever"


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": f"{ODD}pooled"},
        {"disc": f"{ODD}written"},
        {"disc": f"{ODD}written", "trainer": "unrolled", "trainer.steps": 1},
    ],
)
def test_a_look_changes_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    """One comes at step 50, if something is logged there."""
    looked, not_looked = (
        train(tmp_path, str(every), POINTS | settings, steps=52, log_every=every, batch_size=4) for every in (50, 60)
    )
    assert_same(looked, not_looked)


def test_unrolled_steps_leave_parameters_alone_that_forward_writes_to(tmp_path: Path) -> None:
    settings = POINTS | {"disc": f"{ODD}written", "trainer": "unrolled", "trainer.steps": 2, "steps": 3}
    kept, again = (train(tmp_path, str(twice), settings, trainer__checkpointing=twice) for twice in (False, True))
    assert_same(kept, again)


class Holder(nn.Module):
    """Holds something of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("wide", torch.ones(1).expand(3))
        self.list, self.dict, self.set, self.queue = [1, [2]], {"a": torch.zeros(1)}, {1}, deque([1], maxlen=2)
        self.pair, self.rng = (torch.zeros(2), [3]), torch.Generator().manual_seed(3)


def test_everything_that_a_pass_changes_is_put_back_more_than_once() -> None:
    holder = Holder()
    held = holder.list
    before = copy.deepcopy({name: value for name, value in vars(holder).items() if name != "rng"})
    drawn = torch.rand(2, generator=torch.Generator().manual_seed(3))
    kept = KeptState([holder])
    for _ in range(2):
        holder.weight.data.mul_(2)
        holder.register_buffer("wide", torch.zeros(3))
        holder.late, holder.made = nn.Linear(1, 1), nn.Parameter(torch.ones(1))
        holder.new = [1]  # type: ignore[assignment]
        holder.list[1].append(3)  # type: ignore[attr-defined]
        holder.list.append(4)
        holder.dict["a"].add_(1)
        holder.dict["b"] = torch.ones(1)
        holder.set.add(2)
        holder.queue.extend((2, 3))
        holder.pair[0].add_(1)
        holder.pair[1].append(4)
        holder.pair = (torch.ones(2), [])
        torch.rand(5, generator=holder.rng)
        kept.put_back()
        assert holder.list is held
        assert {str(v) for k, v in vars(holder).items() if k != "rng"} == {str(value) for value in before.values()}
        assert holder.queue.maxlen == 2
        assert torch.equal(torch.rand(2, generator=holder.rng), drawn)


def test_weights_in_one_place_stay_there_whatever_is_measured(tmp_path: Path) -> None:
    one = session(tmp_path, disc=f"{ODD}tied", precision="fp32")
    disc: Any = one.bundle.disc
    for layout in (torch.channels_last, torch.contiguous_format):
        one.bundle.arrange(layout)
        assert disc.back.weight.data_ptr() == disc.wide.weight.data_ptr()
    assert disc.conv.weight.is_contiguous()
    assert convolving.is_tied(one.bundle)
    assert not convolving.is_tied(session(tmp_path, disc=f"{ODD}strided").bundle)


def test_why_weights_in_one_place_keep_their_order_is_said(tmp_path: Path) -> None:
    run = train(tmp_path, "it", IMAGES, gen="dcgan", disc=f"{ODD}tied", precision="fp32", steps=1)
    assert (decided(run, "layout")["value"], decided(run, "layout")["reason"]) == ("contiguous", convolving.TIED)
    assert decided(run, "convolutions")["reason"] == convolving.TIED


@pytest.mark.parametrize(("disc", "wrong"), [("strided", True), ("dropping", False), ("tied", False)])
def test_a_layout_that_computes_other_numbers_is_found_out(disc: str, wrong: bool, tmp_path: Path) -> None:
    one = session(tmp_path, disc=f"{ODD}{disc}", precision="fp32")
    ways = [partial(arrange, one.bundle, Arrangement("fp32", layout)) for layout in ("contiguous", "channels-last")]
    said = trial.misses(one, "fp32", ways)
    assert ("compute other numbers than without" in said) is wrong
    assert all(module.training for module in one.bundle.disc.modules())


@pytest.mark.parametrize("apart", [2e-3, 0.5, float("nan")])
def test_a_relu_that_switches_refuses_no_layout(apart: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where it switches depends on the last bits of a machine's arithmetic, so here it is put by hand."""
    one = session(tmp_path, precision="fp32")
    monkeypatch.setattr(trial, "difference", lambda *_, evaluating, draw: 1e-6 if draw == 2 and evaluating else apart)
    assert not trial.misses(one, "fp32", [])
    monkeypatch.setattr(trial, "difference", lambda *_, **__: apart)
    assert trial.misses(one, "fp32", [])


@pytest.mark.parametrize(
    ("name", "others", "place"),
    [
        ("byclass", True, False),
        ("bysize", False, True),
        ("byplace", False, True),
        ("running", False, True),
        ("hooked", False, False),
        ("turned", False, False),
    ],
)
def test_what_logits_depend_on_is_found_out(name: str, others: bool, place: bool) -> None:
    critic = create("discriminator", f"{ODD}{name}", Spec((2,), 3))
    before = {key: value.clone() for key, value in critic.state_dict().items()}
    found = dependence(critic, torch.randn(4, 2), torch.tensor([0, 0, 1, 1]))
    assert found == (others, place)
    assert all(torch.equal(value, critic.state_dict()[key]) for key, value in before.items())


def test_a_critic_that_depends_on_its_place_looks_at_each_batch_by_itself(tmp_path: Path) -> None:
    run = train(tmp_path, "it", POINTS, disc=f"{ODD}byplace", loss="wgan-gp", steps=1)
    assert "its logits depend on the size of the batch" in decided(run, "critic")["reason"]


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm`")
def test_networks_that_hold_tensors_of_a_graph_are_copied() -> None:
    gen = create("generator", f"{ODD}keeping", Spec((2,)))
    gen(torch.randn(4, 6))
    averaged: Any = EMA(gen, 100).module
    assert averaged.kept["last"][0].grad_fn is None
    critic = create("discriminator", "mlp", Spec((2,)))
    layer = next(module for module in critic.modules() if isinstance(module, nn.Linear))
    nn.utils.weight_norm(layer)
    assert dependence(critic, torch.randn(4, 2), None) == (False, False)


def test_a_constraint_belongs_to_a_step_that_is_taken(tmp_path: Path) -> None:
    settings = POINTS | {"reg": f"{ODD}halving", "on_nonfinite": "skip"}
    before, after = (train(tmp_path, str(steps), settings, steps=steps) for steps in (0, 2))
    its = {name: value for name, value in model(after).items() if name.startswith("disc.")}
    assert all(torch.equal(value, model(before)[name]) for name, value in its.items())


@pytest.mark.filterwarnings("ignore:`torch.jit.*is deprecated")
def test_torchscript_is_trained_and_resumed(tmp_path: Path) -> None:
    settings = IMAGES | {"disc": f"{ODD}scripted", "layout": "channels-last"}
    whole, part = (train(tmp_path, str(steps), settings, steps=steps) for steps in (4, 2))
    assert_same(ganzoo.train(resume=part.path, steps=4), whole)
