"""What can be measured of a run at one look, free of any scale: the same numbers mean the same for every loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import pdist

from ganzoo.nn import Batch, Bundle, CriticPass, Loss
from ganzoo.nn.buffers import unchanged_buffers
from ganzoo.nn.guard import are_finite
from ganzoo.nn.objectives import learned
from ganzoo.nn.penalties import sample_norms

BATCH: Final = 64
_OUTWARDS: Final = 1 + 1e-4
_TINY: Final = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Vitals:
    """The numbers of one look.

    Attributes:
        diversity: mean distance between two fakes over that between two reals; of one class where labels are used.
        spread: standard deviation of a fake's values over the batch, over that of the reals.
        above: share of the pairs (real, fake) in which the critic prefers the real.
        critic_push: how much the critic's objective still pulls on its logits, 1 being a critic that knows nothing.
        gen_push: how much the generator's objective pulls on the logits of its fakes, in the same unit.
        gen_gradient: root mean square of the generator's last gradient.
        gen_moved: how far the generator's weights moved since the last look, relative to their norm.
        gen_size: root mean square of the generator's weights.
        gen_grown: how many times larger its weights have become since the session began.
        disc_size, disc_grown: the same of the critic.
        at_bound: share of the critic's weights that a constraint such as a clip holds at its bound; 0 without one.
        slope: mean norm of the critic's gradient over what a penalty draws it to; 1 without such a penalty.
    """

    diversity: float
    spread: float
    above: float
    critic_push: float
    gen_push: float
    gen_gradient: float
    gen_moved: float
    gen_size: float
    gen_grown: float
    disc_size: float
    disc_grown: float
    at_bound: float
    slope: float


class Examiner:
    """Looks at a bundle without leaving a trace in it.

    Args:
        bundle: of the run.
        real: some reals, the same at every look.
        latents: as many latents, the same at every look; fakes take the labels of the reals.
        by_class: whether the generator uses labels, so that samples are compared within their class.
    """

    def __init__(self, bundle: Bundle, real: Batch, latents: Tensor, *, by_class: bool) -> None:
        self.bundle, self.real, self.latents = bundle, real, latents
        self._pairs = _pairs(real.y) if by_class and real.y is not None else None
        self._real_distance = self._distance(real.x)
        self._real_spread = real.x.std(0).mean()
        zeros = torch.zeros(len(real.x), device=latents.device)
        with unchanged_buffers(bundle.loss):
            self._unit = _push(bundle.loss, zeros, zeros)
        self._before = _weights(bundle.gen)
        self._sizes = [_rms(_weights(net), latents) for net in (bundle.gen, bundle.disc)]

    def look(self) -> Vitals:
        """Measure; the device is waited for once."""
        bundle, real = self.bundle, self.real
        # Not of the sides themselves, whose optimisers hold more than all networks do, and take no step here.
        with unchanged_buffers(*bundle.gen_side.children(), *bundle.disc_side.children()):
            with torch.no_grad(), bundle.precision.autocast():
                fake = Batch(bundle.gen(self.latents, real.y).float(), real.y)
                # The module itself: compiled for a step, it would be compiled again for this.
                above_real, above_fake = (bundle.disc(look.x, look.y).float() for look in (real, fake))
            slope = self._slope(real, fake)
            critic_push, gen_push = _push(bundle.loss, above_real, above_fake)
            at_bound = self._at_bound()
        values = [
            self._distance(fake.x) / self._real_distance,
            fake.x.std(0).mean() / self._real_spread,
            (above_real[:, None] > above_fake).float().mean(),
            critic_push / self._unit[0],
            gen_push / self._unit[1],
            _rms([p.grad for p in bundle.gen_side.trainable if p.grad is not None], self.latents),
            self._moved(),
            *self._growth(),
            at_bound,
            slope,
        ]
        return Vitals(*torch.stack([value.detach().float() for value in values]).tolist())

    def _distance(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        # Not every device has this kernel, which takes a fiftieth of the time that the differences themselves take.
        distances = pdist(flat if flat.device.type in ("cpu", "cuda") else flat.cpu()).to(x.device)
        return (distances if self._pairs is None else distances[self._pairs]).mean()

    def _moved(self) -> Tensor:
        now, before = _weights(self.bundle.gen), self._before
        self._before = now
        size = _norm(before, self.latents).clamp_min(_TINY)
        return _norm(torch._foreach_sub(now, before) if now else (), self.latents) / size

    def _growth(self) -> Iterator[Tensor]:
        """Size of each player's weights, and by how much they grew."""
        for module, before in zip((self.bundle.gen, self.bundle.disc), self._sizes, strict=True):
            size = _rms([p.detach() for p in _measured(module)], self.latents)
            yield from (size, size / before.clamp_min(_TINY))

    @torch.no_grad()
    def _at_bound(self) -> Tensor:
        """A weight is at its bound if a constraint does not let it go outwards."""
        share = torch.zeros((), device=self.latents.device)
        for reg in self.bundle.regularizers:
            outside = {name: value * _OUTWARDS for name, value in learned(self.bundle.disc).items()}
            inside = reg.project(outside)
            if inside:
                held = torch.stack([(inside[name] != outside[name]).sum() for name in inside]).sum()
                share = torch.maximum(share, held / sum(value.numel() for value in inside.values()))
        return share

    def _slope(self, real: Batch, fake: Batch) -> Tensor:
        """Mean norm of the critic's gradient halfway between reals and fakes, over the penalty's target."""
        target = next((reg.slope for reg in self.bundle.regularizers if reg.slope), None)
        if target is None:
            return torch.ones((), device=self.latents.device)
        look = CriticPass(self.bundle.critic, real.x, fake.x, real.y, fake.y, real.x, fake.x)
        return sample_norms(look.gradient_at((real.x + fake.x) / 2, fake.y)).mean() / target


def _push(loss: Loss, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the absolute derivatives of both objectives by the logits: 0 where an objective has nothing to gain."""
    with torch.enable_grad():
        a, b = real.detach().requires_grad_(), fake.detach().requires_grad_()
        of_critic = torch.autograd.grad(loss.discriminator(a, b), (a, b), allow_unused=True, materialize_grads=True)
        of_gen = torch.autograd.grad(loss.generator(b, a if loss.uses_real else None), b)
    return torch.cat(of_critic).abs().sum(), of_gen[0].abs().sum()


def _pairs(labels: Tensor) -> Tensor | None:
    """Numbers of the pairs of samples of one class, in the order of ``pdist``; None if there are no such pairs."""
    first, second = torch.triu_indices(len(labels), len(labels), 1, device=labels.device)
    same = (labels[first] == labels[second]).nonzero().squeeze(1)
    return same if len(same) else None


def _weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in _measured(module)]


def _measured(module: nn.Module) -> list[Tensor]:
    """Parameters that have a size: not those that are an order of features, say."""
    return [p for p in module.parameters() if p.is_floating_point() or p.is_complex()]


def _rms(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    return _norm(tensors, like) / math.sqrt(max(1, sum(tensor.numel() for tensor in tensors)))


def _norm(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    if not tensors:
        return torch.zeros((), device=like.device)
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.float() for norm in torch._foreach_norm(list(tensors))]))
    return total


def broken_names(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Which of these tensors hold NaN or infinity; the device is waited for once."""
    kept = [(name, value) for name, value in named if value.is_floating_point() and value.numel()]
    if not kept:
        return []
    finite = are_finite([value.detach() for _, value in kept]).tolist()
    return list(itertools.compress((name for name, _ in kept), (not ok for ok in finite)))
