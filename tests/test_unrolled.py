"""The unrolled trainer against the algorithm's own statements (arXiv:1611.02163, eqs. 7 to 12)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from installing import installed
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ganzoo.api import Spec, UsageError
from ganzoo.config import Layer, resolve
from ganzoo.nn import Batch, Bundle, Discriminator, Regularizer, build_optimizer
from ganzoo.testing import take_steps
from ganzoo.training.build import build_bundle
from ganzoo_unrolled import UnrolledConfig
from ganzoo_unrolled.trainer import UnrolledTrainer

SMALL: dict[str, Any] = {
    "data": "ring",
    "loss": "minimax",
    "gen.width": 8,
    "disc.width": 8,
    "gen.latent_dim": 3,
    "gen.activation": "tanh",
    "disc.activation": "tanh",
    "run.batch_size": 16,
}


def prepared(
    steps: int, settings: dict[str, Any] | None = None, *, dtype: torch.dtype = torch.float32, warm: int = 3
) -> Any:
    """A trainer whose critic has taken some steps, so that its optimiser has moments; one real and one fake batch."""
    config = resolve([Layer("test", {**SMALL, **(settings or {})})])
    bundle = build_bundle(config, config.spec(), torch.device("cpu"))
    bundle.gen_side.to(dtype)
    bundle.disc_side.to(dtype)
    bundle.disc_side.optimizer = build_optimizer(config.disc_optim, bundle.disc_side.trainable)
    bundle.begin(0)
    torch.manual_seed(1)
    z = torch.randn(16, 3, dtype=dtype)
    real = Batch(torch.randn(16, 2, dtype=dtype), None)
    for _ in range(warm):
        fake = Batch(bundle.gen(z).detach(), None)
        bundle.update_discriminator(bundle.discriminator_terms(critic_pass(bundle, real, fake)))
    trainer = UnrolledTrainer(UnrolledConfig(steps=steps), Spec((2,)))
    trainer.setup(bundle)
    return trainer, bundle, real, z, config


def critic_pass(bundle: Bundle, real: Batch, fake: Batch) -> Any:
    return bundle.critic_pass(real, fake, bundle.disc)


def generator_gradient(trainer: UnrolledTrainer, bundle: Bundle, real: Batch, z: Tensor) -> Tensor:
    terms = trainer.generator_terms(real, Batch(bundle.gen(z), None))
    grads = torch.autograd.grad(torch.stack(list(terms.values())).sum(), list(bundle.gen.parameters()))
    return torch.cat([grad.flatten() for grad in grads])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_k_unrolled_steps_are_k_optimizer_steps(optimizer: str) -> None:
    settings = {"disc_optim.name": optimizer, "disc_optim.lr": 1e-3, "disc_optim.weight_decay": 0.01}
    trainer, bundle, real, z, config = prepared(5, settings=settings)
    fake = Batch(bundle.gen(z).detach(), None)
    group = bundle.disc_side.optimizer.param_groups[0]
    decoupled = {
        key: group.pop(key) for key in ("decoupled_weight_decay",) if key in group
    }  # torch 2.6 has no such key
    unrolled = trainer.unroll(real, fake)
    group |= decoupled
    for _ in range(5):
        bundle.update_discriminator(bundle.discriminator_terms(bundle.critic_pass(real, fake)))
    for name, value in bundle.disc_side.named_parameters():
        torch.testing.assert_close(unrolled[name], value, rtol=0, atol=5e-7)
    assert config.disc_optim.name == optimizer


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
@pytest.mark.parametrize("before", range(4))
def test_parameters_that_some_steps_do_not_reach_are_passed_over_by_those(before: int, optimizer: str) -> None:
    of_optimizer = {"disc_optim.name": optimizer, "disc_optim.lr": 1e-2, "disc_optim.weight_decay": 0.01}
    settings = {**of_optimizer, "reg": ("lazy-r1",), "reg.lazy-r1.every": 2}
    with installed("lazy_parts"):  # a penalty of every other step, with a factor of its own that it learns
        trainer, bundle, real, z, _ = prepared(3, settings=settings, warm=0)
    fake = Batch(bundle.gen(z).detach(), None)

    def update() -> None:
        trainer._update_critic(bundle.discriminator_terms(bundle.critic_pass(real, fake)))

    for _ in range(before):
        update()
    state = trainer.state_dict()
    trainer.load_state_dict({})
    trainer.load_state_dict(state)
    unrolled = trainer.unroll(real, fake)
    assert torch.isfinite(generator_gradient(trainer, bundle, real, z)).all()
    for _ in range(3):
        update()
    for name, value in bundle.disc_side.named_parameters():
        torch.testing.assert_close(unrolled[name].detach(), value.detach(), rtol=0, atol=2e-6)


def test_k_0_is_the_saturating_gan_bit_for_bit() -> None:
    trainer, bundle, real, z, _ = prepared(0)
    ours = generator_gradient(trainer, bundle, real, z)
    logits = bundle.disc(bundle.gen(z))
    saturating = -torch.nn.functional.softplus(logits).mean()
    theirs = torch.cat([g.flatten() for g in torch.autograd.grad(saturating, list(bundle.gen.parameters()))])
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("steps", [1, 3])
def test_gradient_matches_finite_differences_of_f_k(optimizer: str, steps: int) -> None:
    settings = {"disc_optim.name": optimizer, "disc_optim.lr": 1e-2}
    trainer, bundle, real, z, _ = prepared(steps, dtype=torch.float64, settings=settings)

    # The run's critic computes logits in float32; differences need float64 throughout.
    def look(x: Tensor, y: Tensor | None) -> Tensor:
        logits: Tensor = bundle.disc(x, y)
        return logits

    bundle.critic = look

    def value(theta: Tensor) -> float:
        vector_to_parameters(theta, bundle.gen.parameters())
        terms = trainer.generator_terms(real, Batch(bundle.gen(z), None))
        return float(sum(term.detach().double() for term in terms.values()))

    original_pass = bundle.critic_pass

    def double_pass(real: Batch, fake: Batch, critic: Any = None) -> Any:
        looked = original_pass(real, fake, critic)
        looked.real_logits = bundle.disc(looked.real, None)
        looked.fake_logits = bundle.disc(looked.fake, None)
        return looked

    bundle.critic_pass = double_pass
    gradient = generator_gradient(trainer, bundle, real, z)
    theta = parameters_to_vector(bundle.gen.parameters()).detach().clone()
    torch.manual_seed(5)
    for _ in range(6):
        direction = torch.nn.functional.normalize(torch.randn_like(theta), dim=0)
        h = 1e-5
        slope = (value(theta + h * direction) - value(theta - h * direction)) / (2 * h)
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-5, abs=1e-9)
    vector_to_parameters(theta, bundle.gen.parameters())


def test_the_second_term_is_there() -> None:
    trainer, bundle, real, z, _ = prepared(3, settings={"disc_optim.lr": 1e-2})
    whole = generator_gradient(trainer, bundle, real, z)
    tensors = {name: value.detach() for name, value in trainer.unroll(real, Batch(bundle.gen(z), None)).items()}
    behind = torch.func.functional_call(
        bundle.disc_side,
        tensors,
        (lambda: sum(bundle.discriminator_terms(bundle.critic_pass(real, Batch(bundle.gen(z), None))).values()),),
    )
    first = torch.cat([g.flatten() for g in torch.autograd.grad(-behind, list(bundle.gen.parameters()))])
    assert (whole - first).norm() > 0.01 * whole.norm()


@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_the_generators_step_leaves_the_critic_as_it_was(norm: str) -> None:
    trainer, bundle, real, z, _ = prepared(4, settings={"disc.norm": norm})
    before = copy.deepcopy((bundle.disc_side.state_dict(), bundle.disc_side.optimizer.state_dict()))
    generator_gradient(trainer, bundle, real, z)
    after = (bundle.disc_side.state_dict(), bundle.disc_side.optimizer.state_dict())
    assert all(torch.equal(before[0][name], value) for name, value in after[0].items())
    for index, moments in after[1]["state"].items():
        assert all(torch.equal(before[1]["state"][index][key], value) for key, value in moments.items())


def test_the_critic_takes_one_ordinary_step_a_generator_step() -> None:
    config = resolve([Layer("test", {**SMALL, "trainer": "unrolled", "trainer.steps": 3})])
    bundle, _ = take_steps(config, 2)
    for side in (bundle.gen_side, bundle.disc_side):
        assert {float(state["step"]) for state in side.optimizer.state.values()} == {2.0}


def test_a_dead_critic_gives_no_nan() -> None:
    trainer, bundle, real, z, _ = prepared(3, warm=0, settings={"disc.activation": "relu"})
    with torch.no_grad():
        for name, parameter in bundle.disc.named_parameters():
            parameter.fill_(-1.0 if name.endswith("bias") else 0.0)
    gradient = generator_gradient(trainer, bundle, real, z)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("loss", ["minimax", "wgan-clip"])
def test_a_constraint_holds_in_every_unrolled_step(loss: str) -> None:
    trainer, bundle, real, z, _ = prepared(3, {"loss": loss})
    tensors = trainer.unroll(real, Batch(bundle.gen(z), None))
    largest = max(tensors[name].abs().max().item() for name, _ in bundle.disc_side.named_parameters())
    assert (largest <= 0.01 + 1e-9) is (loss == "wgan-clip")


class InPlaceOnly(Regularizer):
    name = "in-place"

    def after_step(self, disc: Discriminator) -> None:
        for parameter in disc.parameters():
            parameter.data.clamp_(-1, 1)


def test_a_constraint_that_is_no_function_is_refused() -> None:
    trainer, bundle, *_ = prepared(2)
    bundle.regularizers = (InPlaceOnly(None, Spec((2,))),)
    with pytest.raises(UsageError, match=r"in-place.*alternating"):
        trainer.setup(bundle)


def test_an_optimizer_without_a_formula_is_refused() -> None:
    trainer, bundle, *_ = prepared(2)
    bundle.disc_side.optimizer = torch.optim.Adagrad(bundle.disc_side.trainable)
    with pytest.raises(UsageError, match="Adagrad cannot be unrolled"):
        trainer.setup(bundle)


def test_time_and_memory_of_the_graph_grow_linearly() -> None:
    def saved_bytes(steps: int) -> int:
        trainer, bundle, real, z, _ = prepared(steps)
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.generator_terms(real, Batch(bundle.gen(z), None))
        return total

    two, four, six = map(saved_bytes, (2, 4, 6))
    assert six - four == pytest.approx(four - two, rel=0.02)
