"""A critic that treats each sample by itself looks at reals and fakes in one pass, and learns the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import several
import torch
from torch import Tensor, nn

from ganzoo.api import MIXES_SAMPLES, Choice, Component, Spec
from ganzoo.config import Layer, RunConfig, resolve
from ganzoo.data import DataStream
from ganzoo.nn import Batch, Discriminator
from ganzoo.registry import build, registry
from ganzoo.testing.training import Session
from ganzoo.training import build as building
from ganzoo.training.alone import Alone

COMBINATIONS = dict(several.combinations())


def configure(**values: Any) -> RunConfig:
    return resolve([Layer("test", {name.replace("__", "."): value for name, value in values.items()})])


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained(config: RunConfig) -> list[Tensor]:
    stream = several.Parts([DataStream(build(config.data, config.spec()), config.run.batch_size, 0)])
    return several.trained(config, Alone(), stream, None)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", COMBINATIONS)
def test_gradients_and_weights_are_those_of_two_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = trained(COMBINATIONS[name])
    monkeypatch.setattr(building, "why_apart", lambda *_: "to compare")
    apart = trained(COMBINATIONS[name])
    assert max((mine - its).abs().max().item() for mine, its in zip(together, apart, strict=True)) < 1e-9


@pytest.mark.parametrize("disc", [entry.component.name for entry in registry().entries("discriminator")])
def test_logits_of_every_critic_in_one_pass_are_those_of_two(disc: str) -> None:
    data = "ring" if disc == "mlp" else "digits"
    chosen = {"data": data, "gen": "cgan" if disc == "cgan" else "auto", "disc": disc}
    bundle = Session(resolve([Layer("norm", {"disc.norm": "none"}, optional=True), Layer("test", chosen)])).bundle
    assert not bundle.apart
    x = torch.rand(10, *bundle.spec.shape) * 2 - 1
    classes = bundle.spec.num_classes
    y = torch.arange(10) % classes if classes else None
    real, fake = Batch(x[:4], None if y is None else y[:4]), Batch(x[4:], None if y is None else y[4:])
    with torch.no_grad():  # a power iteration would go on between the passes of a spectral norm
        bundle.disc.eval()
        seen = bundle.critic_pass(real, fake)
        torch.testing.assert_close(seen.real_logits, bundle.critic(*real), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(seen.fake_logits, bundle.critic(*fake), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"disc.norm": "none"}, ""),
        ({"disc.norm": "spectral"}, ""),
        ({"disc.norm": "instance"}, ""),
        ({"disc.norm": "batch"}, "mixes the samples"),
        ({"disc.norm": "none", "loss": "wgan-gp"}, ""),
        ({"disc.norm": "none", "reg": ("r1",)}, "gradient"),
        ({"disc.norm": "none", "reg": ("r2",)}, "gradient"),
    ],
    ids=str,
)
def test_what_may_be_one_pass_is(settings: dict[str, Any], why: str) -> None:
    config = resolve([Layer("test", {"data": "digits", "gen.width": 4, "disc.width": 4, **settings})])
    bundle = Session(config).bundle
    before = [value.clone() for value in bundle.disc.buffers()]
    found = building.why_apart(config.disc, bundle)
    assert found == bundle.apart
    assert why in found
    assert bool(why) == bool(found)
    assert all(map(torch.equal, before, bundle.disc.buffers()))  # it was only looked at


@dataclass(frozen=True)
class Options:
    """Of the critic below.

    Attributes:
        mixing: how it lets samples see each other, if at all.
    """

    mixing: str


MIXING: dict[str, Callable[[Tensor], Tensor]] = {
    "no": lambda x: x[:, :1],
    "deviation": lambda x: x.std(0).mean().expand(len(x), 1),  # arXiv:1710.10196, section 3, by hand
    "detached": lambda x: x.mean(0).detach()[:1].expand(len(x), 1),
    "the ones before": lambda x: x.cumsum(0)[:, :1],
}


class Mixing(Discriminator):
    """A critic with one more feature, behind weights that begin at zero, and a layer that is set by its first batch."""

    def __init__(self, config: Options, spec: Spec) -> None:
        super().__init__(spec)
        self.extra = MIXING[config.mixing]
        self.last = nn.Linear(3, 1)
        nn.init.zeros_(self.last.weight)
        self.scale = nn.Parameter(torch.zeros(()))
        self.ready = False

    def features(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if not self.ready:
            self.scale.data.copy_(x.std())
            self.ready = True
        return torch.cat((x * self.scale, self.extra(x)), 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        logits: Tensor = self.last(self.features(x)).squeeze(1)
        return logits


@pytest.mark.parametrize("traits", [(), (MIXES_SAMPLES,)], ids=["undeclared", "declared"])
@pytest.mark.parametrize("mixing", MIXING)
def test_a_critic_that_mixes_samples_is_found_out_and_left_as_it_is(traits: tuple[str, ...], mixing: str) -> None:
    options = Options(mixing)
    bundle = Session(configure(data="ring", gen="mlp", disc="mlp")).bundle
    bundle.disc = disc = Mixing(options, bundle.spec)
    component = Component("discriminator", "mixing", f"{__name__}:Mixing", Options, traits=traits)
    random = torch.default_generator.get_state()
    apart = building.why_apart(Choice("test/mixing", component, options), bundle)
    assert bool(apart) == (mixing != "no" or bool(traits))
    assert not disc.ready
    assert not any(p.any() for name, p in disc.named_parameters() if name != "last.bias")
    assert torch.equal(random, torch.default_generator.get_state())


def test_batches_of_which_one_has_labels_are_looked_at_apart() -> None:
    bundle = Session(configure(data="digits", gen="cgan", disc="cgan", disc__norm="none")).bundle
    assert not bundle.apart
    seen: list[Tensor | None] = []

    def critic(x: Tensor, y: Tensor | None) -> Tensor:
        seen.append(y)
        return x.flatten(1).sum(1)

    x, y = torch.zeros(2, *bundle.spec.shape), torch.zeros(2, dtype=torch.int64)
    bundle.critic_pass(Batch(x, y), Batch(x, None), critic)
    assert len(seen) == 2
    assert seen[0] is y
