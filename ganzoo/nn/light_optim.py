"""torch's optimisers, without the wait before their first use, and with a quicker step.

torch wraps the methods of its optimisers to keep them from its compiler. The wrappers import that compiler, with sympy
and ``torch.distributed``, when the first optimiser is made: that takes as long as importing torch did. Here are the
methods without the wrappers. The arithmetic and the state are torch's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, optim
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks


class _Light(optim.Optimizer):
    """Stands before one of torch's optimisers among the bases."""

    add_param_group = inspect.unwrap(optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(optim.Optimizer.load_state_dict)


class _Held(NamedTuple):
    """What a fused step of a group takes.

    Attributes:
        states: of each parameter, as the optimiser has it: its moments, and the steps that it has taken.
        counts: those steps; the tensors in ``steps`` are views of it.
    """

    parameters: list[Tensor]
    states: list[dict[str, Tensor]]
    averages: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]
    counts: Tensor

    def is_of(self, group: dict[str, Any]) -> bool:
        """Whether nobody has put others in their place, and a step would move all."""
        return (
            _is_usual(group)
            and len(group["params"]) == len(self.parameters)
            and all(map(is_, group["params"], self.parameters))
            and all(map(is_, [state["exp_avg"] for state in self.states], self.averages))
            and all(map(is_, [state["exp_avg_sq"] for state in self.states], self.squares))
            and all(map(is_, [state["step"] for state in self.states], self.steps))
        )


def _is_usual(group: dict[str, Any]) -> bool:
    return bool(group["fused"]) and not (group["amsgrad"] or group["capturable"] or group["differentiable"])


class _Fused(_Light):
    """Adam whose fused step looks for its tensors once; torch does so at each step, and counts for each parameter.

    That takes a small network as long as a layer. Where anything is unusual, the step is torch's own.
    """

    _held: tuple[_Held | None, ...] = ()
    _states: tuple[dict[str, Tensor], ...] = ()
    """Of all parameters, when it looked."""
    _step_of_torch: Callable[..., Any]  # with hooks, and a range for torch's profiler

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step, as torch's optimiser takes it."""
        holds = self._holds()
        given = [] if closure is not None or not holds or self._has_hooks() else self._gradients()
        if not given:
            loss = self._step_of_torch(closure)
            if not holds:
                self._held = tuple(map(self._hold, self.param_groups))
                self._states = tuple(self.state.values())
            return loss
        grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        for group, held, gradients in zip(self.param_groups, self._held, given, strict=True):
            assert held is not None
            held.counts.add_(1)
            decoupled = group.get("decoupled_weight_decay", isinstance(self, optim.AdamW))  # torch 2.6 has no such key
            take: Any = torch._fused_adamw_ if decoupled else torch._fused_adam_
            take(
                held.parameters,
                gradients,
                held.averages,
                held.squares,
                [],
                held.steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
                grad_scale=grad_scale,
                found_inf=found_inf,
            )
            if found_inf is not None:
                held.counts.sub_(found_inf)
        return None

    step.hooked = True  # type: ignore[attr-defined]  # torch would wrap it, which takes a tenth of a millisecond

    def _has_hooks(self) -> bool:
        return bool(
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        )

    def _holds(self) -> bool:
        """Whether nothing has changed since it looked."""
        return (
            len(self._held) == len(self.param_groups)
            and len(self._states) == len(self.state)
            and all(map(is_, self._states, self.state.values()))
            and all(
                held is None or held.is_of(group) for held, group in zip(self._held, self.param_groups, strict=True)
            )
        )

    def _gradients(self) -> list[list[Tensor]]:
        """Of each group; none at all if one is missing or sparse, or something else is unusual."""
        found = []
        for held in self._held:
            gradients = [p.grad for p in held.parameters] if held is not None else [None]
            given = [gradient for gradient in gradients if gradient is not None and not gradient.is_sparse]
            if len(given) < len(gradients):
                return []
            found.append(given)
        return found

    def _hold(self, group: dict[str, Any]) -> _Held | None:
        """What a later step of a group takes; its counts of steps become views of one tensor, with the same values."""
        parameters: list[Tensor] = list(group["params"])
        if not _is_usual(group):
            return None
        states: list[dict[str, Tensor]] = [self.state[p] for p in parameters if self.state.get(p)]
        kinds = {(p.device, p.dtype) for p in parameters}
        if not parameters or len(states) < len(parameters) or len(kinds) > 1:
            return None
        counts = torch.stack([state["step"] for state in states])
        steps = list(counts.unbind())
        for state, step in zip(states, steps, strict=True):
            state["step"] = step
        averages, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        return _Held(parameters, states, averages, squares, steps, counts)


class Adam(_Fused, optim.Adam):
    _step_of_torch = optim.Optimizer.profile_hook_step(inspect.unwrap(optim.Adam.step))


class AdamW(_Fused, optim.AdamW):
    _step_of_torch = optim.Optimizer.profile_hook_step(inspect.unwrap(optim.AdamW.step))


class RMSprop(_Light, optim.RMSprop):
    step = torch.no_grad()(inspect.unwrap(optim.RMSprop.step))


class SGD(_Light, optim.SGD):
    step = torch.no_grad()(inspect.unwrap(optim.SGD.step))


def torch_class(optimizer: optim.Optimizer) -> type[optim.Optimizer]:
    """The class of torch whose arithmetic an optimiser has: the one underneath for one from here."""
    bases = type(optimizer).__bases__
    return bases[1] if bases[0] in (_Light, _Fused) else type(optimizer)
