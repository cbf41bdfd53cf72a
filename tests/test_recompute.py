"""Unrolled steps that are computed again in the backward pass, against those that are kept."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor

from ganzoo.api import UsageError
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.registry import registry
from ganzoo.testing.training import Session
from ganzoo_unrolled import UnrolledConfig
from ganzoo_unrolled.recompute import recomputed

SMALL: dict[str, Any] = {
    "data": "ring",
    "trainer": "unrolled",
    "loss": "minimax",
    "gen.width": 8,
    "disc.width": 8,
    "gen.latent_dim": 3,
    "run.batch_size": 16,
    "run.cond": "off",
    "trainer.steps": 3,
}


def settled(chosen: dict[str, Any]) -> RunConfig:
    return resolve([Layer("small", SMALL, optional=True), Layer("chosen", chosen)])


def gradients(session: Session, *, recompute: bool) -> tuple[list[Tensor], dict[str, float], list[Tensor]]:
    """The generator's gradient at the present step, its terms, and where all generators of random numbers end."""
    assert isinstance(session.trainer.config, UnrolledConfig)
    session.trainer.config = dataclasses.replace(session.trainer.config, checkpointing=recompute)
    bundle, position = session.bundle, session.stream.position
    bundle.begin(session.step)
    real = session.stream.next()
    session.stream.position = position
    terms = session.trainer.generator_terms(real, bundle.generate(len(real.x), real.y))  # type: ignore[attr-defined]
    bundle.gen.zero_grad()
    torch.autograd.backward(torch.stack(list(terms.values())).sum(), inputs=bundle.gen_side.trainable)
    found = [parameter.grad for parameter in bundle.gen_side.trainable if parameter.grad is not None]
    ends = [bundle.noise.rng.get_state(), torch.default_generator.get_state()]
    return found, {name: value.item() for name, value in terms.items()}, ends


def check(chosen: dict[str, Any]) -> None:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Tensor, "float", Tensor.double)  # a run takes float32; only the algorithm is compared here
            session = Session(settled(chosen))
            session.take(1)
            kept, terms, ends = gradients(session, recompute=False)
            before = session.state()
            made, terms_again, ends_again = gradients(session, recompute=True)
            after = session.state()
    finally:
        torch.set_default_dtype(default)
    assert all(torch.equal(a, b) for a, b in zip(ends, ends_again, strict=True))
    assert terms == terms_again  # to the bit
    for name, value in before["modules"][1].items():
        assert torch.equal(value, after["modules"][1][name]), name
    largest = max(float(gradient.abs().max()) for gradient in kept)
    assert largest > 0
    for one, other in zip(kept, made, strict=True):
        assert float((one - other).abs().max()) <= 1e-12 * largest


def pairs() -> Iterator[Any]:
    """Every loss with every regularizer that the rules allow."""
    losses, regs = ([entry.component.name for entry in registry().entries(kind)] for kind in ("loss", "regularizer"))
    for loss in losses:
        for reg in (None, *regs):
            chosen = {"loss": loss, "reg": reg or "none"}
            with suppress(UsageError):
                if not settled(chosen).plan().broken_rules():
                    yield pytest.param(chosen, id="/".join(filter(None, (loss, reg))))


@pytest.mark.parametrize("chosen", list(pairs()))
def test_gradients_are_those_of_steps_that_are_kept(chosen: dict[str, str]) -> None:
    check(chosen)


@pytest.mark.parametrize(
    "chosen",
    [
        {"disc.dropout": 0.3, "disc.norm": "layer", "loss": "wgan-gp"},
        {"disc.norm": "batch"},
        {"disc.norm": "spectral", "loss": "hinge", "reg": "dragan", "disc_optim.weight_decay": 0.1},
        {"disc_optim.name": "adamw", "disc_optim.weight_decay": 0.1},
        {"disc_optim.name": "rmsprop", "trainer.critic_steps": 2},
        {"disc_optim.name": "sgd", "loss": "wgan-clip"},
        {"trainer.steps": 0},
        {"trainer.steps": 1, "trainer.objective": "loss", "loss": "rpgan"},
    ],
    ids=repr,
)
def test_random_numbers_buffers_and_moments_are_those_of_the_first_time(chosen: dict[str, Any]) -> None:
    check(chosen)


def saved(steps: int, *, recompute: bool) -> int:
    """How many bytes the graph of the generator's objective keeps."""
    session = Session(
        settled({"trainer.steps": steps, "run.batch_size": 512, "gen.width": 1, "disc_optim.name": "sgd"})
    )
    assert isinstance(session.trainer.config, UnrolledConfig)
    session.trainer.config = dataclasses.replace(session.trainer.config, checkpointing=recompute)
    session.bundle.begin(0)
    real = session.stream.next()
    fake = session.bundle.generate(len(real.x), None)
    held: list[weakref.ref[Tensor]] = []

    def pack(tensor: Tensor) -> Tensor:
        kept = tensor.detach()
        held.append(weakref.ref(kept))
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = session.trainer.generator_terms(real, fake)  # type: ignore[attr-defined]
    alive = [tensor.untyped_storage() for tensor in (reference() for reference in held) if tensor is not None]
    assert terms
    return sum({storage.data_ptr(): storage.nbytes() for storage in alive}.values())


def test_what_is_kept_hardly_grows_with_the_steps() -> None:
    two, ten = saved(2, recompute=False), saved(10, recompute=False)
    assert ten > 3 * two
    assert saved(2, recompute=True) < two / 2
    assert saved(10, recompute=True) < two


def test_a_gradient_within_a_gradient() -> None:
    rng = torch.Generator().manual_seed(0)

    def function(values: Any) -> list[Tensor]:
        x, w = values
        y = (w * x.sin() * torch.rand(3, generator=rng) * torch.rand(3)).sum()
        (slope,) = torch.autograd.grad(y, w, create_graph=True)
        return [w - slope.square(), slope.detach()]

    x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    torch.default_generator.manual_seed(0)
    expected = torch.autograd.grad(function((x, w))[0].sum(), (x, w))
    rng.manual_seed(0)
    torch.default_generator.manual_seed(0)
    moved, plain = recomputed(function, [x, w], rng)
    assert not plain.requires_grad
    ahead = torch.rand(2, generator=rng)
    rng.manual_seed(0)
    torch.rand(3, generator=rng)
    now = rng.get_state()
    found = torch.autograd.grad(moved.sum(), (x, w))
    assert torch.equal(rng.get_state(), now)
    assert torch.equal(torch.rand(2, generator=rng), ahead)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
