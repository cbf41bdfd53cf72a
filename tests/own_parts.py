"""A trainer with a memory of its own that differs from process to process, and a loss that fails in one of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganzoo import processes
from ganzoo.api import Component, MissingError, hookimpl, option
from ganzoo.nn import Batch, Bundle, CriticPass, Loss, Stream, Trainer
from ganzoo_gan import AlternatingConfig


class Remembering(Trainer):
    """One step of each player, whose objectives depend on all real samples that this process has seen, on chance, and
    on a projection that is drawn when it is built.
    """

    config: AlternatingConfig

    def setup(self, bundle: Bundle) -> None:
        super().setup(bundle)
        self.projection = torch.randn(bundle.spec.numel)
        self.seen = torch.zeros(bundle.spec.numel)

    def state_dict(self) -> dict[str, Tensor]:
        return {"projection": self.projection, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.projection, self.seen = state["projection"], state["seen"]

    def step(self, stream: Stream) -> dict[str, Tensor]:
        bundle, real = self.bundle, stream.next()
        self.seen = 0.9 * self.seen + real.x.flatten(1).mean(0)
        weight = 1 + 0.1 * torch.tanh(self.projection @ self.seen) + 0.1 * random.random()
        fake = bundle.generate(len(real.x), real.y)
        critic_pass = bundle.critic_pass(real, Batch(fake.x.detach(), fake.y))
        terms = {name: weight * term for name, term in bundle.discriminator_terms(critic_pass).items()}
        total = bundle.update_discriminator(terms)
        gen_terms = bundle.loss.generator_terms(bundle.generator_pass(fake, None))
        return {"loss_d": total, "loss_g": bundle.update_generator(gen_terms)}


class Partial(Remembering):
    """Keeps something in the first process alone, and zeros of another shape in each."""

    def setup(self, bundle: Bundle) -> None:
        super().setup(bundle)
        rank = processes.place().rank
        self.held = {"zeros": torch.zeros(1 + rank)} | ({} if rank else {"only": torch.ones(1)})

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | self.held

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.held = {name: value for name, value in state.items() if name not in {"projection", "seen"}}


@dataclass(frozen=True)
class FailingConfig:
    """Options of ``failing``."""

    at: int = option(5, help="Step, from 0, at which the last process finds something missing.")


class Failing(Loss):
    """The non-saturating loss, until the last process finds something missing."""

    config: FailingConfig

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        if self.turn == self.config.at and processes.place().rank == processes.place().world - 1 > 0:
            raise MissingError("The moon is missing; look for it.")
        return super().discriminator_terms(critic_pass)

    def critic_steps(self, step: int, asked: int) -> int:
        self.turn = step
        return asked

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """All."""
    for trainer in (Remembering, Partial):
        yield Component(
            "trainer",
            trainer.__name__.lower(),
            target=f"{__name__}:{trainer.__name__}",
            config=AlternatingConfig,
            summary="Remembers what it has seen.",
        )
    yield Component("loss", "failing", target=f"{__name__}:Failing", config=FailingConfig, summary="Fails in one.")
