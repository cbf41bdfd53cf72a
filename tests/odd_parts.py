"""Networks and objectives that are right, and touch memory and state in ways that are rarely seen."""

# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sound_parts import Critic, Net
from torch import Tensor, nn

from ganzoo.api import NO_DOUBLE_BACKWARD, Component, Kind, Spec, hookimpl
from ganzoo.nn import Discriminator, Loss, Regularizer, Stream, Trainer


class Ones(Net):
    """Adds expanded buffers, one of which is saved."""

    saved: Tensor
    grid: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("saved", torch.linspace(-1, 1, 6).expand(2, 6))
        self.register_buffer("grid", torch.meshgrid(torch.ones(3), torch.linspace(0, 1, 6), indexing="ij")[1], False)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z + self.saved[0] + self.grid[1], y)


class Layered(Critic):
    """Has convolutions."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.conv = nn.Conv2d(1, 8, 3, 2, 1)
        self.last = nn.Linear(8 * 16, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(torch.tanh(self.conv(x)).flatten(1)).squeeze(1)


class Turned(Critic):
    """Has parameters whose gradients are views: transposed, and expanded."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.turned = nn.Parameter(torch.randn(7, spec.numel))
        self.out = nn.Linear(7, 1)
        self.offsets = nn.Parameter(torch.zeros(64, 8, 4))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        hidden = torch.tanh((self.turned @ x.flatten(1).t()).t())
        return self.out(hidden).squeeze(1) + self.offsets.sum()


class Attentive(Critic):
    """Attends."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.into, self.out = nn.Linear(1, 8), nn.Linear(8, 1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.into(x.flatten(1)[..., None])
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.out(h.tanh()).sum((1, 2))


class Written(Critic):
    """Writes in forward() to a parameter that is not learned."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.u = nn.Parameter(torch.randn(5), requires_grad=False)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        weight = self.main[1].weight
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            self.u.mul_(0.9).add_(0.1 * weight.sum(1))
        return super().forward(x, y) + 0.1 * self.features(x) @ self.u.clone()


class Pool:
    """Some fakes of before."""

    def __init__(self) -> None:
        self.held: list[Tensor] = []
        self.seen = {"count": 0}

    def __call__(self, logits: Tensor) -> Tensor:
        self.held.append(logits.detach().mean())
        self.seen["count"] += 1
        del self.held[:-5]
        return torch.stack(self.held).mean() + 0.01 * self.seen["count"]


class Pooled(Loss):
    """Remembers what it has seen in attributes of many kinds."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.pool, self.rng, self.total = Pool(), torch.Generator().manual_seed(0), torch.zeros(())

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        self.total += 1
        weight = 1 + self.pool(fake).tanh() / 4 + 0.1 * torch.rand((), generator=self.rng) + 0.01 * self.total
        return F.softplus(-real).mean() + weight * F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return F.softplus(-fake).mean()


class Tied(Layered):
    """Has two layers whose weights are in one place."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.wide = nn.Conv2d(8, 96, 3, 1, 1)
        self.back = nn.ConvTranspose2d(96, 8, 3, 1, 1)
        self.back.weight.data = self.wide.weight.data

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(self.back(torch.tanh(self.wide(self.conv(x)))).flatten(1)).squeeze(1)


class Strided(Layered):
    """Takes for granted how its images lie in memory."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = torch.tanh(self.conv(x))
        some = h.as_strided((len(h), 4), (h[0].numel(), 1))
        return self.last(h.flatten(1)).squeeze(1) + some.sum(1)


class Dropping(Layered):
    """Drops numbers, in the order of memory."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(F.dropout(self.conv(x), 0.5, self.training).flatten(1)).squeeze(1)


class ByClass(Critic):
    """Takes away the mean of each class."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert y is not None
        f, same = self.features(x), (y[:, None] == y).float()
        return self.main[-1](f - (same @ f) / same.sum(1, keepdim=True)).squeeze(1)


class BySize(Critic):
    """Divides by how many samples there are."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(x, y) / len(x)


class ByPlace(Critic):
    """Adds something else to each sample."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(x, y) + torch.linspace(0, 1, 64)[: len(x)]


class Running(Critic):
    """Takes away the mean of the passes before."""

    mean: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        f = self.features(x)
        logits = self.main[-1](f - self.mean).squeeze(1)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(f.mean(0), 0.5)
        return logits


class Hooked(Critic):
    """Has a hook that counts in the network that it was made for."""

    count: Tensor

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.register_buffer("count", torch.zeros(()))
        self.main.register_forward_hook(lambda *_: self.count.add_(1) and None)


class Keeping(Net):
    """Keeps its activations."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.kept: dict[str, list[Tensor]] = {}

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        x = super().forward(z, y)
        self.kept["last"] = [x]
        return x


class Scripted(Layered):
    """Has a layer of TorchScript."""

    def __init__(self, config: object, spec: Spec) -> None:
        super().__init__(config, spec)
        self.conv: Any = torch.jit.script(self.conv)


class Halving(Regularizer):
    """Halves the weights after each step, and has a penalty that is no number."""

    def penalty(self, critic_pass: Any) -> Tensor:
        return critic_pass.real_logits.sum() * torch.nan

    @torch.no_grad()
    def after_step(self, disc: Discriminator) -> None:
        for p in disc.parameters():
            p.mul_(0.5)


class Alternate(Trainer):
    """One step each, by the bundle's own means."""

    def step(self, stream: Stream) -> dict[str, Tensor]:
        bundle, real = self.bundle, stream.next()
        with torch.no_grad():
            fake = bundle.generate(len(real.x), real.y)
        loss_d = self.update(bundle.disc_side, bundle.discriminator_terms(bundle.critic_pass(real, fake)))
        fake = bundle.generate(len(real.x), real.y)
        loss_g = self.update(bundle.gen_side, bundle.loss.generator_terms(bundle.generator_pass(fake, None)))
        return {"loss_d": loss_d, "loss_g": loss_g}

    def update(self, side: Any, terms: dict[str, Tensor]) -> Tensor:
        """A step of one side."""
        bundle = self.bundle
        return bundle.update_generator(terms) if side is bundle.gen_side else bundle.update_discriminator(terms)


class Putting(Alternate):
    """The same, with gradients that it puts in place by itself."""

    def update(self, side: Any, terms: dict[str, Tensor]) -> Tensor:
        total = torch.stack(list(terms.values())).sum()
        for p, gradient in zip(
            side.trainable, torch.autograd.grad(total, side.trainable, allow_unused=True), strict=True
        ):
            p.grad = gradient
        return self.bundle.apply_gradients(side, total)


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    kinds: tuple[tuple[Kind, tuple[type, ...]], ...] = (
        ("generator", (Ones, Keeping)),
        ("loss", (Pooled,)),
        ("regularizer", (Halving,)),
        ("trainer", (Alternate, Putting)),
    )
    critics = (
        Turned,
        Attentive,
        Written,
        Tied,
        Strided,
        Dropping,
        ByClass,
        BySize,
        ByPlace,
        Running,
        Hooked,
        Scripted,
    )
    for kind, some in (*kinds, ("discriminator", critics)):
        for made in some:
            yield Component(kind, made.__name__.lower(), f"odd_parts:{made.__name__}")
    yield Component("discriminator", "once", "odd_parts:Turned", traits=(NO_DOUBLE_BACKWARD,))
