"""Does a device compute what it should? Each registered network and objective, there and on the CPU in float64.

Compared are the output, its derivative and its second derivative, on which gradient penalties rest. The device works
in float32, so that on a machine with nothing but a CPU the check is one of its float32.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ganzoo.api import NO_DOUBLE_BACKWARD, Plan, Rule, Spec
from ganzoo.config import SECTIONS, Layer, resolve
from ganzoo.nn import CriticPass
from ganzoo.nn.precision import PlainAttention, full_float32
from ganzoo.registry import Entry, build, registry

CHECKED: Final = ("generator", "discriminator", "regularizer", "loss")
TOLERANCE: Final = {"forward": 1e-4, "backward": 1e-3, "twice": 3e-3}
"""Relative error that float32 may have; see :func:`_distance`."""
_SPECS: Final = (
    Spec((3, 16, 16), 4),
    Spec((2,), 4),
    Spec((3, 16, 16)),
    Spec((3, 64, 64), 4),
    Spec((1, 28, 28), 4),
)
_REFUSED: Final = "its own rules refuse all samples that are tried"
_SMALL: Final = {"width": 8}
_BATCH: Final = 8
_SEEDS: Final = (0, 1, 2)
_FLOOR: Final = 1e-2
_RANDOM: Final = {torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like}

Tensors = dict[str, list[Tensor]]
Measure = Callable[[Any, torch.device, torch.dtype], Tensors]
"""Of a module (networks and objectives have methods of their own, so Any) that is on a device, in a precision."""


@dataclass(frozen=True)
class Parity:
    """What was found out about one component.

    Attributes:
        kind, name: of the component.
        verdict: whether device and CPU agree, or why they were not compared.
        errors: relative error of ``forward``, ``backward`` and ``twice``, as far as they were compared.
        reason: why it failed, or was left out.
    """

    kind: str
    name: str
    verdict: Literal["agrees", "differs", "failed", "left out"]
    errors: dict[str, float]
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.reason:
            return f"{self.verdict}: {self.reason}"
        words = ", ".join(f"{name} {error:.0e}" for name, error in self.errors.items())
        return f"{self.verdict} ({words})"


def entries() -> list[Entry]:
    """The components that :func:`check` knows how to check."""
    return [entry for kind in CHECKED for entry in registry().entries(kind)]


def check(entry: Entry, device: torch.device) -> Parity:
    """Compare one component on ``device`` with the CPU."""
    kind, name = entry.component.kind, entry.component.name
    best: dict[str, float] = {}
    specs = [spec for spec in _SPECS if _serves(entry, spec)]
    if not specs:
        return Parity(kind, name, "left out", {}, _REFUSED)
    try:
        for seed in _SEEDS:  # an activation that lies at a kink may fall to either side of it once, but not every time
            errors = _compare(entry, specs, device, seed)
            if not errors:
                return Parity(kind, name, "left out", {}, "there is nothing to differentiate")
            best = min(best or errors, errors, key=_worst)
            if _worst(errors) <= 1:
                return Parity(kind, name, "agrees", errors)
    except Exception as err:  # whatever a plugin or a device driver raises
        return Parity(kind, name, "failed", {}, f"{type(err).__name__}: {' '.join(str(err).split())}")
    return Parity(kind, name, "differs", best)


def _worst(errors: dict[str, float]) -> float:
    return max(math.inf if math.isnan(error) else error / TOLERANCE[name] for name, error in errors.items())


def _compare(entry: Entry, specs: Sequence[Spec], device: torch.device, seed: int) -> dict[str, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, measure = _prepare(entry, specs)
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
    with _same_noise(seed):
        expected = measure(copy.deepcopy(module).double(), torch.device("cpu"), torch.float64)
    with _same_noise(seed), full_float32(device):  # the error of fewer bits would hide that of a wrong kernel
        found = measure(module.to(device), device, torch.float32)
    return {name: _distance(found[name], tensors) for name, tensors in expected.items() if tensors}


def _prepare(entry: Entry, specs: Sequence[Spec]) -> tuple[nn.Module, Measure]:
    """A small instance of the component in its first possible form, and what to measure of it."""
    problem: Exception | None = None
    for spec in specs:
        choice = registry().choose(entry.component.kind, entry.id, _options(entry))
        try:
            module = build(choice, spec).train()
        except Exception as err:  # it is not made for such samples, or is broken
            problem = problem or err
            continue
        twice = NO_DOUBLE_BACKWARD not in entry.component.traits_of(choice.config, spec)
        if entry.component.kind in ("generator", "discriminator"):
            return module, _network(entry.component.kind, spec, twice=twice)
        return nn.ModuleDict({"part": module, "critic": _critic(spec)}), _objective(entry.component.kind, spec)
    assert problem is not None
    raise problem


def _options(entry: Entry) -> dict[str, Any]:
    return {option.name: _SMALL[option.name] for option in entry.options if option.name in _SMALL}


def _serves(entry: Entry, spec: Spec) -> bool:
    """Whether with some networks none of its own rules refuses the task."""
    rules = entry.component.rules
    return not rules or any(not any(_broken(rule, plan) for rule in rules) for plan in _plans(entry, spec))


def _plans(entry: Entry, spec: Spec) -> Iterator[Plan]:
    """Runs with this component: with the networks that it usually has, and with all others."""
    kind, name = entry.component.kind, entry.component.name
    section = next(section for section, its in SECTIONS.items() if its == kind)
    own: dict[str, Any] = {section: (entry.id,) if kind == "regularizer" else entry.id}
    own |= {
        f"{section}.{name}.{k}" if kind == "regularizer" else f"{section}.{k}": v for k, v in _options(entry).items()
    }
    yield resolve([Layer("doctor", own)]).plan(spec)
    pairs = itertools.product(registry().entries("generator"), registry().entries("discriminator"))
    for gen, disc in dict.fromkeys((own.get("gen", gen.id), own.get("disc", disc.id)) for gen, disc in pairs):
        yield resolve([Layer("doctor", own | {"gen": gen, "disc": disc})]).plan(spec)


def _broken(rule: Rule, plan: Plan) -> bool:
    try:
        return bool(rule.broken_by(plan))
    except Exception:  # such a rule is told of where it is used
        return False


def _network(kind: str, spec: Spec, *, twice: bool) -> Measure:
    def measure(net: Any, device: torch.device, dtype: torch.dtype) -> Tensors:
        rng = torch.Generator().manual_seed(7)
        y = None if spec.num_classes is None else (torch.arange(_BATCH) % spec.num_classes).to(device)
        x = net.latent(_BATCH, rng) if kind == "generator" else torch.rand(_BATCH, *spec.shape) * 2 - 1
        x = x.to(device, dtype).requires_grad_()
        out = net(x, y)
        weights = torch.rand(out.shape, device=device)
        total = (out * weights).sum()
        parameters = [p for p in net.parameters() if p.requires_grad]
        first = _gradient(total, [x, *parameters])
        if not twice:
            return {"forward": [out], "backward": first}
        with PlainAttention():  # as in a penalty
            (slope,) = torch.autograd.grad((net(x, y) * weights).sum(), x, create_graph=True)
            return {"forward": [out], "backward": first, "twice": _gradient(slope.square().sum(), parameters)}

    return measure


def _objective(kind: str, spec: Spec) -> Measure:
    def measure(modules: Any, device: torch.device, dtype: torch.dtype) -> Tensors:
        part, critic = modules["part"], modules["critic"]
        real, fake = ((torch.rand(_BATCH, *spec.shape) * 2 - 1).to(device, dtype).requires_grad_() for _ in range(2))
        y = None if spec.num_classes is None else (torch.arange(_BATCH) % spec.num_classes).to(device)

        def look(x: Tensor, _y: Tensor | None) -> Tensor:
            logits: Tensor = critic(x).squeeze(1)
            return logits

        seen = CriticPass(look, real, fake, y, y, look(real, y), look(fake, y), torch.Generator())
        terms: list[Tensor] = []
        if kind == "loss":
            terms += [*part.discriminator_terms(seen).values(), *part.generator_terms(seen).values()]
        for regularizer in part.regularizers() if kind == "loss" else [part]:
            penalty = regularizer.penalty(seen)
            terms += [] if penalty is None else [penalty]
        if not terms:
            return {}
        parameters = [p for p in modules.parameters() if p.requires_grad]
        return {"forward": terms, "backward": _gradient(torch.stack(terms).sum(), parameters)}

    return measure


def _critic(spec: Spec) -> nn.Module:
    """A critic with the layers that critics have."""
    if not spec.is_image:
        return nn.Sequential(
            nn.Linear(spec.numel, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)
        )
    channels, height, width = spec.shape
    convolutions = [nn.Conv2d(channels, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(height * width, 1))


def _gradient(total: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    found: Sequence[Tensor | None] = torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def _distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative error of a tensor; those that should vanish are measured by the largest of the others."""
    norms = [tensor.detach().norm().item() for tensor in expected]
    floor = max(norms) * _FLOOR or 1.0
    errors = [
        (one.detach().cpu().double() - other.detach()).norm().item() / max(norm, floor)
        for one, other, norm in zip(found, expected, norms, strict=True)
    ]
    return max(math.inf if math.isnan(error) else error for error in errors)


class _SameNoise(TorchFunctionMode):
    """Random tensors are drawn on the CPU in float32 from one seed, wherever and however precise they are wanted."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func not in _RANDOM:
            return func(*args, **kwargs)
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        if func in (torch.rand_like, torch.randn_like):
            like, *args = args
            device, dtype = device or like.device, dtype or like.dtype
            func, args = (torch.rand if func is torch.rand_like else torch.randn), (like.shape, *args)
        if func in (torch.randint, torch.randperm):
            dtype = dtype or torch.int64
        return func(*args, **{**kwargs, "generator": self._rng}).to(device or "cpu", dtype or torch.float32)


@contextmanager
def _same_noise(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), _SameNoise(seed):
        torch.manual_seed(seed)
        yield
