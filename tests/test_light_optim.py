"""The optimisers without torch's wrappers are torch's optimisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ganzoo.nn import light_optim
from ganzoo.nn.light_optim import torch_class

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "Adam": ("Adam", {"betas": (0.5, 0.9), "weight_decay": 0.1}),
    "AdamW": ("AdamW", {"foreach": True}),
    "fused Adam": ("Adam", {"fused": True, "betas": (0.5, 0.9), "weight_decay": 0.1}),
    "fused AdamW": ("AdamW", {"fused": True}),
    "fused Adam with amsgrad": ("Adam", {"fused": True, "amsgrad": True}),
    "fused Adam that maximises": ("Adam", {"fused": True, "maximize": True}),
    "RMSprop": ("RMSprop", {"foreach": True}),
    "SGD": ("SGD", {"momentum": 0.9}),
}


def quietly(_: optim.Optimizer) -> None:
    pass


def looked_at(optimizer: optim.Optimizer) -> None:
    optimizer.load_state_dict(optimizer.state_dict())


def without_one(optimizer: optim.Optimizer) -> None:
    """Leave a parameter out of the next step, so that it has taken one less."""
    optimizer.param_groups[0]["params"][0].grad = None


def with_another(optimizer: optim.Optimizer) -> None:
    if len(optimizer.param_groups) == 1:
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(4))], "lr": 0.02})


def forgotten(optimizer: optim.Optimizer) -> None:
    optimizer.state.clear()


def forgotten_once(optimizer: optim.Optimizer) -> None:
    """Start one parameter anew."""
    optimizer.state[optimizer.param_groups[0]["params"][1]] = {}


def with_other_moments(optimizer: optim.Optimizer) -> None:
    for moments in optimizer.state.values():
        moments.update({name: 2 * value for name, value in moments.items() if isinstance(value, Tensor)})


def in_another_order(optimizer: optim.Optimizer) -> None:
    """As where a parameter got its first gradient after another one."""
    for p, state in reversed([*optimizer.state.items()]):
        del optimizer.state[p]
        optimizer.state[p] = state


def slower(optimizer: optim.Optimizer) -> None:
    optimizer.param_groups[0]["lr"] /= 2


def left_out(optimizer: optim.Optimizer) -> None:
    """As the guard does for numbers that are not finite."""
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]


BETWEEN = (
    quietly,
    looked_at,
    without_one,
    with_another,
    forgotten,
    forgotten_once,
    with_other_moments,
    in_another_order,
    slower,
    left_out,
)


def trained(
    kind: Callable[..., optim.Optimizer],
    options: dict[str, Any],
    between: Callable[[optim.Optimizer], None] = looked_at,
) -> tuple[list[Tensor], optim.Optimizer]:
    """Parameters after six steps; before the fourth, something else happens."""
    rng = torch.Generator().manual_seed(1)
    parameters = [nn.Parameter(torch.randn(5, 3, generator=rng)), nn.Parameter(torch.randn(3, generator=rng))]
    optimizer = kind(parameters, lr=0.01, **options)
    for step in range(6):
        every = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad()
        torch.autograd.backward([(p**4).sum() for p in every])
        if step == 3:
            between(optimizer)
        optimizer.step()
        if hasattr(optimizer, "found_inf"):
            del optimizer.found_inf
    return [p.detach() for group in optimizer.param_groups for p in group["params"]], optimizer


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("name", KINDS)
def test_they_step_as_torch_does_to_the_last_bit(name: str, between: Callable[[optim.Optimizer], None]) -> None:
    kind, options = KINDS[name]
    theirs, ours = getattr(optim, kind), getattr(light_optim, kind)
    expected, before = trained(theirs, options, between)
    found, after = trained(ours, options, between)
    assert all(map(torch.equal, found, expected))
    torch.testing.assert_close(after.state_dict(), before.state_dict(), rtol=0, atol=0)
    assert isinstance(after, theirs)
    assert torch_class(after) is torch_class(before) is theirs


@pytest.mark.parametrize(("kind", "options"), [("SGD", {}), ("Adam", {"fused": True}), ("AdamW", {"fused": True})])
def test_hooks_and_closures_are_served(kind: str, options: dict[str, Any]) -> None:
    seen: list[str] = []
    parameter = nn.Parameter(torch.ones(2))
    optimizer = getattr(light_optim, kind)([parameter], lr=0.5, **options)

    def closure() -> float:
        optimizer.zero_grad()
        total = (parameter**2).sum()
        torch.autograd.backward(total)
        return total.item()

    assert optimizer.step(closure) == 2.0
    optimizer.step()
    optimizer.step()
    before = optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    optimizer.step()
    assert isinstance(optimizer.step(closure), float)
    before.remove()
    of_all = register_optimizer_step_pre_hook(lambda *_: seen.append("any"))
    optimizer.step()
    of_all.remove()
    assert seen == ["before", "after", "before", "after", "any", "after"]


def test_a_parameter_without_a_gradient_stays() -> None:
    """As one that a step does not use: torch leaves it out."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = light_optim.Adam([used, unused], lr=0.5, fused=True)
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward((used**2).sum())
        optimizer.step()
    assert unused.tolist() == [1.0, 1.0]
    assert list(optimizer.state) == [used]
    assert optimizer.state[used]["step"].item() == 3
    assert optimizer._holds()  # so that it is not looked for again at each step


def test_an_optimiser_of_another_class_is_no_light_one() -> None:
    class Mine(light_optim.Adam):
        pass

    assert torch_class(Mine([nn.Parameter(torch.ones(1))])) is Mine
