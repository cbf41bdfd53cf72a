"""A plugin full of faults: each component breaks the one promise it is named after, so that the kit can be tested."""

# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sound_parts import Critic, Drawn, Net, Sound, images
from torch import Tensor, nn

from ganzoo.api import CONDITIONAL, Component, Rule, Spec, hookimpl, option
from ganzoo.data import ArrayDataset, Batch
from ganzoo.nn import CriticPass, Regularizer, Stream, Trainer


@dataclass(frozen=True)
class Mute:
    width: int = option(4, help="")


@dataclass(frozen=True)
class Unfit:
    start: Path = option("start.npz", help="A default that is no path, but reads like one.")


@dataclass
class Changeable:
    width: int = option(4, help="Units.")


class Undocumented(Net):
    pass


class Flat(Net):
    """Forgets the shape."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z).flatten(1)


class Wild(Net):
    """Forgets tanh."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.main(z).reshape(len(z), *self.spec.shape)


class Restless(Net):
    """Draws latents with other random numbers."""

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        return torch.randn(n, self.latent_dim)


class Deaf(Net):
    """Ignores the latent."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(torch.ones_like(z))


class Greedy(Net):
    """Changes the latent."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z.mul_(1.5) if not z.requires_grad else z)


class Idle(Net):
    """Has a layer that it does not use."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.unused = nn.Linear(3, 3)


class Lucky(Net):
    """Draws weights with Python's random numbers."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        nn.init.constant_(self.main.bias, random.random())


class Nervous(Net):
    """Adds noise in evaluation too."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z + 0.1 * torch.randn_like(z))


class Counting(Net):
    """Counts calls in evaluation too."""

    calls: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().forward(z)


class Moody(Net):
    """Does something else in training."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z * 2 if self.training else z)


class Late(Net):
    """Makes a parameter in forward()."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if not hasattr(self, "late"):
            self.late = nn.Parameter(torch.ones(()))
        return super().forward(z * self.late)


class Nosy(Net):
    """Reads a weight in __init__."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.gain = float(self.main.weight.detach().abs().max())


class Clingy(Net):
    """Keeps a lock."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        self.lock = threading.Lock()
        return super().forward(z)


class Narrow(Net):
    """Knows float32 alone."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z).float()


class Secretive(Net):
    """Uses labels and does not say so."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z if y is None else z + y[:, None])


class Hollow(Net):
    """Registered with a rule whose text has an unknown placeholder."""


class Column(Critic):
    """Returns [B, 1]."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.main(x)


class Social(Critic):
    """Compares samples without saying so."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits = super().forward(x)
        return logits - logits.mean() if len(x) > 1 else logits


class Normed(Critic):
    """Has batch norm without saying so."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.main.insert(2, nn.BatchNorm1d(5))


class Once(torch.autograd.Function):
    """Changes nothing, and can be differentiated once."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(_: Any, grad: Tensor) -> Tensor:
        return grad


class OnceOnly(Critic):
    """Can be differentiated once."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(Once.apply(x))


class Listed(Sound):
    """Returns one value a sample."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - 1).square()


class Backwards(Sound):
    """Has the sign wrong."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return fake.mean()


class Exploding(Sound):
    """Takes exponentials."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (-real).exp().mean() + fake.exp().mean()


class Unbalanced(Sound):
    """Says zero_sum and is not."""

    zero_sum = True


class Dice(Sound):
    """Starts from Python's random numbers."""

    start: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("start", torch.tensor(random.random()))


class Void(Regularizer):
    """Does nothing."""


class Rooted(Regularizer):
    """Has a NaN gradient, from a square root at zero."""

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return (critic_pass.real_logits * 0).square().sum().sqrt()


class Dicey(Regularizer):
    """Draws from torch's own random numbers."""

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return critic_pass.real_logits.square().mean() * torch.rand(())


class Renaming(Regularizer):
    """Constrains what is not there."""

    def project(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"module.{name}": value for name, value in parameters.items()}


