"""The moving average takes several steps at once where nobody can tell, and the same ones however a run is stopped."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganzoo.nn import EMA


class Net(nn.Module):
    """One weight that goes up by one a step."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def step(self) -> None:
        with torch.no_grad():
            self.w.add_(1)


def averaged(net: Any, **how: Any) -> Any:
    return EMA(net, **how)


@settings(max_examples=60, deadline=None)
@given(
    half_life=st.integers(1, 20_000),
    ramp=st.sampled_from([0.0, 0.05, 0.5]),
    batch=st.integers(1, 512),
    steps=st.integers(1, 600),
)
def test_it_is_nearly_the_average_of_every_step(half_life: int, ramp: float, batch: int, steps: int) -> None:
    net = Net()
    often, seldom = averaged(net, half_life=half_life, ramp=ramp), averaged(net, half_life=half_life, ramp=ramp)
    for step in range(1, steps + 1):
        net.step()
        often.update(net, step * batch, batch)
        seldom.follow(net, step, batch)
    behind = [steps - float(each.module.w.detach()) for each in (often, seldom)]
    # It is a small part older than the other, and as many steps as are taken at once.
    assert abs(behind[0] - behind[1]) <= max(0.5, 0.15 * behind[0]) + 8 * (behind[0] > 20)


@pytest.mark.parametrize("ramp", [0.0, 0.05])
def test_the_first_steps_are_all_taken(ramp: float) -> None:
    net = Net()
    often, seldom = averaged(net, half_life=10_000, ramp=ramp), averaged(net, half_life=10_000, ramp=ramp)
    for step in range(1, 16):
        net.step()
        often.update(net, step * 64, 64)
        seldom.follow(net, step, 64)
        assert torch.equal(often.module.w, seldom.module.w)


@pytest.mark.parametrize("stopped", [1, 99, 700, 1999])
def test_it_does_not_know_where_a_run_was_stopped(stopped: int) -> None:
    net = Net()
    ema = averaged(net, half_life=10_000)
    calls: list[int] = []
    for step in range(1, 2001):
        net.step()
        before = ema.module.w.detach().clone()
        ema.follow(net, step, 64)
        if not torch.equal(before, ema.module.w):
            calls.append(step)
        if step == stopped:
            saved = copy.deepcopy(net.state_dict()), copy.deepcopy(ema.module.state_dict())
    again = Net()
    again.load_state_dict(saved[0])
    resumed = averaged(again, half_life=10_000)
    resumed.module.load_state_dict(saved[1])
    for step in range(stopped + 1, 2001):
        again.step()
        resumed.follow(again, step, 64)
    assert torch.equal(resumed.module.w, ema.module.w)
    assert calls[:300] == [*range(1, 301)]
    assert calls[-3:] == [1984, 1992, 2000]
