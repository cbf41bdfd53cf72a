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
    from ganzoo.nn.trainer import Trainer

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
        self._trainer: Trainer | None = None
        self._state: dict[str, Tensor] = {}

    def watch(self, trainer: Trainer) -> None:
        """From now on, what a trainer saves is remembered and put back, too."""
        self._trainer = trainer

    def begin(self, sides: Iterable[Side]) -> None:
        """Remember the buffers (batch-norm statistics), which forward passes change."""
        self._in_step.zero_()
        self._buffers = KeptBuffers(sides)
        if self._trainer is not None:
            self._state = {name: value.detach().clone() for name, value in self._trainer.state_dict().items()}

    def settle(self) -> None:
        """At the end of a step in which an update was left out: put the buffers back."""
        self._buffers.put_back(self._in_step)
        if self._trainer is not None and self._state:
            self._put_back(self._trainer)

    @torch.no_grad()
    def _put_back(self, trainer: Trainer) -> None:
        """Put a trainer's tensors back, in place; one that makes them anew when it is asked is handed them."""
        before, now, again, bad = self._state, trainer.state_dict(), trainer.state_dict(), self._in_step
        # What another device holds, it could not have without waiting for the one that knows of bad numbers.
        same = [
            name
            for name, value in now.items()
            if name in before and value.shape == before[name].shape and value.device == bad.device
        ]
        wanted = now | {name: torch.where(bad, before[name].to(now[name]), now[name]) for name in same}
        if all(now[name].data_ptr() == again[name].data_ptr() for name in same):
            for name in same:
                now[name].detach().copy_(wanted[name])
        else:
            trainer.load_state_dict(wanted)

    @torch.no_grad()
    def step(self, side: Side, total: Tensor, overflow: Tensor | None = None) -> Tensor:
        """The step of a side's optimiser on the gradients in ``.grad``, unless they or ``total`` are not finite.

        Several processes decide alike, because both are means over all of them. ``overflow``, of float16's scale,
        leaves the step out too, and is not counted: nothing is wrong then.

        Returns:
            whether it was left out, on the device.
        """
        gradients = [p.grad for p in side.trainable if p.grad is not None]
        finite = torch.isfinite(total.detach())
        if gradients:
            finite = finite & are_finite(gradients).all()
        bad = ~finite
        self.skipped += bad
        self._in_step |= bad
        if overflow is not None:
            bad = bad | overflow
        step_unless(bad, side.optimizer)
        return bad


def are_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all numbers of each tensor are finite: ``[n]`` bool on the device, in a few operations for all.

    The largest tells, and on CPUs the least and the largest, which are found ten times as fast. On MPS it is the sum:
    until torch 2.12, what is NaN there is no maximum. Tensors without numbers, which have no largest one, are left out;
    if none is left, it is ``[1]`` and true.
    """
    device, held = tensors[0].device, [_numbers(tensor) for tensor in tensors if tensor.numel()]
    held = [numbers for numbers in held if numbers.numel()]
    if not held:
        return torch.ones(1, dtype=torch.bool, device=device)
    if device.type == "cpu":
        ends = torch.stack([end.double() for numbers in held for end in torch.aminmax(numbers)])
        return torch.isfinite(ends).view(-1, 2).all(1)
    order = 1.0 if device.type == "mps" else float("inf")
    return torch.isfinite(torch.stack([value.float() for value in torch._foreach_norm(held, ord=order)]))


def _numbers(tensor: Tensor) -> Tensor:
    """All numbers of a tensor as real ones: of a sparse one, those that it holds."""
    held = tensor._values() if tensor.is_sparse else tensor
    return torch.view_as_real(held.resolve_conj()) if held.is_complex() else held


def finite_mean(values: Tensor) -> Tensor:
    """The mean of those numbers that are finite; zero if none is."""
    finite = torch.isfinite(values)
    return torch.where(finite, values, 0).sum() / finite.sum().clamp(min=1)


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
