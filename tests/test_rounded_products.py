"""Products of float32 matrices whose factors are rounded to bfloat16: where they are, and where never."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from running import POINTS, weights
from torch import Tensor, nn

import ganzoo
from ganzoo.config import Layer, resolve
from ganzoo.nn import Batch, CriticPass, Precision
from ganzoo.nn.precision import ROUNDED, can_round_products
from ganzoo.settings import PRODUCTS
from ganzoo.testing.training import Session
from ganzoo.training import fast
from ganzoo.training.loop import Session as LiveSession
from ganzoo.training.run import Run

pytestmark = pytest.mark.skipif(not can_round_products(), reason="this torch cannot")
CPU = torch.device("cpu")
WIDE: dict[str, Any] = {**POINTS, "gen": "mlp", "disc": "mlp", "gen.width": 400, "disc.width": 400, "run.steps": 3}


def now() -> str:
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    return str(matmul.fp32_precision)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = now()
    yield
    assert now() == before


def watched(net: nn.Module) -> dict[str, list[str]]:
    """What products did in each forward pass of a network, and in each of its backward passes."""
    seen: dict[str, list[str]] = {"forward": [], "backward": []}
    net.register_forward_pre_hook(lambda *_: seen["forward"].append(now()))
    first: Any = next(net.parameters())
    first.register_hook(lambda _: seen["backward"].append(now()))
    return seen


@pytest.mark.parametrize(
    ("settings", "penalties", "critics_backward"),
    [
        ({"loss": "ns"}, 0, "bf16"),
        ({"loss": "ns", "reg": ("r1",)}, 1, "none"),
        ({"loss": "wgan-gp", "trainer.critic_steps": 1}, 1, "none"),
    ],
)
def test_what_is_differentiated_twice_is_never_rounded(
    settings: dict[str, Any], penalties: int, critics_backward: str
) -> None:
    one = Session(resolve([Layer("test", {**POINTS, "gen": "mlp", "disc": "mlp", **settings})]))
    one.bundle.precision = Precision(PRODUCTS, CPU)
    of_gen, of_disc = watched(one.bundle.gen), watched(one.bundle.disc)
    one.take(1)
    assert now() == "none"
    assert of_gen == {"forward": ["bf16"], "backward": ["bf16"]}
    assert of_disc["backward"] == [critics_backward]
    assert of_disc["forward"].count("none") == penalties
    assert of_disc["forward"][-1] == "bf16"  # in the generator's step


def test_a_loss_that_takes_a_gradient_by_itself_is_not_rounded() -> None:
    one = Session(resolve([Layer("test", {**POINTS, "gen": "mlp", "disc": "mlp", "loss": "ns"})]))
    one.bundle.precision = Precision(PRODUCTS, CPU)
    of_disc, plain = watched(one.bundle.disc), one.bundle.loss.discriminator_terms

    def with_penalty(seen: CriticPass) -> dict[str, Tensor]:
        x = seen.real.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(seen.critic(x, None).sum(), x, create_graph=True)
        return {**plain(seen), "mine": (gradient**2).mean()}

    one.bundle.loss.discriminator_terms = with_penalty  # type: ignore[method-assign, assignment]
    one.take(1)
    assert set(of_disc["backward"]) == {"none"}


def test_a_copy_of_a_pass_tells_of_its_gradients_too() -> None:
    x = torch.randn(4, 2)
    seen = CriticPass(lambda x, _: x.sum(1), x, x, None, None, x.sum(1), x.sum(1))
    copy = dataclasses.replace(seen, real=2 * x)
    assert not seen.again
    copy.critic(x, None)
    assert seen.again == [True]
    dataclasses.replace(copy, critic=lambda x, _: x.prod(1)).real_gradient()
    assert len(seen.again) == 3  # a gradient was asked for, and the critic called for it


def test_both_passes_before_an_update_are_not_rounded_if_one_is_differentiated_twice() -> None:
    one = Session(resolve([Layer("test", {**POINTS, "gen": "mlp", "disc": "mlp", "loss": "ns", "reg": ("r1",)})]))
    bundle = one.bundle
    bundle.precision = Precision(PRODUCTS, CPU)
    of_disc = watched(bundle.disc)
    bundle.begin(0)
    real = one.stream.next()
    fake = bundle.generate(len(real.x), real.y)
    of_critic = bundle.discriminator_terms(bundle.critic_pass(real, Batch(fake.x.detach(), fake.y)))
    of_gen = bundle.loss.generator_terms(bundle.generator_pass(fake, None))
    bundle.update_generator(of_gen)
    bundle.update_discriminator(of_critic)
    assert set(of_disc["backward"]) == {"none"}


def test_a_trainer_that_differentiates_twice_is_never_offered_it() -> None:
    one = Session(resolve([Layer("test", {**POINTS, "loss": "minimax", "trainer": "unrolled"})]))
    assert not one.trainer.differentiates_once
    one.bundle.precision = Precision(PRODUCTS, CPU)
    of_gen = watched(one.bundle.gen)
    one.take(1)
    assert set(of_gen["backward"]) == {"none"}


def test_products_are_those_of_float32_but_for_the_rounding() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(64, 512, generator=rng), torch.randn(512, 512, generator=rng)
    with Precision(PRODUCTS, CPU).autocast():
        found = a @ b
    assert found.dtype == torch.float32
    assert ((found - a @ b).norm() / found.norm()).item() < 0.01
    with torch.autocast("cpu", torch.bfloat16), Precision(PRODUCTS, CPU).autocast():
        assert now() == "none"  # where somebody casts, nothing else is done


def test_an_error_leaves_torch_as_it_was() -> None:
    with pytest.raises(ValueError, match="mine"), ROUNDED, ROUNDED:
        raise ValueError("mine")


def test_it_is_offered_to_networks_of_linear_layers_that_are_differentiated_once(tmp_path: Path) -> None:
    def offered(**more: Any) -> bool:
        config = resolve([Layer("test", {**WIDE, "loss": "minimax", "run.out": tmp_path, **more}, optional=True)])
        session = LiveSession(Run.create(config, config.spec(), {}), CPU, say=lambda _: None)
        return fast._may_round_products(session)

    assert offered()
    assert not offered(trainer="unrolled")
    assert not offered(data="digits", gen="dcgan", disc="dcgan", **{"gen.width": 64, "disc.width": 64})


def test_a_run_goes_on_as_it_began(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fast, "_has_bf16", lambda _: True)
    wanted = {"chosen": (PRODUCTS, "contiguous"), "reason": "the test wants it", "passing": True}
    monkeypatch.setattr(fast, "_quickest", lambda *_: (wanted, ""))

    def trained(name: str, precision: str) -> Run:
        return ganzoo.train({**WIDE, "run.out": tmp_path, "run.name": name, "run.precision": precision})

    def decision(run: Run) -> dict[str, str]:
        listed = json.loads((run.path / "config.json").read_text(encoding="utf-8"))["decisions"]
        (found,) = (each for each in listed if each["name"] == "precision")
        return dict(found)

    runs = {asked: trained(f"as-{asked}", asked) for asked in ("auto", "bf16", "fp32")}
    for asked in ("auto", "bf16"):
        assert decision(runs[asked]) == {"name": "precision", "value": PRODUCTS, "reason": "the test wants it"}
    assert weights(runs["auto"], 3) == weights(runs["bf16"], 3)
    rounded, full = (_parameters(runs[asked]) for asked in ("auto", "fp32"))
    assert ((rounded - full).norm() / full.norm()).item() < 0.05
    resumed = ganzoo.train({}, resume=runs["auto"].path, steps=6)
    assert decision(resumed) == {"name": "precision", "value": PRODUCTS, "reason": "as the run began"}


def _parameters(run: Run) -> Tensor:
    return torch.cat([p.detach().flatten() for p in ganzoo.load(run.path).parameters()])
