"""A plugin whose components break their contracts where a run would notice late, or never."""

# mypy: disable-error-code="override, return-value"

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from sound_parts import Critic, Drawn, Net, Sound
from torch import Tensor, nn

from ganzoo.api import CONDITIONAL, KINDS, MIXES_SAMPLES, Component, Spec, hookimpl, option
from ganzoo.data import Batch
from ganzoo.nn import CriticPass, Regularizer, Stream, Trainer


class Flat(Net):
    """Forgets the shape."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(z)
        return out.flatten(1)


class Tardy(Net):
    """Makes a buffer when it is first trained."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.training and not hasattr(self, "seen"):
            self.register_buffer("seen", z.detach().mean())
        out: Tensor = super().forward(z)
        return out


class Patient(Net):
    """Makes a buffer when it is first used, and knows how to take it back."""

    seen: Tensor | None

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("seen", None)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.training and self.seen is None:
            self.seen = z.detach().mean()
        out: Tensor = super().forward(z)
        return out

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        self.seen = state.get(f"{prefix}seen")
        super()._load_from_state_dict(state, prefix, *rest)


class Column(Critic):
    """Forgets to squeeze."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(x)
        return out[:, None]


class Lazy(Net):
    """Has a layer that has no size until it is called."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.main = nn.LazyLinear(spec.numel)


class Making(Net):
    """Makes a parameter when it is called."""

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if not hasattr(self, "gain"):
            self.gain = nn.Parameter(torch.ones(()))
        return super().forward(z, y) * self.gain


class Frozen(Critic):
    """Learns nothing."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.requires_grad_(False)


class Stateful(Critic):
    """Saves what is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"a": 1}


class Precise(Critic):
    """Has a buffer that no file can hold."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("filter", torch.ones(2, dtype=torch.complex128))


class Listed(Sound):
    """Forgets the mean, for the discriminator."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (real - 1).square() + fake.square()


class Halved(Sound):
    """Forgets the mean, for the generator."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return (fake - 1).square()


class Paired(Sound):
    """Pairs fakes with reals and does not say so."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert isinstance(fake, Tensor)
        return (real - fake).mean()  # type: ignore[operator]


class Nameless(Sound):
    """Gives its terms without names."""

    def discriminator_terms(self, critic_pass: CriticPass) -> Tensor:
        return self.discriminator(critic_pass.real_logits, critic_pass.fake_logits)


class Failing(Sound):
    """Fails in a helper."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return _uneven(real) + fake.mean()


def _uneven(logits: Tensor) -> Tensor:
    return torch.stack([logits, logits[1:]]).mean()


class Unready(Sound):
    """Cannot be built."""

    def __init__(self) -> None:
        raise AssertionError


class Halves(Sound):
    """Calls its halves as the trainer calls the mean logits."""

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        return {"d_real": (critic_pass.real_logits - 1).square().mean(), "d_fake": critic_pass.fake_logits.mean()}


class Counted(Sound):
    """Calls a term of the generator as a run calls its count."""

    def generator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        return {**super().generator_terms(critic_pass), "step": critic_pass.fake_logits.mean()}


class Late(Regularizer):
    """Forgets the mean, at every third pass alone."""

    name = "late"
    passes: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def penalty(self, critic_pass: CriticPass) -> Tensor | None:
        self.passes += 1
        return critic_pass.real_logits.square() if self.passes % 3 == 0 else None


class Duck(nn.Module):
    """Is derived from no contract."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__()
        self.main = nn.Linear(1, 1)


class Sums(Trainer):
    """Returns numbers of Python's own."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        return {"loss_d": 1.0, "loss_g": 2.0}  # type: ignore[dict-item]


class Quiet(Trainer):
    """Returns nothing."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        return None


class Listing(Trainer):
    """Returns each sample's loss."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        return {"loss_d": stream.next().x.flatten(1).mean(1)}


class Tally(Quiet):
    """Saves a number of Python's own."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"n": 1}  # type: ignore[dict-item]


class Spread(Regularizer):
    """Forgets the mean."""

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return critic_pass.real_logits.square()


