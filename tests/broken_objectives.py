"""More faults for the kit, of what is trained: each component breaks the one promise it is named after, or none."""

# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from broken_parts import Once, Stepper
from sound_parts import Critic, Drawn, Net, Sound, images
from torch import Tensor

from ganzoo.api import NEEDS_SAMPLE_GRADIENTS, SAMPLE_GRADIENT_RULES, Component, Spec, hookimpl
from ganzoo.data import Batch
from ganzoo.nn import CriticPass, Regularizer, Stream, sample_norms


class Bright(Net):
    """Gives images in [0, 1]."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(super().forward(z))


class Sure(Critic):
    """Gives probabilities."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.sigmoid(super().forward(x))


class LastOnce(Critic):
    """Has a last layer that can be differentiated once."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return Once.apply(super().forward(x))


class Steepness(Sound):
    """Looks at gradients and does not say so."""

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        return super().discriminator_terms(critic_pass) | {"steep": critic_pass.fake_gradient().square().mean()}


class Rising(Sound):
    """Counts steps and forgets them."""

    calls = 0

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        self.calls += 1
        return self.calls * super().discriminator(real, fake)


class Undeclared(Regularizer):
    """Looks at gradients and does not say so."""

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return critic_pass.gradient_at(critic_pass.real, critic_pass.real_labels).square().mean()


class Shared(Regularizer):
    """Has the gradient at the reals shared, and does not say that it needs it."""

    differentiates = frozenset({"real"})

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return critic_pass.real_logits.square().mean()


class Unreturned(Regularizer):
    """Forgets to return its penalty."""

    def penalty(self, critic_pass: CriticPass) -> None:
        critic_pass.real_logits.square().mean()


class Lazy(Regularizer):
    """Has a penalty in every sixteenth step, and counts in a buffer."""

    calls: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def penalty(self, critic_pass: CriticPass) -> Tensor | None:
        self.calls += 1
        return None if self.calls % 16 else critic_pass.real_logits.square().mean()


class Amnesic(Regularizer):
    """Is as lazy, and counts in an attribute."""

    calls = 0

    def penalty(self, critic_pass: CriticPass) -> Tensor | None:
        self.calls += 1
        return None if self.calls % 16 else critic_pass.real_logits.square().mean()


class Limited(Regularizer):
    """Has the penalty 0 until the critic is steep, and None until its logits are large."""

    differentiates = frozenset({"real"})

    def penalty(self, critic_pass: CriticPass) -> Tensor | None:
        norms = sample_norms(critic_pass.real_gradient())
        return (norms - 3).relu().square().mean() if norms.max() > 1 else None


class Null(Regularizer):
    """Has the penalty 0, however large the critic."""

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return 0 * critic_pass.real_logits.mean()


class Clip(Regularizer):
    """Constrains the weights, and has no penalty though it looks."""

    def penalty(self, critic_pass: CriticPass) -> None:
        assert len(critic_pass.real_logits)

    def project(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.clamp(-1, 1) for name, value in parameters.items()}


class Counted(Drawn):
    """Draws by how often it was asked."""

    draws = 0

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        self.draws += 1
        x, y = super().draw(n, rng)
        return Batch(x / self.draws, y)


class Raising(Stepper):
    """Fails beside a loss of its own distribution."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        raise RuntimeError("a fault of the trainer")


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    def part(kind: Any, made: type, **more: Any) -> Component:
        return Component(kind, made.__name__.lower(), f"{made.__module__}:{made.__name__}", summary="A part.", **more)

    yield part("generator", Bright)
    yield from (part("discriminator", made) for made in (Sure, LastOnce))
    yield from (part("loss", made) for made in (Steepness, Rising))
    yield from (part("regularizer", made) for made in (Undeclared, Shared, Unreturned, Lazy, Amnesic, Null, Clip))
    yield part("regularizer", Limited, traits=(NEEDS_SAMPLE_GRADIENTS,), rules=SAMPLE_GRADIENT_RULES)
    yield part("trainer", Raising)
    yield part("dataset", Counted, spec=images)
