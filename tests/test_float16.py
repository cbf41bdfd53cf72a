"""float16: small gradients survive, overflows are left out and are no divergence, and nothing waits for the device."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam

from ganzoo.config import Layer, resolve
from ganzoo.nn import Bundle, Precision, Side
from ganzoo.nn.communication import Solo
from ganzoo.nn.guard import Guard
from ganzoo.nn.precision import Scaler
from ganzoo.testing.training import Session

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "data": "ring",
    "gen": "mlp",
    "disc": "mlp",
    "gen.width": 16,
    "disc.width": 16,
    "run.batch_size": 32,
    "run.precision": "fp16",
}


def session(**more: Any) -> Session:
    return Session(resolve([Layer("test", {**SMALL, **more})]))


def test_the_scale_goes_down_at_an_overflow_and_up_when_there_was_none_for_long() -> None:
    scaler = Scaler(CPU)
    start = float(scaler.scale)
    gradient = torch.tensor([start, float("inf")])
    overflow, hopeless = scaler.unscale([gradient])
    assert bool(overflow)
    assert not bool(hopeless)
    assert float(scaler.scale) == start / 2
    assert gradient.tolist() == [0, 0]
    for _ in range(2000):
        assert float(scaler.scale) == start / 2
        overflow, _ = scaler.unscale([torch.ones(2)])
        assert not bool(overflow)
    assert float(scaler.scale) == start


def test_what_overflows_unscaled_is_no_fault_of_the_scale() -> None:
    scaler = Scaler(CPU)
    scaler.state[0] = 1
    gradient = torch.tensor([1.0, float("nan")])
    _, hopeless = scaler.unscale([gradient])
    assert bool(hopeless)
    assert float(scaler.scale) == 1
    assert gradient.isnan().tolist() == [False, True]  # stays, so that what is said of it is true


def test_a_gradient_too_small_for_float16_arrives() -> None:
    layer = nn.Linear(1, 1, bias=False)
    side = Side({"gen": layer}, lambda p: SGD(p, 1.0))
    found = []
    for scaler in (None, Scaler(CPU)):
        side.scaler = scaler
        with torch.autocast("cpu", torch.float16):
            total = layer(torch.ones(1, 1)).float().sum() * 1e-8
        side.backward(total)
        side.unscale()
        assert layer.weight.grad is not None
        found.append(layer.weight.grad.item())
    assert found[0] == 0
    assert found[1] == pytest.approx(1e-8, rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "wgan-gp"},
        {"reg": ("r1",)},
        {"trainer": "unrolled", "loss": "minimax"},
        {"trainer": "unrolled", "trainer.checkpointing": True, "loss": "minimax", "reg": ("r1",)},
    ],
)
def test_gradients_are_those_of_float32(settings: dict[str, Any]) -> None:
    gradients = []
    for precision in ("fp32", "fp16"):
        one = session(**settings, **{"run.precision": precision})
        one.take(1)
        sides = (one.bundle.gen_side, one.bundle.disc_side)
        gradients.append(torch.cat([p.grad.flatten() for s in sides for p in s.trainable if p.grad is not None]))
    error = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert 0 < error < 0.02


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_an_overflow_leaves_a_step_out_and_is_no_divergence(name: str, *, guarded: bool) -> None:
    one = session(**{"gen_optim.name": name, "disc_optim.name": name})
    bundle = one.bundle
    if guarded:
        bundle.guard = Guard(CPU)
    one.take(1)
    scalers = [side.scaler for side in (bundle.gen_side, bundle.disc_side)]
    for scaler in scalers:
        assert scaler is not None
        scaler.state[0] = 3e38
    before = weights(bundle)
    one.take(1)
    assert all(torch.equal(mine, its) for mine, its in zip(weights(bundle), before, strict=True))
    assert all(scaler is not None and float(scaler.scale) == 2.0**24 for scaler in scalers)  # halved, and bounded
    assert float(bundle.broken) == 0
    assert bundle.guard is None or int(bundle.guard.skipped) == 0
    one.take(12)  # until the scales have come down
    assert not any(torch.equal(mine, its) for mine, its in zip(weights(bundle), before, strict=True))


def test_numbers_that_are_no_fault_of_the_scale_are_still_counted() -> None:
    one = session()
    with torch.no_grad():
        one.bundle.disc_side.trainable[0].fill_(float("nan"))
    one.take(1)
    assert float(one.bundle.broken) > 0


class Other(Solo):
    """Communication with a process whose gradient overflowed."""

    def average_gradients(self, parameters: Any, buffers: Any, total: Tensor) -> Tensor:
        parameters[0].grad[0] = float("inf")
        return total


def test_an_overflow_elsewhere_leaves_the_step_out_here_too() -> None:
    one = session()
    one.take(1)
    before = weights(one.bundle)
    one.bundle.communication = Other()
    one.take(1)
    assert all(torch.equal(mine, its) for mine, its in zip(weights(one.bundle), before, strict=True))


def test_what_is_differentiated_twice_is_float32() -> None:
    precision = Precision("fp16", CPU)
    layer = nn.Linear(2, 2)
    with precision.autocast():
        assert layer(torch.ones(1, 2)).dtype == torch.float16
    with precision.full(), precision.autocast():
        assert precision.is_full
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    assert not precision.is_full


def test_a_side_without_a_scale_steps_as_ever() -> None:
    layer = nn.Linear(2, 1)
    twin = copy.deepcopy(layer)
    side = Side({"gen": layer}, lambda p: Adam(p, 0.1))
    side.backward(layer(torch.ones(3, 2)).mean())
    assert side.unscale() is None
    twin(torch.ones(3, 2)).mean().backward()
    assert torch.equal(layer.weight.grad, twin.weight.grad)  # type: ignore[arg-type]


def weights(bundle: Bundle) -> list[Tensor]:
    return [p.detach().clone() for side in (bundle.gen_side, bundle.disc_side) for p in side.trainable]