class Stepper(Trainer):
    """Steps the critic alone."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        real = stream.next()
        fake = self.bundle.generate(len(real.x), real.y)
        loss = self.bundle.update_discriminator(
            self.bundle.discriminator_terms(self.bundle.critic_pass(real, Batch(fake.x.detach(), fake.y)))
        )
        return {"loss_d": loss, "loss_g": loss}


class Silent(Stepper):
    """Reports nothing of the generator."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        return {"loss_d": super().step(stream)["loss_d"]}


class Gambler(Stepper):
    """Adds its own noise to the weights."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        with torch.no_grad():
            for parameter in self.bundle.gen.parameters():
                parameter.add_(random.random())
        return super().step(stream)


class Forgetful(Stepper):
    """Counts steps and forgets them."""

    steps = 0

    def step(self, stream: Stream) -> dict[str, Tensor]:
        self.steps += 1
        with torch.no_grad():
            for parameter in self.bundle.gen.parameters():
                parameter.add_(self.steps)
        return super().step(stream)


def _points(config: object) -> Spec:
    return Spec((2,))


class Square(Drawn):
    """Draws another shape."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        return Batch(super().draw(n, rng).x[:, :1])


class Bright(Drawn):
    """Scales to [0, 1]."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        x, y = super().draw(n, rng)
        return Batch((x + 1) / 2, y)


class FromOne(Drawn):
    """Counts labels from 1."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        x, y = super().draw(n, rng)
        return Batch(x, None if y is None else y + 1)


class Shuffled(Drawn):
    """Draws from torch's own random numbers."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        return Batch(torch.randn(n, *self.spec.shape))


class Held(Drawn):
    """Holds a function."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.scale = lambda x: x


class Away(Drawn):
    """Moves and is gone."""

    def to(self, device: torch.device | str) -> Any:
        return Drawn(None, self.spec)


class Averaged(ArrayDataset):
    """Centres the samples that are fetched together."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(torch.arange(40.0).reshape(20, 2), None, spec)

    def fetch(self, index: Tensor) -> Batch:
        x = super().fetch(index).x
        return Batch(x - x.mean(0))


NO_SENTENCE = Rule(lambda _: False, what="The {network} cannot be used", why="it is a test", instead="choose another")
NETWORKS = (Undocumented, Flat, Wild, Restless, Deaf, Greedy, Idle, Lucky, Nervous, Counting, Moody, Late, Nosy, Clingy)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    def part(kind: Any, made: type, **more: Any) -> Component:
        name = more.pop("name", made.__name__.lower())
        return Component(kind, name, f"{made.__module__}:{made.__name__}", **{"summary": "Broken.", **more})

    yield from (part("generator", made) for made in (*NETWORKS, Narrow, Secretive))
    yield part("generator", Net, name="untold", summary="")
    yield part("generator", Net, name="mute", config=Mute)
    yield part("generator", Net, name="unfit", config=Unfit)
    yield part("generator", Net, name="changeable", config=Changeable)
    yield part("generator", Net, name="boastful", traits=(CONDITIONAL,))
    yield part("generator", Net, name="misspelt", recipe={"gen_optim.lrr": 1e-3})
    yield part("generator", Net, name="mistyped", recipe={"gen_optim.lr": "fast"})
    yield part("generator", Hollow, rules=(NO_SENTENCE,))
    never = Rule(lambda _: True, what="It cannot be used", why="it is a test", instead="choose another")
    yield part("generator", Net, name="nowhere", rules=(never,))
    yield Component("generator", "absent", "broken_parts:Absent", summary="Broken.")
    yield Component("generator", "alien", "sound_parts:Critic", summary="Broken.")
    yield from (part("discriminator", made) for made in (Column, Social, Normed, OnceOnly))
    yield from (part("loss", made) for made in (Listed, Backwards, Exploding, Unbalanced, Dice))
    yield from (part("regularizer", made) for made in (Void, Rooted, Dicey, Renaming))
    yield from (part("trainer", made) for made in (Stepper, Silent, Gambler, Forgetful))
    yield from (part("dataset", made, spec=_points) for made in (Square, Shuffled, Held, Away, Averaged))
    yield from (part("dataset", made, spec=images) for made in (Bright, FromOne))
