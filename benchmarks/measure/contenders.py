"""The loops that take turns: ganzoo's, a bare one around the same networks, and the tutorials'."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from tutorials.data import Batches
from tutorials.steps import Pair, Step, official_dcgan, script_gan

from ganzoo.api import Spec
from ganzoo.config import RunConfig
from ganzoo.nn import Discriminator, Generator
from ganzoo.registry import build
from ganzoo.training.loop import Session
from measure.context import Context, synchronize
from measure.timing import Turn, Work
from measure.workloads import Workload


class OurLoop:
    """Steps of a run's own loop, with its data, moving average, observers and log.

    Attributes:
        session: the live objects of the run.
    """

    def __init__(self, context: Context, settings: dict[str, Any]) -> None:
        self.session = context.session(context.resolve(settings))
        self._work = steps_of(self.session)

    def __call__(self, n: int) -> None:
        """Take ``n`` steps."""
        self._work(n)

    def chosen(self, *names: str) -> dict[str, tuple[str, str]]:
        """What the run decided by itself, with the reason, of these names."""
        decisions: Any = getattr(self.session, "decisions", ())
        return {each.name: (each.value, each.reason) for each in decisions if each.name in names}

    @property
    def note(self) -> str:
        """What the run computes in, where it was free to choose."""
        words = [
            f"{name} {value} ({reason})"
            for name, (value, reason) in self.chosen("precision", "layout").items()
            if reason != "asked for"
        ]
        words += [f"convolutions {reason}" for _, reason in self.chosen("convolutions").values()]
        return ", ".join(words)


def steps_of(session: Session) -> Work:
    """Steps of a session."""

    def work(n: int) -> None:
        for _ in range(n):
            session._take_step()
        synchronize(session.device)

    return work


def networks_of(config: RunConfig, spec: Spec, device: torch.device) -> tuple[Generator, Discriminator]:
    """The networks of a configuration, as a run trains them."""
    gen = cast("Generator", build(config.gen, spec)).to(device).train()
    disc = cast("Discriminator", build(config.disc, spec)).to(device).train()
    return gen, disc


def bare_loop(context: Context, settings: dict[str, Any]) -> Work:
    """The same arithmetic around the same networks, written down as plainly as can be.

    Contiguous, in float32 unless the settings ask for bf16; with a moving average unless they want none.
    """
    config, device = context.resolve(settings), context.device
    spec, batch, saturating = config.spec(), config.run.batch_size, config.loss.name == "minimax"
    gen, disc = networks_of(config, spec, device)
    reals = _reals(config, spec, device)
    rng = torch.Generator(device).manual_seed(0)
    of_gen: list[Tensor] = list(gen.parameters())
    follow = _average(gen) if config.run.ema_half_life else None
    cast_to = torch.bfloat16 if config.run.precision == "bf16" else torch.float32
    opt_gen = torch.optim.Adam(of_gen, 2e-4, (0.5, 0.999), fused=True)
    opt_disc = torch.optim.Adam(disc.parameters(), 2e-4, (0.5, 0.999), fused=True)

    def work(n: int) -> None:
        for _ in range(n):
            real, z = reals(), torch.randn(batch, gen.latent_dim, device=device, generator=rng)
            with torch.autocast(device.type, cast_to, enabled=cast_to != torch.float32):
                fake = gen(z)
                loss = softplus(-disc(real)).mean() + softplus(disc(fake.detach())).mean()
            opt_disc.zero_grad()
            torch.autograd.backward(loss)
            opt_disc.step()
            with torch.autocast(device.type, cast_to, enabled=cast_to != torch.float32):
                logits = disc(fake)
                loss = -softplus(logits).mean() if saturating else softplus(-logits).mean()
            opt_gen.zero_grad()
            torch.autograd.backward(loss, inputs=of_gen)
            opt_gen.step()
            if follow is not None:
                follow()
        synchronize(device)

    return work


def _average(gen: Generator) -> Callable[[], None]:
    """A moving average of a generator's weights, taken at every call."""
    average = copy.deepcopy(gen).requires_grad_(False)
    averaged: list[Tensor] = list(average.parameters())
    of_gen: list[Tensor] = list(gen.parameters())
    buffers = list(zip(average.buffers(), gen.buffers(), strict=True))

    @torch.no_grad()
    def follow() -> None:
        torch._foreach_lerp_(averaged, of_gen, 0.01)
        for mine, its in buffers:
            mine.copy_(its)

    return follow


def _reals(config: RunConfig, spec: Spec, device: torch.device) -> Callable[[], Tensor]:
    """Batches of reals, in shuffled epochs or drawn."""
    data, batch = build(config.data, spec).to(device), config.run.batch_size
    rng = torch.Generator(device).manual_seed(0)
    order: Iterator[Tensor] = iter(())

    def reals() -> Tensor:
        nonlocal order
        if data.length is None:
            drawn: Tensor = data.draw(batch, rng).x
            return drawn
        picked = next(order, None)
        if picked is None:
            order = iter(torch.split(torch.randperm(data.length, device=device), batch)[:-1])
            picked = next(order)
        fetched: Tensor = data.fetch(picked).x
        return fetched

    return reals


def tutorial_step(context: Context, workload: Workload) -> Step:
    """The tutorial's step around the networks of a workload, which are ganzoo's run's, too."""
    config = context.resolve(workload.of_run(context))
    gen, disc = networks_of(config, config.spec(), context.device)
    pair = Pair(cast("nn.Module", gen), disc, gen.latent_dim, context.device)
    return official_dcgan(pair) if workload.loop == "official" else script_gan(pair)


def tutorial_loop(context: Context, workload: Workload, workers: int) -> Turn:
    """The tutorial with its data: a DataLoader over images that PIL and transforms make one by one."""
    step = tutorial_step(context, workload)
    batches = Batches(workload.source(), workload.size, workload.batch_size(context), workers)

    def work(_: int) -> None:
        for images in batches:
            step(images)
        synchronize(context.device)

    return Turn(work, before=batches.begin)


def tutorial_networks(context: Context, workload: Workload) -> Work:
    """The tutorial's step on a batch that lies on the device: what its networks and optimisers cost alone."""
    step = tutorial_step(context, workload)
    shape = context.resolve(workload.of_run(context)).spec().shape
    images = torch.rand(workload.batch_size(context), *shape, device=context.device) * 2 - 1

    def work(n: int) -> None:
        for _ in range(n):
            step(images)
        synchronize(context.device)

    return work
