"""The default trainer against the loop that everybody knows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from installing import installed
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam, Optimizer

from ganzoo.api import Spec
from ganzoo.config import Layer, resolve
from ganzoo.nn import Batch, Bundle, Noise, Precision, Trainer
from ganzoo.registry import create
from ganzoo.testing import noise, take_steps

CPU = torch.device("cpu")
SPEC = Spec((1, 16, 16), 3)


class Reals:
    """A reproducible stream that counts."""

    def __init__(self) -> None:
        self.rng = torch.Generator().manual_seed(7)
        self.drawn: list[Batch] = []

    def next(self) -> Batch:
        x = torch.rand(4, *SPEC.shape, generator=self.rng) * 2 - 1
        self.drawn.append(Batch(x, torch.randint(3, (4,), generator=self.rng)))
        return self.drawn[-1]


def networks() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return create("generator", "dcgan", SPEC, width=4, latent_dim=8), create("discriminator", "dcgan", SPEC, width=4)


def adam(parameters: Any) -> Optimizer:
    return Adam(parameters, 2e-4, (0.5, 0.999))


def trainer_for(gen: Any, disc: Any, loss: str, **options: Any) -> Trainer:
    trainer = create("trainer", "alternating", SPEC, **options)
    assert isinstance(trainer, Trainer)
    trainer.setup(
        Bundle(
            spec=SPEC,
            gen=gen,
            disc=disc,
            loss=create("loss", loss, SPEC),
            regularizers=(),
            gen_optimizer=adam,
            disc_optimizer=adam,
            noise=Noise(0, CPU),
            precision=Precision("fp32", CPU),
        )
    )
    return trainer


def test_it_is_the_classic_dcgan_loop() -> None:
    gen, disc = networks()
    trainer, stream = trainer_for(gen, disc, "ns"), Reals()
    theirs_gen, theirs_disc = networks()
    gen_optimizer, disc_optimizer = adam(theirs_gen.parameters()), adam(theirs_disc.parameters())
    noise, reals = Noise(0, CPU), Reals()
    for step in range(3):
        trainer.bundle.begin(step)
        metrics = trainer.step(stream)

        noise.begin(step)
        real = reals.next().x
        fake = theirs_gen(torch.randn(4, 8, generator=noise.rng))
        logits = theirs_disc(real), theirs_disc(fake.detach())
        loss_real = binary_cross_entropy_with_logits(logits[0], torch.ones(4))
        loss_d = loss_real + binary_cross_entropy_with_logits(logits[1], torch.zeros(4))
        disc_optimizer.zero_grad()
        torch.autograd.backward(loss_d)
        disc_optimizer.step()
        loss_g = binary_cross_entropy_with_logits(theirs_disc(fake), torch.ones(4))
        gen_optimizer.zero_grad()
        torch.autograd.backward(loss_g)
        gen_optimizer.step()

        torch.testing.assert_close(metrics["loss_d"], loss_d.detach())
        torch.testing.assert_close(metrics["loss_g"], loss_g.detach())
        torch.testing.assert_close(metrics["d_real"], logits[0].mean().detach())
        torch.testing.assert_close(metrics["d_fake"], logits[1].mean().detach())
    for ours, theirs in ((gen, theirs_gen), (disc, theirs_disc)):
        for mine, its in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    ("loss", "steps", "batches", "forwards"), [("ns", 1, 1, 1), ("ns", 3, 3, 3), ("rpgan", 2, 3, 3)]
)
def test_how_often_it_draws_and_generates(loss: str, steps: int, batches: int, forwards: int) -> None:
    gen, disc = networks()
    trainer, stream = trainer_for(gen, disc, loss, critic_steps=steps), Reals()
    labels: list[Tensor] = []
    gen.register_forward_pre_hook(lambda _, args: labels.append(args[1]))
    trainer.bundle.begin(0)
    metrics = trainer.step(stream)
    assert len(stream.drawn) == batches
    assert len(labels) == forwards
    assert all(real.y is not None and torch.equal(y, real.y) for y, real in zip(labels, stream.drawn, strict=True))
    assert set(metrics) == {"loss_d", "loss_g", "d_real", "d_fake"}
    assert all(metric.shape == () and not metric.requires_grad for metric in metrics.values())


@pytest.mark.parametrize(("loss", "term"), [("wgan-gp", "gp")])
def test_further_terms_are_metrics_and_part_of_the_total(loss: str, term: str) -> None:
    torch.manual_seed(0)
    gen, disc = create("generator", "mlp", SPEC), create("discriminator", "mlp", SPEC)
    trainer = trainer_for(gen, disc, loss)
    trainer.bundle.begin(0)
    metrics = trainer.step(Reals())
    torch.testing.assert_close(metrics["loss_d"], metrics["d_fake"] - metrics["d_real"] + metrics[term])


def test_each_step_moves_both_players_and_only_by_their_own_loss() -> None:
    gen, disc = networks()
    trainer = trainer_for(gen, disc, "ns")
    before = [p.detach().clone() for side in (gen, disc) for p in side.parameters()]
    trainer.bundle.begin(0)
    trainer.step(Reals())
    after = [p for side in (gen, disc) for p in side.parameters()]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    # Adam's first step is at most its learning rate: nobody stepped twice.
    assert max((old - new).abs().max() for old, new in zip(before, after, strict=True)) < 2.1e-4


@pytest.mark.parametrize(("loss", "drawn"), [("ns", [False, False, True]), ("rpgan", [False, False, False, True])])
def test_graphs_are_built_only_where_they_are_used(loss: str, drawn: list[bool]) -> None:
    gen, disc = networks()
    trainer = trainer_for(gen, disc, loss, critic_steps=3)
    made: list[bool] = []
    seen: list[bool] = []
    gen.register_forward_hook(lambda _, __, fake: made.append(fake.requires_grad))
    disc.register_forward_pre_hook(lambda _, args: seen.append(args[0].requires_grad))
    trainer.bundle.begin(0)
    trainer.step(Reals())
    assert made == drawn
    assert seen[:6] == [False] * 6, "the critic's own steps see detached fakes"
    assert seen[6], "the generator's step does not"


@pytest.mark.parametrize("trainer", ["alternating", "unrolled"])
def test_further_terms_of_the_generator_are_metrics_too(trainer: str) -> None:
    chosen = {"gen": "mlp", "disc": "mlp", "data": "digits", "data.size": 8, "run.batch_size": 4, "trainer": trainer}
    with installed("particular_parts"):
        config = resolve([Layer("test", chosen | {"loss": "classes"})])
        (metrics,) = take_steps(config, 1, dataset=noise(config.spec()))[1]
        plain = take_steps(resolve([Layer("test", chosen | {"loss": "minimax"})]), 1, dataset=noise(config.spec()))[1]
    assert set(metrics) == {"loss_d", "loss_g", "d_real", "d_fake", "classes", "contrast"}
    assert 0 < metrics["contrast"] < 1
    assert set(plain[0]) == {"loss_d", "loss_g", "d_real", "d_fake"}
