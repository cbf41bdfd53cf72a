"""Leaving out updates whose loss or gradient is not finite, without the host ever waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

from ganzoo.nn.buffers import KeptBuffers

if TYPE_CHECKING:
    from ganzoo.nn.bundle import Side

_FUSED: Final = (Adam, AdamW)  # torch's fused SGD leaves its momentum unset when its first step is left out
_FUSED_DEVICES: Final = {"cpu", "cuda"}


class Guard:
    """Takes a side's step, or leaves parameters, moments and step counters to the bit as they were.

    Attributes:
        skipped: how many updates were left out, on the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._in_step = torch.zeros((), dtype=torch.bool, device=device)
        self._buffers = KeptBuffers()

    def begin(self, sides: Iterable[Side]) -> None:
        """Remember the buffers (batch-norm statistics), which forward passes change."""
        self._in_step.zero_()
        self._buffers = KeptBuffers(sides)

    def settle(self) -> None:
        """At the end of a step in which an update was left out: put the buffers back."""
        self._buffers.put_back(self._in_step)

    @torch.no_grad()
    def step(self, side: Side, total: Tensor, overflow: Tensor | None = None) -> None:
        """The step of a side's optimiser on the gradients in ``.grad``, unless they or ``total`` are not finite.

        Several processes decide alike, because both are means over all of them. ``overflow``, of float16's scale,
        leaves the step out too, and is not counted: nothing is wrong then.
        """
        gradients = [p.grad for p in side.trainable if p.grad is not None]
        finite = torch.isfinite(total.detach())
        if gradients:
            finite = finite & are_finite(gradients).all()
        bad = ~finite
        self.skipped += bad
        self._in_step |= bad
        step_unless(bad if overflow is None else bad | overflow, side.optimizer)


def are_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all numbers of each tensor are finite: ``[n]`` bool on the device, in a few operations for all.

    The largest tells. On MPS it is the sum: until torch 2.12, what is NaN there is no maximum.
    """
    order = 1.0 if tensors[0].device.type == "mps" else float("inf")
    return torch.isfinite(torch.stack([value.float() for value in torch._foreach_norm(list(tensors), ord=order)]))


def step_unless(bad: Tensor, optimizer: Optimizer) -> None:
    """Step, or leave everything to the bit as it was where ``bad [] bool``; the host does not wait to know which."""
    if not _takes_found_inf(optimizer):
        _step_and_undo(bad, optimizer)
        return
    optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # torch's own protocol
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def _takes_found_inf(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, _FUSED) and all(
        group["fused"] and all(p.device.type in _FUSED_DEVICES for p in group["params"])
        for group in optimizer.param_groups
    )


def _step_and_undo(bad: Tensor, optimizer: Optimizer) -> None:
    """Step, and take it back where ``bad``; moments that the step made become zero, which is how they start."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [(p, p.detach().clone()) for p in parameters]
    moments = {
        (p, key): value.clone()
        for p in parameters
        for key, value in optimizer.state.get(p, {}).items()
        if isinstance(value, Tensor)
    }
    optimizer.step()
    for p in parameters:
        for key, value in optimizer.state.get(p, {}).items():
            # RMSProp counts its steps on the host, and never uses the count.
            if isinstance(value, Tensor) and value.device == bad.device:
                old = moments.get((p, key))
                before.append((value, torch.zeros_like(value) if old is None else old))
    for tensor, old in before:
        tensor.detach().copy_(torch.where(bad, old, tensor))
