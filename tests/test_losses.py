"""Every loss against its formula, written again the slow way, and against published values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from ganzoo.api import Spec
from ganzoo.nn import CriticPass, Loss
from ganzoo.registry import create

SPEC = Spec((2,))
LN2 = math.log(2)


class Slow(NamedTuple):
    """The terms of one loss from lists of logits of reals and fakes, one sample at a time."""

    disc: Callable[[list[float], list[float]], float]
    gen: Callable[[list[float], list[float]], float]


def log_sigmoid(t: float) -> float:
    return -math.log1p(math.exp(-t)) if t > 0 else t - math.log1p(math.exp(t))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def cross_entropy(logits: list[float], target: float) -> float:
    return mean([-target * log_sigmoid(t) - (1 - target) * log_sigmoid(-t) for t in logits])


def pairs(a: list[float], b: list[float]) -> list[float]:
    return [-log_sigmoid(real - fake) for real, fake in zip(a, b, strict=True)]


SLOW = {
    "minimax": Slow(
        lambda a, b: cross_entropy(a, 1) + cross_entropy(b, 0), lambda _, b: mean([log_sigmoid(-t) for t in b])
    ),
    "ns": Slow(lambda a, b: cross_entropy(a, 1) + cross_entropy(b, 0), lambda _, b: cross_entropy(b, 1)),
    "lsgan": Slow(
        lambda a, b: mean([(t - 1) ** 2 for t in a]) / 2 + mean([t**2 for t in b]) / 2,
        lambda _, b: mean([(t - 1) ** 2 for t in b]) / 2,
    ),
    "hinge": Slow(
        lambda a, b: mean([max(0.0, 1 - t) for t in a]) + mean([max(0.0, 1 + t) for t in b]), lambda _, b: -mean(b)
    ),
    "wgan-clip": Slow(lambda a, b: mean(b) - mean(a), lambda _, b: -mean(b)),
    "wgan-gp": Slow(lambda a, b: mean(b) - mean(a), lambda _, b: -mean(b)),
    "rpgan": Slow(lambda a, b: mean(pairs(a, b)), lambda a, b: mean(pairs(b, a))),
}
NAMES = sorted(SLOW)


def loss_named(name: str, **options: Any) -> Loss:
    loss = create("loss", name, SPEC, **options)
    assert isinstance(loss, Loss)
    return loss


def gen_term(loss: Loss, fake: Tensor, real: Tensor) -> Tensor:
    return loss.generator(fake, real if loss.uses_real else None)


def logits(seed: int, n: int = 7, scale: float = 4.0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, n, generator=rng, dtype=torch.float64) * scale
    return real.requires_grad_(), fake.requires_grad_()


@pytest.mark.parametrize(
    ("name", "disc", "gen"),
    [
        ("minimax", 2 * LN2, -LN2),
        ("ns", 2 * LN2, LN2),
        ("lsgan", 0.5, 0.5),
        ("hinge", 2.0, 0.0),
        ("wgan-clip", 0.0, 0.0),
        ("wgan-gp", 0.0, 0.0),
        ("rpgan", LN2, LN2),
    ],
)
def test_values_at_zero_logits(name: str, disc: float, gen: float) -> None:
    zeros = torch.zeros(5)
    loss = loss_named(name)
    assert loss.discriminator(zeros, zeros).item() == pytest.approx(disc, abs=1e-6)
    assert gen_term(loss, zeros, zeros).item() == pytest.approx(gen, abs=1e-6)


@pytest.mark.parametrize(("name", "slope"), [("minimax", -4.5398e-5), ("ns", -0.9999546)])
def test_slope_of_a_confidently_rejected_fake(name: str, slope: float) -> None:
    fake = torch.tensor([-10.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss_named(name).generator(fake), fake)
    assert gradient.item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_the_slow_formula(name: str, seed: int) -> None:
    loss, slow = loss_named(name), SLOW[name]
    real, fake = logits(seed)
    for term, formula in (
        (loss.discriminator(real, fake), slow.disc),
        (gen_term(loss, fake, real), slow.gen),
    ):
        a, b = real.tolist(), fake.tolist()
        assert term.shape == ()
        assert term.item() == pytest.approx(formula(a, b), rel=1e-7, abs=1e-9)
        gradients = torch.autograd.grad(term, (real, fake), materialize_grads=True)
        for which, gradient in enumerate(gradients):
            expected = [_slope(formula, a, b, which, i) for i in range(len(a))]
            assert gradient.tolist() == pytest.approx(expected, abs=1e-6)


def _slope(
    formula: Callable[[list[float], list[float]], float], a: list[float], b: list[float], which: int, i: int
) -> float:
    h = 1e-5
    ends = []
    for shift in (h, -h):
        moved = (list(a), list(b))
        moved[which][i] += shift
        ends.append(formula(*moved))
    return (ends[0] - ends[1]) / (2 * h)


@pytest.mark.parametrize("name", NAMES)
def test_the_critic_is_high_on_reals(name: str) -> None:
    """D gains by raising reals and lowering fakes, G by raising fakes: nothing here has the reversed sign."""
    loss = loss_named(name)
    real, fake = logits(5, scale=0.3)
    d_real, d_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    (g_fake,) = torch.autograd.grad(gen_term(loss, fake, real.detach()), fake)
    assert (d_real <= 0).all()
    assert (d_fake >= 0).all() or name == "lsgan"  # least squares pulls a fake below 0 up to it
    assert (g_fake <= 0).all()
    assert d_real.sum() < 0
    assert g_fake.sum() < 0


@pytest.mark.parametrize("name", NAMES)
def test_zero_sum_means_that_the_generator_gets_the_opposite_gradient(name: str) -> None:
    loss = loss_named(name)
    real, fake = logits(6)
    (d_fake,) = torch.autograd.grad(loss.discriminator(real, fake), fake)
    (g_fake,) = torch.autograd.grad(gen_term(loss, fake, real), fake)
    opposite = torch.allclose(d_fake, -g_fake, rtol=0, atol=1e-12)
    assert loss.zero_sum == opposite


@pytest.mark.parametrize("size", [1e3, 1e18])
@pytest.mark.parametrize("name", NAMES)
def test_huge_logits_stay_finite(name: str, size: float) -> None:
    loss = loss_named(name)
    real = torch.tensor([size, -size, size, -size], requires_grad=True)
    fake = torch.tensor([size, -size, -size, size], requires_grad=True)
    for term in (loss.discriminator(real, fake), gen_term(loss, fake, real.detach())):
        gradients = torch.autograd.grad(term, (real, fake), materialize_grads=True)
        assert torch.isfinite(term)
        assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_terms_are_means_over_the_batch(name: str) -> None:
    loss = loss_named(name)
    real, fake = logits(8)
    twice_real, twice_fake = torch.cat([real, real]), torch.cat([fake, fake])
    torch.testing.assert_close(loss.discriminator(real, fake), loss.discriminator(twice_real, twice_fake))
    torch.testing.assert_close(gen_term(loss, fake, real), gen_term(loss, twice_fake, twice_real))


@pytest.mark.parametrize("name", NAMES)
def test_the_second_derivative_exists(name: str) -> None:
    """The unrolled trainer differentiates the discriminator's own gradient step."""
    loss = loss_named(name)
    real, fake = logits(9)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(loss.discriminator(real * scale, fake * scale), scale, create_graph=True)
    curved = torch.autograd.grad(first, scale, allow_unused=True)[0] if first.requires_grad else None
    assert curved is None or torch.isfinite(curved)
    assert name not in ("ns", "minimax", "lsgan", "rpgan") or (curved is not None and curved > 0)


