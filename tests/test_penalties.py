"""Penalties and constraints of the critic against closed forms, finite differences and the Dirac-GAN."""

from __future__ import annotations

import cmath
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from ganzoo.api import Spec
from ganzoo.nn import (
    Batch,
    Bundle,
    CriticPass,
    Discriminator,
    Generator,
    Loss,
    Noise,
    Precision,
    Regularizer,
    Trainer,
    dragan_penalty,
    gradient_penalty,
)
from ganzoo.registry import create

CPU = torch.device("cpu")
SPEC = Spec((2, 3, 3))
PENALTIES = ["dragan", "gp", "r1", "r2"]


def regularizer(name: str, **options: Any) -> Regularizer:
    reg = create("regularizer", name, SPEC, **options)
    assert isinstance(reg, Regularizer)
    return reg


def value(reg: Regularizer, critic_pass: CriticPass) -> Tensor:
    penalty = reg.penalty(critic_pass)
    assert penalty is not None
    return penalty


def samples(seed: int, n: int = 8, shape: Iterable[int] = SPEC.shape) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Watched:
    """A critic that keeps what it was asked."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.asked: list[Tensor] = []

    def __call__(self, x: Tensor, y: Tensor | None) -> Tensor:
        self.asked.append(x.detach())
        logits: Tensor = self.function(x)
        return logits


def look(critic: Any, real: Tensor, fake: Tensor, *, shared: bool = False, full_precision: bool = True) -> CriticPass:
    """A pass as the bundle makes it; ``shared`` where a regularizer said that it differentiates there."""
    real, fake = (x.detach().requires_grad_(shared) for x in (real, fake))
    rng = torch.Generator().manual_seed(3)
    logits = critic(real, None), critic(fake, None)
    return CriticPass(critic, real, fake, None, None, *logits, rng, full_precision=full_precision)


def linear(weight: Tensor) -> Watched:
    return Watched(lambda x: x.flatten(1) @ weight)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("n", [1, 8])
def test_a_linear_critic_has_the_closed_forms_at_any_samples(n: int, shared: bool) -> None:
    weight = samples(0, 1).flatten().requires_grad_()
    norm = weight.norm()
    expected = {
        "gp": 10 * (norm - 1) ** 2,
        "dragan": 10 * (norm - 1) ** 2,
        "r1": norm**2 / 2,
        "r2": norm**2 / 2,
    }
    for name in PENALTIES:
        critic_pass = look(linear(weight), samples(1, n), samples(2, n), shared=shared)
        found = value(regularizer(name), critic_pass)
        torch.testing.assert_close(found, expected[name])
        torch.testing.assert_close(
            torch.autograd.grad(found, weight), torch.autograd.grad(expected[name], weight, retain_graph=True)
        )


@pytest.mark.parametrize("name", PENALTIES)
def test_weights_and_targets_scale_as_they_say(name: str) -> None:
    weight = samples(0, 1).flatten()
    key = "gamma" if name in ("r1", "r2") else "weight"
    one, three = (
        value(regularizer(name, **{key: factor}), look(linear(weight), samples(1), samples(2))) for factor in (1.0, 3.0)
    )
    torch.testing.assert_close(three, 3 * one)
    if key == "weight":
        met = regularizer(name, target=weight.norm().item())
        assert value(met, look(linear(weight), samples(1), samples(2))).item() == pytest.approx(0, abs=1e-12)


def test_half_the_squared_norm_has_the_sample_as_its_gradient() -> None:
    critic = Watched(lambda x: x.flatten(1).square().sum(1) / 2)
    real, fake = samples(1), samples(2)
    critic_pass = look(critic, real, fake)
    torch.testing.assert_close(critic_pass.real_gradient(), real)
    torch.testing.assert_close(critic_pass.fake_gradient(), fake)
    of_norms = real.flatten(1).norm(dim=1)
    torch.testing.assert_close(value(regularizer("r1", gamma=2.0), critic_pass), of_norms.square().mean())
    torch.testing.assert_close(
        value(regularizer("r2", gamma=2.0), critic_pass), fake.flatten(1).norm(dim=1).square().mean()
    )
    same = look(critic, real, real)
    torch.testing.assert_close(gradient_penalty(same), (of_norms - 1).square().mean())


def test_interpolates_lie_on_the_segment_with_one_share_for_each_sample() -> None:
    real, fake = samples(1), samples(2)
    critic = Watched(lambda x: x.flatten(1).sum(1))
    gradient_penalty(look(critic, real, fake))
    share = ((critic.asked[-1] - fake) / (real - fake)).flatten(1)
    assert ((share >= 0) & (share < 1)).all()
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert len(set(share[:, 0].tolist())) == len(real)


def test_dragan_looks_around_the_reals_on_one_side() -> None:
    real = samples(1, 4000)
    critic = Watched(lambda x: x.flatten(1).sum(1))
    dragan_penalty(look(critic, real, real))
    delta = ((critic.asked[-1] - real) / (0.5 * real.std(correction=0))).flatten(1)
    assert ((delta >= 0) & (delta <= 1)).all()
    assert len(set(delta.flatten().tolist())) > 0.9 * delta.numel()
    assert delta.mean().item() == pytest.approx(0.25, abs=0.01), "a product of two uniform numbers"
    assert delta.mean(1).std().item() == pytest.approx(0.5 * 12**-0.5, abs=0.02), "one of them for a whole sample"


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_dead_critic_has_finite_gradients(name: str, shared: bool) -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(18, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    nn.init.constant_(critic.get_parameter("1.bias"), -1e3)
    critic_pass = look(Watched(lambda x: critic(x).squeeze(1)), samples(1), samples(2), shared=shared)
    penalty = value(regularizer(name), critic_pass)
    gradients = torch.autograd.grad(penalty, list(critic.parameters()), materialize_grads=True)
    assert penalty.item() == pytest.approx(10.0 if name in ("gp", "dragan") else 0.0)
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", PENALTIES)
def test_gradients_for_the_parameters_are_those_of_finite_differences(name: str, shared: bool) -> None:
    torch.manual_seed(1)
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    reg, real, fake = regularizer(name), samples(1, 5, (2,)), samples(2, 5, (2,))

    def penalty() -> Tensor:
        return value(reg, look(Watched(lambda x: critic(x).squeeze(1)), real, fake, shared=shared))

    parameters = [critic.get_parameter(name) for name in ("0.weight", "0.bias", "2.weight")]
    h = 1e-6
    for parameter, gradient in zip(parameters, torch.autograd.grad(penalty(), parameters), strict=True):
        flat = parameter.detach().view(-1)
        for i in range(len(flat)):
            start = flat[i].item()
            ends = []
            for moved in (start + h, start - h):
                flat[i] = moved
                ends.append(penalty().item())
            flat[i] = start
            assert gradient.view(-1)[i].item() == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-7)


def small_disc(name: str = "dcgan", **options: Any) -> Discriminator:
    torch.manual_seed(0)
    disc = create("discriminator", name, Spec((1, 16, 16), 3), **{"width": 4, "norm": "none", **options})
    assert isinstance(disc, Discriminator)
    return disc


def bundle_of(gen: Generator, disc: Discriminator, loss: Loss, *regs: Regularizer, lr: float = 0.1) -> Bundle:
    def sgd(parameters: list[Tensor]) -> Optimizer:
        return SGD(parameters, lr)

    return Bundle(
        spec=disc.spec,
        gen=gen,
        disc=disc,
        loss=loss,
        regularizers=regs,
        gen_optimizer=sgd,
        disc_optimizer=sgd,
        noise=Noise(0, CPU),
        precision=Precision("fp32", CPU),
    )


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_sharing_the_loss_forward_changes_nothing_but_the_work(name: str) -> None:
    torch.manual_seed(0)
    disc = small_disc()
    gen = create("generator", "mlp", disc.spec)
    bundle = bundle_of(gen, disc, create("loss", "ns", disc.spec), regularizer(name, gamma=3.0))
    real, fake = torch.randn(2, 4, 1, 16, 16)
    gradients, calls = [], []
    for full_precision in (True, False):
        critic = Watched(disc)
        critic_pass = bundle.critic_pass(Batch(real), Batch(fake), critic)
        critic_pass.full_precision = full_precision
        total = torch.stack(list(bundle.discriminator_terms(critic_pass).values())).sum()
        gradients.append(torch.autograd.grad(total, list(disc.parameters())))
        calls.append(len(critic.asked))
    assert calls == [2, 3]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_r1_and_r2_at_once_look_no_further_than_the_loss() -> None:
    disc = small_disc()
    gen = create("generator", "mlp", disc.spec)
    bundle = bundle_of(gen, disc, create("loss", "rpgan", disc.spec), regularizer("r1"), regularizer("r2"))
    critic = Watched(disc)
    real, fake = torch.randn(2, 4, 1, 16, 16)
    terms = bundle.discriminator_terms(bundle.critic_pass(Batch(real), Batch(fake), critic))
    assert list(terms) == ["loss", "r1", "r2"]
    assert len(critic.asked) == 2


@pytest.mark.parametrize("name", ["r1", "r2"])
def test_the_penalty_of_a_batch_is_the_mean_of_its_samples(name: str) -> None:
    disc = small_disc().double()
    reg, real, fake = regularizer(name), samples(1, 4, (1, 16, 16)), samples(2, 4, (1, 16, 16))
    single = [value(reg, look(Watched(disc), real[i : i + 1], fake[i : i + 1])) for i in range(len(real))]
    torch.testing.assert_close(
        value(reg, look(Watched(disc), real, fake)), torch.stack(single).mean(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("norm", ["layer", "none", "spectral", "group", "instance"])
def test_one_sample_does_not_move_the_gradient_of_another(norm: str) -> None:
    disc = small_disc(norm=norm).double().eval()
    real = samples(1, 3, (1, 16, 16))
    other = torch.cat([real[:1], samples(4, 2, (1, 16, 16))])
    first, second = (look(Watched(disc), x, x).real_gradient()[0] for x in (real, other))
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


def test_the_gradient_penalty_of_wgan_gp_is_the_regularizer_with_its_weight() -> None:
    weight = samples(0, 1).flatten()
    (reg,) = create("loss", "wgan-gp", SPEC, gp_weight=7.0).regularizers()
    assert reg.name == "gp"
    found = value(reg, look(linear(weight), samples(1), samples(2)))
    torch.testing.assert_close(
        found, value(regularizer("gp", weight=7.0), look(linear(weight), samples(1), samples(2)))
    )
    assert create("loss", "wgan-gp", SPEC, gp_weight=0.0).regularizers() == ()


class Fixed:
    """A stream of one batch."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.drawn = 0

    def next(self) -> Batch:
        self.drawn += 1
        return self.batch


