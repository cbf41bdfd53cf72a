"""From a configuration to live objects."""

from __future__ import annotations

import dataclasses
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from ganzoo.api import MIXES_SAMPLES, Choice, Plan, Spec
from ganzoo.blame import faulty
from ganzoo.config import RunConfig
from ganzoo.decisions import AUTO, MIXING, Arrangement
from ganzoo.errors import UsageError
from ganzoo.nn import Bundle, CriticPass, Discriminator, Generator, Loss, Noise, Precision, Regularizer
from ganzoo.nn.bundle import derive_seed
from ganzoo.nn.communication import Communication
from ganzoo.nn.convolution import guard
from ganzoo.nn.optim import build_optimizer, build_schedule
from ganzoo.nn.traits import Dependence, dependence, observed_traits
from ganzoo.registry import build

_FEW: Final = 4
"""Samples that a critic is tried with."""
_DEPENDS: Final = "its logits depend on other samples of the batch"
_LAYOUTS: Final = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def build_bundle(
    config: RunConfig, spec: Spec, device: torch.device, communication: Communication | None = None
) -> Bundle:
    """Networks, objectives and optimisers on ``device``.

    They are built on the CPU from the seed, so that every device starts from the same weights, and then moved.
    """
    seed = config.run.seed
    torch.default_generator.manual_seed(derive_seed(seed, "init"))  # torch.manual_seed is slow: see Noise
    gen = cast("Generator", _built(config.gen, spec, device)).train()
    disc = cast("Discriminator", _built(config.disc, spec, device)).train()
    loss = cast("Loss", _built(config.loss, spec, device))
    regularizers = [cast("Regularizer", _built(reg, spec, device)) for reg in config.regs]
    bundle = _Watched(
        config,
        spec=spec,
        gen=gen,
        disc=disc,
        loss=loss,
        regularizers=regularizers,
        gen_optimizer=lambda parameters: build_optimizer(config.gen_optim, _some(config.gen, parameters)),
        disc_optimizer=lambda parameters: build_optimizer(config.disc_optim, _some(config.disc, parameters)),
        noise=Noise(seed, device, communication.rank if communication else 0),
        precision=Precision("fp32", device),
        communication=communication,
        gen_rate=build_schedule(config.gen_optim),
        disc_rate=build_schedule(config.disc_optim),
    )
    bundle.apart = why_apart(config.disc, bundle)
    # What is left to be measured (fast.py) is plain until then.
    precision, layout = config.run.precision, config.run.layout
    arrange(bundle, Arrangement("fp32" if precision == AUTO else precision, "contiguous" if layout == AUTO else layout))
    return bundle


class _Watched(Bundle):
    """A bundle that looks at the shape of every term; a regularizer's may be wrong only when its turn comes.

    A term ``[B]`` could be added to the others, and would train something else. Shapes are known without the device.
    """

    def __init__(self, config: RunConfig, **parts: Any) -> None:
        super().__init__(**parts)
        own = len(self.regularizers) - len(config.regs)
        choices = [*[config.loss] * own, *config.regs]
        self._brought_by = {reg.name: choice for reg, choice in zip(self.regularizers, choices, strict=True)}
        self._loss_choice = config.loss

    def discriminator_terms(self, critic_pass: CriticPass) -> dict[str, Tensor]:
        """The terms, each of which is a scalar."""
        terms = super().discriminator_terms(critic_pass)
        for name, term in cast("dict[str, object]", terms).items():
            if not isinstance(term, Tensor) or term.dim():
                given = f"a tensor {tuple(term.shape)}" if isinstance(term, Tensor) else f"a {type(term).__name__}"
                does = f"returns {given} as its term {name!r}, not a scalar"
                raise faulty(self._brought_by.get(name, self._loss_choice), does, "take the mean over the batch")
        return terms


def _built(choice: Choice, spec: Spec, device: torch.device) -> nn.Module:
    module: nn.Module = build(choice, spec).to(device)
    lazy = [name for name, value in module.named_parameters() if isinstance(value, UninitializedParameter)]
    if lazy:
        does = f"has a lazy layer, whose {lazy[0]!r} has no size until it is called"
        raise faulty(choice, does, "take the layer that is not lazy; its sizes follow from the spec")
    return module


def _some(choice: Choice, parameters: list[Tensor]) -> list[Tensor]:
    if not parameters:
        raise faulty(choice, "has no parameter that can learn", "give it one, with requires_grad=True")
    return parameters


def arrange(bundle: Bundle, arrangement: Arrangement) -> None:
    """Let the networks of a bundle that has taken no step compute and lie in memory in this way."""
    if bundle.precision.name != arrangement.precision:
        bundle.precision = Precision(arrangement.precision, bundle.precision.device)  # type: ignore[arg-type]
    for network in (bundle.gen, bundle.disc):
        guard(network, on=arrangement != Arrangement("fp32", "contiguous") and bundle.precision.device.type == "cpu")
    bundle.arrange(_LAYOUTS[arrangement.layout])


def why_apart(choice: Choice, bundle: Bundle) -> str:
    """Why the critic must look at reals and fakes one after the other, in half a sentence; empty if it need not."""
    if MIXES_SAMPLES in choice.component.traits_of(choice.config, bundle.spec) | observed_traits(bundle.disc):
        return MIXING
    if bundle.shares_gradients:
        return "a penalty takes the gradient at one of them from their common pass"
    seen = _seen(bundle)
    if seen is None:
        return "whether it mixes samples could not be tried"
    if seen.place:
        return "its logits depend on the size of the batch, on their place in it, or on the pass before"
    return _DEPENDS if seen.others else ""


def _seen(bundle: Bundle) -> Dependence | None:
    """What the critic's logits are seen to depend on beside their own samples; None if that cannot be tried."""
    spec, device = bundle.spec, bundle.precision.device
    rng = torch.Generator().manual_seed(derive_seed("apart"))
    x = (torch.rand(_FEW, *spec.shape, generator=rng) * 2 - 1).to(device)
    y = torch.arange(_FEW, device=device) // 2 % spec.num_classes if spec.num_classes else None
    try:
        return dependence(bundle.disc, x, y)
    except Exception:  # a faulty network is told of by what checks contracts
        return None


def check_what_was_built(plan: Plan, bundle: Bundle) -> None:
    """Rules once more, on traits seen in the networks: a critic may hold a batch norm that it does not declare.

    Raises:
        UsageError: a rule refuses what was built.
    """
    observed = {"gen": observed_traits(bundle.gen), "disc": observed_traits(bundle.disc)}
    seen = _seen(bundle) if bundle.shares_gradients else None
    if bundle.apart == _DEPENDS or (seen is not None and seen.others):
        observed["disc"] |= {MIXES_SAMPLES}
    broken = dataclasses.replace(plan, observed=observed).broken_rules()
    if broken:
        raise UsageError(broken[0])