@pytest.mark.parametrize("name", ["ns", "minimax"])
def test_label_smoothing_is_one_sided(name: str) -> None:
    smoothing = 0.1
    loss, plain = loss_named(name, label_smoothing=smoothing), loss_named(name)
    real, fake = logits(10)
    expected = cross_entropy(real.tolist(), 1 - smoothing) + cross_entropy(fake.tolist(), 0)
    assert loss.discriminator(real, fake).item() == pytest.approx(expected, rel=1e-7)
    torch.testing.assert_close(gen_term(loss, fake, real), gen_term(plain, fake, real))
    best = torch.full((3,), math.log((1 - smoothing) / smoothing), dtype=torch.float64, requires_grad=True)
    (at_best,) = torch.autograd.grad(loss.discriminator(best, fake), best)
    torch.testing.assert_close(at_best, torch.zeros_like(best), rtol=0, atol=1e-12)


def test_pairing_depends_on_who_meets_whom() -> None:
    loss = loss_named("rpgan")
    real, fake = logits(11)
    assert loss.uses_real
    assert loss.discriminator(real, fake) != loss.discriminator(real, fake.flip(0))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rpgan"])
def test_only_pairing_looks_at_reals_in_the_generator_step(name: str) -> None:
    assert not loss_named(name).uses_real


@pytest.mark.parametrize("name", NAMES)
def test_terms_come_from_the_logits_of_a_pass(name: str) -> None:
    loss = loss_named(name)
    real, fake = logits(12)
    samples = torch.zeros(len(real), 2)
    critic_pass = CriticPass(lambda x, _: x.sum(1), samples, samples, None, None, real, fake)
    assert loss.discriminator_terms(critic_pass) == {"loss": loss.discriminator(real, fake)}
    assert loss.generator_terms(critic_pass) == {"loss": gen_term(loss, fake, real)}


@pytest.mark.parametrize(("alias", "name"), [("bce", "ns"), ("vanilla", "ns"), ("wgan", "wgan-clip")])
def test_aliases(alias: str, name: str) -> None:
    assert type(loss_named(alias)) is type(loss_named(name))