def alternating(bundle: Bundle, **options: Any) -> Trainer:
    trainer = create("trainer", "alternating", bundle.spec, **options)
    assert isinstance(trainer, Trainer)
    trainer.setup(bundle)
    return trainer


@pytest.mark.parametrize("clip", [0.01, 0.003])
def test_clipping_holds_after_every_critic_step_and_spares_the_generator(clip: float) -> None:
    torch.manual_seed(0)
    disc = small_disc(norm="batch")
    gen = create("generator", "dcgan", disc.spec, width=4)
    bundle = bundle_of(gen, disc, create("loss", "wgan-clip", disc.spec, clip=clip))
    real, fake = torch.randn(2, 4, 1, 16, 16)
    before = [p.detach().clone() for p in gen.parameters()]
    bundle.update_discriminator(bundle.discriminator_terms(bundle.critic_pass(Batch(real), Batch(fake))))
    assert all(p.abs().max() <= clip for p in disc.parameters())
    assert any(p.abs().max() == torch.tensor(clip) for p in disc.parameters())
    assert all(torch.equal(p, old) for p, old in zip(gen.parameters(), before, strict=True))
    assert max(p.abs().max() for p in gen.parameters()) > clip


def test_the_clip_in_place_is_its_projection() -> None:
    disc = small_disc(norm="spectral")
    (reg,) = create("loss", "wgan-clip", disc.spec).regularizers()
    projected = reg.project(dict(disc.named_parameters()))
    reg.after_step(disc)
    for name, parameter in disc.named_parameters():
        assert torch.equal(parameter, projected[name])


