"""Values without their graph: what was computed is thrown away, and computed again when its gradient is asked for.

``torch.utils.checkpoint`` does this for functions that only compute. An unrolled step also differentiates, inside, and
draws random numbers from a generator of its own; and it has all that it depends on in its arguments, so little is
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Function = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def recomputed(function: Function, inputs: Sequence[Tensor], rng: torch.Generator) -> tuple[Tensor, ...]:
    """``function(inputs)``, of which only the inputs are kept for the backward pass.

    There the function is called again, with the same random numbers, and differentiated once. It must depend on
    nothing else that changes, and change nothing.

    Args:
        function: of tensors; it may differentiate inside.
        inputs: those that require a gradient get one.
        rng: what it draws from, beside torch's default generators.
    """
    found: tuple[Tensor, ...] = _Recomputed.apply(function, rng, *inputs)  # type: ignore[no-untyped-call]
    return found


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, rng: torch.Generator, *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.function, ctx.rng = function, rng
        ctx.draws = _draws(rng)
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        with torch.enable_grad():
            found = function(_leaves(inputs))
        outputs = tuple(value.detach() for value in found)
        ctx.mark_non_differentiable(
            *(output for output, value in zip(outputs, found, strict=True) if not value.requires_grad)
        )
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        leaves = _leaves(ctx.saved_tensors)
        now = _draws(ctx.rng)
        _draw_from(ctx.rng, ctx.draws)
        try:
            with torch.enable_grad():
                outputs = ctx.function(leaves)
        finally:
            _draw_from(ctx.rng, now)
        pairs = [
            (output, gradient)
            for output, gradient in zip(outputs, gradients, strict=True)
            if gradient is not None and output.requires_grad
        ]
        into = [leaf for leaf, is_wanted in zip(leaves, wanted, strict=True) if is_wanted]
        found = iter(
            torch.autograd.grad([o for o, _ in pairs], into, [g for _, g in pairs], allow_unused=True)
            if pairs and into
            else [None] * len(into)
        )
        return (None, None, *(next(found) if is_wanted else None for is_wanted in wanted))


def _leaves(values: Sequence[Tensor]) -> list[Tensor]:
    return [value.detach().requires_grad_(value.requires_grad) for value in values]


def _draws(rng: torch.Generator) -> list[Tensor]:
    """Where all generators stand that a step may draw from. On a GPU this is no reason to wait: the host knows."""
    states = [rng.get_state(), torch.default_generator.get_state()]
    if rng.device.type != "cpu":
        states.append(torch.get_device_module(rng.device).get_rng_state())
    return states


def _draw_from(rng: torch.Generator, states: Sequence[Tensor]) -> None:
    """Let all generators stand where they stood."""
    rng.set_state(states[0])
    torch.default_generator.set_state(states[1])
    for state in states[2:]:
        torch.get_device_module(rng.device).set_rng_state(state)
