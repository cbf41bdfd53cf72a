"""One look of the critic at a batch of reals and a batch of fakes, shared by the loss and all regularizers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ganzoo.nn.precision import PlainAttention

Critic = Callable[[Tensor, Tensor | None], Tensor]


def _alone(value: Tensor) -> Tensor:
    return value


def _noting(critic: Critic, calls: list[bool], x: Tensor, y: Tensor | None) -> Tensor:
    calls.append(True)
    return critic(x, y)


@dataclass
class CriticPass:
    """What a loss and its regularizers see of one critic step.

    Attributes:
        critic: ``(x, y) -> logits [B]``; may be called again, for instance on interpolates.
        real, fake: samples ``[B, *shape]``.
        real_labels, fake_labels: ``[B]`` int64, or None for unlabelled data.
        real_logits, fake_logits: ``[B]`` float32, in the graph of the critic's parameters.
        rng: source of all random numbers of this step.
        full_precision: whether the logits were computed in float32, so that a penalty may share their graph.
        mean: the mean of a tensor over the processes of the run, differentiable. The batch here is this process's part.
            A term that is a mean over samples needs no more; one that uses a statistic of the whole batch takes it
            through this.
        again: grows with each gradient that is taken here and each further call of the critic, for which there is no
            other reason: what follows from this pass may then be differentiated twice.
    """

    critic: Critic
    real: Tensor
    fake: Tensor
    real_labels: Tensor | None
    fake_labels: Tensor | None
    real_logits: Tensor
    fake_logits: Tensor
    rng: torch.Generator | None = None
    full_precision: bool = True
    mean: Callable[[Tensor], Tensor] = _alone
    again: list[bool] = field(default_factory=list, repr=False)
    _gradients: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.critic, partial) and self.critic.func is _noting):  # as in a copy of another pass
            self.critic = partial(_noting, self.critic, self.again)  # which must not hold this pass with its graph

    def real_gradient(self) -> Tensor:
        """d D(x_i) / d x_i at the reals, ``[B, *shape]`` float32, differentiable; computed once a pass."""
        return self._gradient("real", self.real, self.real_logits, self.real_labels)

    def fake_gradient(self) -> Tensor:
        """d D(x_i) / d x_i at the fakes, ``[B, *shape]`` float32, differentiable; computed once a pass."""
        return self._gradient("fake", self.fake, self.fake_logits, self.fake_labels)

    def gradient_at(self, x: Tensor, y: Tensor | None) -> Tensor:
        """d D(x_i) / d x_i at any samples ``[B, *shape]``, at least float32 whatever the precision, differentiable.

        The gradient of the sum of the logits is each sample's own gradient as long as the critic does not mix
        samples (no batch normalisation); see the trait ``mixes-samples``.
        """
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        with torch.autocast(x.device.type, enabled=False), PlainAttention():
            full = x.to(torch.promote_types(x.dtype, torch.float32))
            return _input_gradient(self.critic(full, y), x)

    def _gradient(self, key: str, x: Tensor, logits: Tensor, y: Tensor | None) -> Tensor:
        self.again.append(True)
        if key not in self._gradients:
            shared = self.full_precision and x.requires_grad and logits.requires_grad
            self._gradients[key] = _input_gradient(logits, x) if shared else self.gradient_at(x, y)
        return self._gradients[key]


def _input_gradient(logits: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(logits.sum(), x, create_graph=True)[0]