def test_the_warm_up_of_the_authors() -> None:
    cold, warm = (create("loss", "wgan-clip", SPEC, warmup=warmup) for warmup in (False, True))
    assert {cold.critic_steps(step, 5) for step in range(1001)} == {5}
    many = {step for step in range(1001) if warm.critic_steps(step, 5) == 100}
    assert many == {*range(25), 500, 1000}
    assert warm.critic_steps(25, 5) == 5


class DiracGenerator(Generator):
    """All its samples are theta."""

    def __init__(self, theta: float) -> None:
        super().__init__(Spec((1,)), latent_dim=1)
        self.theta = nn.Parameter(torch.tensor(theta))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.theta.expand(len(z), 1)


class DiracCritic(Discriminator):
    """``D(x) = psi x``."""

    def __init__(self, psi: float) -> None:
        super().__init__(Spec((1,)))
        self.psi = nn.Parameter(torch.tensor(psi))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.psi * x[:, 0]

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x


def dirac(gamma: float, loss: str, theta: float, psi: float, lr: float = 0.1) -> Bundle:
    regs = [regularizer("r1", gamma=gamma)] if gamma else []
    return bundle_of(DiracGenerator(theta), DiracCritic(psi), create("loss", loss, Spec((1,))), *regs, lr=lr)