class Total(Regularizer):
    """Has a name that the run needs itself."""

    name = "loss_d"

    def penalty(self, critic_pass: CriticPass) -> Tensor:
        return critic_pass.real_logits.square().mean()


class Pairs(Drawn):
    """Draws pairs."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        return tuple(super().draw(n, rng))


class Told(Drawn):
    """Tells its labels to those who did not ask."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        return Batch(super().draw(n, rng).x, torch.zeros(n, dtype=torch.int64))


class Double(Drawn):
    """Draws in float64."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        return Batch(super().draw(n, rng).x.double())


class FromOne(Drawn):
    """Counts its classes from one."""

    def draw(self, n: int, rng: torch.Generator) -> Batch:
        return Batch(super().draw(n, rng).x, 1 + torch.randint(10, (n,), generator=rng))


@dataclass(frozen=True)
class AskingConfig:
    """Options that are called as other things are."""

    kind: Literal["a", "b"] = option("a", help="A word of create().")
    spec: int = option(1, help="Another one.")
    optim_lr: float = option(0.5, help="Reads like gen_optim.lr.")


def ten(config: object) -> Spec:
    """Small and with ten classes."""
    return Spec((1, 8, 8), 10)


def untold(config: object) -> tuple[int, ...]:
    """No Spec."""
    return 1, 8, 8


def forgetful(config: object, spec: Spec) -> tuple[str, ...] | None:
    """Traits, on one path alone."""
    return (CONDITIONAL,) if spec.num_classes == 77 else None


def plain(config: object) -> Spec:
    """Small and without labels."""
    return Spec((1, 8, 8))


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    yield Component("generator", "flat", "faulty_parts:Flat")
    yield Component("generator", "patient", "faulty_parts:Patient")
    yield Component("generator", "tardy", "faulty_parts:Tardy")
    yield Component("generator", "reed", "sound_parts:Net", traits=(CONDITIONAL,))
    yield Component("generator", "lazy", "faulty_parts:Lazy")
    yield Component("generator", "making", "faulty_parts:Making")
    yield Component("discriminator", "column", "faulty_parts:Column")
    yield Component("discriminator", "frozen", "faulty_parts:Frozen")
    yield Component("discriminator", "precise", "faulty_parts:Precise")
    yield Component("discriminator", "stateful", "faulty_parts:Stateful")
    yield Component("discriminator", "crowd", "sound_parts:Critic", traits=(MIXES_SAMPLES,))
    yield Component("discriminator", "heron", "sound_parts:Critic")
    yield Component("discriminator", "lark", "sound_parts:Critic", traits=(CONDITIONAL,))
    yield from (
        Component("loss", made.__name__.lower(), f"faulty_parts:{made.__name__}")
        for made in (Listed, Halved, Paired, Nameless, Failing, Unready, Halves, Counted)
    )
    for kind in KINDS:
        yield Component(kind, "duck", "faulty_parts:Duck", spec=plain if kind == "dataset" else None)  # type: ignore[arg-type]
    yield Component("generator", "asking", "sound_parts:Net", config=AskingConfig)
    yield Component("generator", "forgetful", "sound_parts:Net", traits=forgetful)  # type: ignore[arg-type]
    yield Component("generator", "spelled", "sound_parts:Net", traits=lambda *_: CONDITIONAL)
    for trainer in (Sums, Quiet, Listing, Tally):
        yield Component("trainer", trainer.__name__.lower(), f"faulty_parts:{trainer.__name__}")
    yield Component("regularizer", "late", "faulty_parts:Late")
    yield Component("dataset", "double", "faulty_parts:Double", spec=plain)
    yield Component("dataset", "fromone", "faulty_parts:FromOne", spec=ten)
    yield Component("dataset", "untold", "faulty_parts:Double", spec=untold)  # type: ignore[arg-type]
    yield Component("regularizer", "spread", "faulty_parts:Spread")
    yield Component("regularizer", "total", "faulty_parts:Total")
    yield Component("dataset", "pairs", "faulty_parts:Pairs", spec=plain)
    yield Component("dataset", "told", "faulty_parts:Told", spec=plain)
