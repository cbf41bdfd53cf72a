"""The unrolled trainer (arXiv:1611.02163, eqs. 7 to 12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from ganzoo.api import Spec, UsageError
from ganzoo.nn import Batch, Bundle, CriticPass, Regularizer, Stream, Trainer
from ganzoo_unrolled import UnrolledConfig
from ganzoo_unrolled.optim import Moments, differentiable_step
from ganzoo_unrolled.recompute import recomputed


@dataclass
class _Critic:
    """The unrolled critic between two steps.

    Attributes:
        params, buffers: of the critic's whole side, by name.
        moments: of its optimiser, each as one flat vector.
    """

    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    moments: Moments


class UnrolledTrainer(Trainer):
    """One minibatch: K differentiable critic steps, the generator's gradient through them, one ordinary critic step.

    The generator's gradient has both terms of eq. 12: directly through ``G(z)``, and through every unrolled step's
    dependence on ``G(z)``. The unrolled critic lives in other tensors (parameters, cloned buffers, moments), so that
    the real one is untouched; it then takes its ordinary step on the same minibatch from where it was (eq. 11).
    ``G(z)`` is computed once.
    """

    config: UnrolledConfig

    def __init__(self, config: UnrolledConfig, spec: Spec) -> None:
        super().__init__(config, spec)

    def setup(self, bundle: Bundle) -> None:
        """See :meth:`Trainer.setup`.

        Raises:
            UsageError: the critic's optimiser, or a regularizer's constraint, cannot be differentiated.
        """
        super().setup(bundle)
        self._uneven = False
        self._advance = differentiable_step(bundle.disc_side.optimizer)
        for reg in bundle.regularizers:
            kind = type(reg)
            if kind.after_step is not Regularizer.after_step and kind.project is Regularizer.project:
                raise UsageError(
                    f"Regularizer {reg.name!r} cannot be unrolled: it changes the critic after each step without "
                    "saying "
                    "how as a function (project); use --trainer alternating."
                )

    def step(self, stream: Stream) -> dict[str, Tensor]:
        """See :meth:`Trainer.step`."""
        bundle = self.bundle
        for _ in range(bundle.critic_steps(self.config.critic_steps) - 1):
            real = stream.next()
            with torch.no_grad():
                fake = bundle.generate(len(real.x), real.y)
            self._update_critic(bundle.discriminator_terms(bundle.critic_pass(real, fake)))
        real = stream.next()
        fake = bundle.generate(len(real.x), real.y)
        terms = self.generator_terms(real, fake)
        total = torch.stack(list(terms.values())).sum()
        bundle.backward(bundle.gen_side, total)
        critic_pass = bundle.critic_pass(real, Batch(fake.x.detach(), fake.y))
        critic_terms = bundle.discriminator_terms(critic_pass)
        loss_d = self._update_critic(critic_terms)
        bundle.apply_gradients(bundle.gen_side, total)
        # Minus the critic's terms behind K steps are no terms of the loss.
        extra = {name: value.detach() for name, value in terms.items() if name != "loss" and not self._minimises_value}
        extra |= {name: value.detach() for name, value in critic_terms.items() if name != "loss"}
        return {
            "loss_d": loss_d,
            "loss_g": total.detach(),
            "d_real": critic_pass.real_logits.detach().mean(),
            "d_fake": critic_pass.fake_logits.detach().mean(),
            **extra,
        }

    def _update_critic(self, terms: dict[str, Tensor]) -> Tensor:
        loss = self.bundle.update_discriminator(terms)
        self._uneven = self._uneven or any(p.grad is None for p in self.bundle.disc_side.trainable)
        return loss

    def state_dict(self) -> dict[str, Tensor]:
        """Whether some parameters of the critic's side were stepped more often than others."""
        return {"uneven": torch.ones(())} if self._uneven else {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """See :meth:`Trainer.load_state_dict`."""
        self._uneven = "uneven" in state

    def generator_terms(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """The generator's objective behind K unrolled critic steps, in the graph of ``fake`` and of those steps."""
        tensors = self.unroll(real, fake)
        with self.bundle.precision.full():  # what is differentiated twice
            result: dict[str, Tensor] = functional_call(
                self.bundle.disc_side, tensors, (lambda: self._objective(self._critic_pass(real, fake)),)
            )
        return result

    def unroll(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        """The critic side's parameters and buffers after K steps on this minibatch, differentiable in ``fake``."""
        side = self.bundle.disc_side
        critic = _Critic(
            # Clones, as a forward pass may write to parameters.
            {n: p.detach().clone().requires_grad_(p.requires_grad) for n, p in side.named_parameters()},
            {name: value.clone() for name, value in side.named_buffers()},
            self._moments(),
        )
        step = self._recomputed_step if self.config.checkpointing else self._step
        for _ in range(self.config.steps):
            critic = step(critic, real, fake)
        return {**critic.params, **critic.buffers}

    def _moments(self) -> Moments:
        """The live moments of the critic's optimiser, each as one flat vector; zeros where nothing was stepped yet.

        The step counter is one number as long as all parameters are stepped alike: the host must not wait to compare.
        """
        side = self.bundle.disc_side
        learned = [value for value in side.parameters() if value.requires_grad]
        states: list[dict[str, Any]] = [side.optimizer.state.get(parameter, {}) for parameter in learned]
        found = {key: value for state in states for key, value in state.items() if isinstance(value, Tensor)}
        moments = {}
        for key, like in found.items():
            alike = key == "step" and not self._uneven and all(key in state for state in states)
            if alike:
                moments[key] = like.detach().clone()
            elif key == "step":
                counts = [state[key].detach() if key in state else torch.zeros_like(like) for state in states]
                moments[key] = _spread(counts, learned).to(learned[0].device, non_blocking=True)
            else:
                both = zip(states, learned, strict=True)
                moments[key] = _flat(
                    [state[key].detach() if key in state else torch.zeros_like(p) for state, p in both]
                )
        return moments

    def _step(self, critic: _Critic, real: Batch, fake: Batch) -> _Critic:
        """One step of the unrolled critic's optimiser, in the graph; the buffers are changed in place."""
        side = self.bundle.disc_side
        tensors = {**critic.params, **critic.buffers}
        with self.bundle.precision.full():  # what is differentiated twice; once more where it is computed again
            total = functional_call(side, tensors, (lambda: self._critic_total(real, fake),))
        learned = [name for name, value in side.named_parameters() if value.requires_grad]
        before = [critic.params[name] for name in learned]
        found: Sequence[Tensor | None] = torch.autograd.grad(total, before, create_graph=True, allow_unused=True)
        has = [value is not None for value in found]
        gradients = [torch.zeros_like(b) if value is None else value for value, b in zip(found, before, strict=True)]
        told = torch.ones(len(has)) if all(has) else torch.tensor(has, dtype=torch.float32)
        mean = self.bundle.communication.mean(_flat([*gradients, told.to(total.device, total.dtype)]))
        gradient, reached = mean.tensor_split((-len(has),))
        (group,) = side.optimizer.param_groups
        start, moments = _flat(before), critic.moments
        if not all(has):  # what is reached here is reached
            moments = {key: value if value.dim() else value.expand_as(start) for key, value in moments.items()}
        flat, after = self._advance(start, gradient, moments, group)
        if not all(has):
            # Like torch's optimisers, pass over what the objective does not reach, in any process.
            steps = _spread((reached > 0).unbind(), before)
            flat = torch.where(steps, flat, start)
            after = {key: torch.where(steps, value, moments.get(key, 0.0)) for key, value in after.items()}
        parts = torch.split(flat, [value.numel() for value in before])
        params = critic.params | {
            name: part.view_as(value) for name, part, value in zip(learned, parts, before, strict=True)
        }
        return _Critic(params | self._projected(params), critic.buffers, after)

    def _recomputed_step(self, critic: _Critic, real: Batch, fake: Batch) -> _Critic:
        """The same step, whose graph is made again in the backward pass."""
        names, keys = list(critic.params), list(critic.moments)
        after: dict[str, Any] = {}

        def function(tensors: Sequence[Tensor]) -> list[Tensor]:
            x, *values = tensors
            taken = _Critic(
                {n: p if p.requires_grad else p.clone() for n, p in zip(names, values, strict=False)},
                {name: value.clone() for name, value in critic.buffers.items()},
                dict(zip(keys, values[len(names) :], strict=True)),
            )
            made = self._step(taken, real, Batch(x, fake.y))
            after.update(buffers=made.buffers, keys=list(made.moments))
            return [*made.params.values(), *made.moments.values()]

        inputs = [fake.x, *critic.params.values(), *critic.moments.values()]
        found = recomputed(function, inputs, self.bundle.noise.rng)
        params, moments = found[: len(names)], found[len(names) :]
        return _Critic(
            dict(zip(names, params, strict=True)),
            after["buffers"],
            dict(zip(after["keys"], moments, strict=True)),
        )

    def _critic_total(self, real: Batch, fake: Batch) -> Tensor:
        return torch.stack(list(self.bundle.discriminator_terms(self._critic_pass(real, fake)).values())).sum()

    def _critic_pass(self, real: Batch, fake: Batch) -> CriticPass:
        """The unrolled critic looks at the batches.

        It sees fakes of its own, because its parameters depend on those of the steps before: a penalty's gradient at
        the fakes is one at fixed parameters.
        """
        return self.bundle.critic_pass(real, Batch(fake.x.view_as(fake.x), fake.y))

    def _projected(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        prefix = "disc."
        learned = [name for name, value in self.bundle.disc.named_parameters() if value.requires_grad]
        critic = {name: params[prefix + name] for name in learned}
        for reg in self.bundle.regularizers:
            critic |= reg.project(critic) or {}
        return {prefix + name: value for name, value in critic.items()}

    @property
    def _minimises_value(self) -> bool:
        objective = self.config.objective
        return objective == "value" or (objective == "auto" and self.bundle.loss.zero_sum)

    def _objective(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        loss = self.bundle.loss
        if self._minimises_value:
            return {f"minus_{name}": -term for name, term in loss.discriminator_terms(critic_pass).items()}
        return loss.generator_terms(critic_pass)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _spread(values: Sequence[Tensor], over: Sequence[Tensor]) -> Tensor:
    """One number for each of some tensors, as many times as that has numbers, as one flat vector."""
    return torch.cat([value.expand(tensor.numel()) for value, tensor in zip(values, over, strict=True)])