def dirac_field(gamma: float, loss: str, theta: float, psi: float) -> list[float]:
    """Direction in which simultaneous gradient descent moves (theta, psi)."""
    bundle = dirac(gamma, loss, theta, psi)
    real, fake = Batch(torch.zeros(2, 1)), bundle.generate(2, None)
    d_pass = bundle.critic_pass(real, Batch(fake.x.detach()))
    d_total = torch.stack(list(bundle.discriminator_terms(d_pass).values())).sum()
    g_total = bundle.loss.generator_terms(bundle.generator_pass(fake, None))["loss"]
    (d_theta,) = torch.autograd.grad(g_total, bundle.gen_side.trainable)
    (d_psi,) = torch.autograd.grad(d_total, bundle.disc_side.trainable)
    return [-d_theta.item(), -d_psi.item()]


@pytest.mark.parametrize("loss", ["minimax", "ns"])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_eigenvalues_of_the_dirac_gan(gamma: float, loss: str) -> None:
    """``-gamma/2 +- sqrt(gamma^2/4 - f'(0)^2)`` with f'(0) = 1/2 (arXiv:1801.04406, lemma 2.3 and section 4.1)."""
    h = 1e-2
    ends = [(dirac_field(gamma, loss, *up), dirac_field(gamma, loss, *down)) for up, down in _axes(h)]
    columns = [[(a - b) / (2 * h) for a, b in zip(up, down, strict=True)] for up, down in ends]
    found = torch.linalg.eigvals(torch.tensor(columns).T)
    root = cmath.sqrt(gamma**2 / 4 - 1 / 4)
    expected = torch.tensor([-gamma / 2 + root, -gamma / 2 - root])
    # Root-mean distance of the pair: a double eigenvalue (gamma = 1) moves with the square root of rounding.
    distance = min((found - expected).abs().max().item(), (found.flip(0) - expected).abs().max().item())
    assert distance < (0.02 if gamma == 1 else 1e-3)


def _axes(h: float) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return [((h, 0.0), (-h, 0.0)), ((0.0, h), (0.0, -h))]


@pytest.mark.parametrize(("gamma", "loss"), [(0.0, "minimax"), (0.0, "wgan-clip"), (1.0, "minimax"), (1.0, "ns")])
def test_only_r1_brings_the_dirac_gan_to_rest(gamma: float, loss: str) -> None:
    bundle = dirac(gamma, loss, theta=1.0, psi=0.0)
    if loss == "wgan-clip":
        bundle.regularizers = ()  # Wasserstein without its constraint orbits too
    trainer = alternating(bundle)
    stream = Fixed(Batch(torch.zeros(2, 1)))
    radii = []
    for step in range(300):
        bundle.begin(step)
        trainer.step(stream)
        radii.append(sum(p.item() ** 2 for p in (*bundle.gen.parameters(), *bundle.disc.parameters())) ** 0.5)
    if gamma:
        assert radii[-1] < 1e-3
    else:
        assert 0.5 < min(radii[-100:]) < max(radii[-100:]) < 2
