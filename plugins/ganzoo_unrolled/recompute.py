"""Values without their graph: what was computed is thrown away, and computed again when its gradient is asked for.

``torch.utils.checkpoint`` does this for functions that only compute. An unrolled step also differentiates, inside, and
draws random numbers from a generator of its own; and it has all that it depends on in its arguments, so little is
needed.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
        rng: what it draws from, beside torch's default generators, Python's and NumPy's.
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


class _Draws(NamedTuple):
    """Where all generators stand that a step may draw from: its own, torch's, Python's and NumPy's."""

    own: Tensor
    host: Tensor
    device: Tensor | None
    python: Any
    numpy: Any


def _draws(rng: torch.Generator) -> _Draws:
    """Where they stand now. On a GPU this is no reason to wait: the host knows."""
    device = None if rng.device.type == "cpu" else torch.get_device_module(rng.device).get_rng_state()
    numpy = sys.modules.get("numpy")  # what is not imported draws nothing
    return _Draws(
        rng.get_state(),
        torch.default_generator.get_state(),
        device,
        random.getstate(),
        None if numpy is None else numpy.random.get_state(),
    )


def _draw_from(rng: torch.Generator, draws: _Draws) -> None:
    """Let all generators stand where they stood."""
    rng.set_state(draws.own)
    torch.default_generator.set_state(draws.host)
    if draws.device is not None:
        torch.get_device_module(rng.device).set_rng_state(draws.device)
    random.setstate(draws.python)
    if draws.numpy is not None:
        sys.modules["numpy"].random.set_state(draws.numpy)
