"""The optimisers without torch's wrappers are torch's optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim

from ganzoo.nn import light_optim
from ganzoo.nn.light_optim import torch_class

KINDS: dict[str, dict[str, Any]] = {
    "Adam": {"betas": (0.5, 0.9), "weight_decay": 0.1},
    "AdamW": {"fused": True},
    "RMSprop": {"foreach": True},
    "SGD": {"momentum": 0.9},
}


def trained(kind: Callable[..., optim.Optimizer], options: dict[str, Any]) -> tuple[list[Tensor], optim.Optimizer]:
    """Parameters after three steps, with a look at the state and back in between."""
    rng = torch.Generator().manual_seed(1)
    parameters = [nn.Parameter(torch.randn(5, 3, generator=rng)), nn.Parameter(torch.randn(3, generator=rng))]
    optimizer = kind(parameters, lr=0.01, **options)
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward([(p**4).sum() for p in parameters])
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
    return [p.detach() for p in parameters], optimizer


@pytest.mark.parametrize("name", KINDS)
def test_they_step_as_torch_does_to_the_last_bit(name: str) -> None:
    theirs, ours = getattr(optim, name), getattr(light_optim, name)
    expected, before = trained(theirs, KINDS[name])
    found, after = trained(ours, KINDS[name])
    assert all(map(torch.equal, found, expected))
    torch.testing.assert_close(after.state_dict(), before.state_dict(), rtol=0, atol=0)
    assert isinstance(after, theirs)
    assert torch_class(after) is torch_class(before) is theirs


def test_hooks_and_closures_are_served() -> None:
    seen: list[str] = []
    parameter = nn.Parameter(torch.ones(2))
    optimizer = light_optim.SGD([parameter], lr=0.5)
    optimizer.register_step_post_hook(lambda *_: seen.append("step"))

    def closure() -> float:
        optimizer.zero_grad()
        total = (parameter**2).sum()
        torch.autograd.backward(total)
        return total.item()

    assert optimizer.step(closure) == 2.0
    assert parameter.tolist() == [0.0, 0.0]
    assert seen == ["step"]


def test_an_optimiser_of_another_class_is_no_light_one() -> None:
    class Mine(light_optim.Adam):
        pass

    assert torch_class(Mine([nn.Parameter(torch.ones(1))])) is Mine
