"""Which products of a run's convolutions are computed by matrices: measured layer by layer, and remembered."""

from __future__ import annotations

import functools
import json
import math
import string
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from ganzoo import decisions
from ganzoo.decisions import Arrangement, Decision, Machine
from ganzoo.nn import Bundle
from ganzoo.nn.buffers import in_shared_memory
from ganzoo.nn.convolution import (
    FUNCTIONS,
    PRODUCTS,
    ROLES,
    Convolution,
    Geometry,
    Product,
    geometry,
    may_use_matrices,
    use_matrices,
)
from ganzoo.nn.precision import DTYPES
from ganzoo.training.build import arrange
from ganzoo.training.choices import Choice, chosen_once
from ganzoo.training.probe import undisturbed
from ganzoo.training.trial import gain, misses, passes

if TYPE_CHECKING:
    from ganzoo.settings import RunSettings
    from ganzoo.training.loop import Session

GAIN: Final = 1.2
"""How many times as fast a product by matrices must be: it is one of many, and its measurement is short."""
WORTH: Final = 3e-4
"""Seconds that a batch must gain by it: a layer that is not torch's own costs some tenths of that."""
LEAST: Final = 50_000
"""Weights of convolutions below which neither the order of memory nor matrices are worth a measurement."""
TIED: Final = "weights that share their memory keep their order"
_ROUNDS: Final = 5
_PATCHES: Final = 8 * 2**20
"""Numbers that the patches of the samples that are timed may have."""
_MOST: Final = 16 * 2**20
"""Numbers that the patches of one sample may have; a layer with more stays torch's."""
_HOPELESS: Final = 2.0
"""How many times as slow the first try may be."""
_FEW: Final = 4
"""Samples of the forward pass that tells what each layer sees."""
_OTHER: Final = 4 * 2**20
"""Numbers that are read and written in between, more than the caches next to a core hold."""
_OPERATIONS: Final = 2.5e9
"""Multiplications in one of the products that are timed; larger ones are timed with fewer samples. With very few,
matrices of small maps would be too short to be quick."""
_BUDGET: Final = 10.0
"""Seconds after which what is left stays torch's."""


@dataclass(frozen=True)
class _Layer:
    """A convolution of the networks, and how it goes over a batch.

    Attributes:
        name: ``gen.`` or ``disc.`` and the module's.
        kernel: shape of its weights.
        on: its geometry.
        batch: samples.
        dtype: in which it is computed.
    """

    name: str
    kernel: tuple[int, ...]
    on: Geometry
    batch: int
    dtype: torch.dtype = torch.float32

    @property
    def patches(self) -> int:
        """Numbers in the patches of one sample."""
        return math.prod(self.kernel[1:]) * math.prod(self.on.small)

    @property
    def few(self) -> int:
        """As few samples as are enough to measure."""
        return max(1, min(self.batch, int(_OPERATIONS / (self.patches * self.kernel[0])), _PATCHES // self.patches))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of ``x``, ``y`` and ``kernel``, with so few samples."""
        out, into, *_ = self.kernel
        return {"x": (self.few, into, *self.on.size), "y": (self.few, out, *self.on.small), "kernel": self.kernel}


def convolving(
    session: Session,
    settings: RunSettings,
    machine: Machine,
    arrangement: Arrangement,
    before: Callable[[], Mapping[str, str]],
) -> Decision:
    """Choose how a session computes its convolutions, which has taken no step yet, let it do so, and say why.

    Where matrices compute some of them, the networks are laid out with channels last, whatever they were before.

    Args:
        session: whose networks have their arrangement.
        settings: those of the run, with ``compile`` as it came out.
        machine: what computes.
        arrangement: of its networks.
        before: tells the decisions that a resumed run began with, by name.
    """
    fixed = decisions.convolutions(settings, session.run.spec, machine, arrangement.precision)
    if fixed is None and is_light(session.bundle):
        fixed = Decision("convolutions", decisions.PLAIN, "the networks are too small for it to matter")
    if fixed is None and is_tied(session.bundle):
        fixed = Decision("convolutions", decisions.PLAIN, TIED)
    if fixed is not None:
        return fixed
    said = json.loads(session.together.from_first(lambda: json.dumps(_choose(session, machine, arrangement, before()))))
    _take(session.bundle, arrangement, said["names"])
    return Decision("convolutions", " ".join(said["names"]) or decisions.PLAIN, said["reason"])


def is_light(bundle: Bundle) -> bool:
    """Whether the networks have so few weights of convolutions that neither layout nor matrices are worth a trial."""
    weights = (p for net in (bundle.gen, bundle.disc) for p in net.parameters() if p.dim() > 2)
    return sum(p.numel() for p in weights) < LEAST


def is_tied(bundle: Bundle) -> bool:
    """Whether another order of memory would part weights that are in one place."""
    return bool(in_shared_memory((bundle.gen_side, bundle.disc_side)))


def _choose(session: Session, machine: Machine, arrangement: Arrangement, before: Mapping[str, str]) -> dict[str, Any]:
    """Names of products, and why these, as JSON values."""
    bundle = session.bundle
    open_to = {f"{name}/{product}" for name, _ in _convolutions(bundle.gen, bundle.disc) for product in PRODUCTS}
    if "layout" in before:
        began = before.get("convolutions", decisions.PLAIN)
        names = [] if began == decisions.PLAIN else began.split()
        if set(names) <= open_to:
            return {"names": names, "reason": "as the run began"}

    def valid(found: Choice) -> bool:
        return isinstance(found["names"], list) and set(found["names"]) <= open_to and isinstance(found["reason"], str)

    def measure() -> Choice:
        try:
            layers = _layers(bundle, session.settings.batch_size // session.together.world)
        except Exception:  # what networks do wrong is told by what checks contracts
            return {"names": [], "reason": "the networks could not be looked into", "passing": True}
        names = _quicker(layers)
        gained = _gained(session, arrangement, names) if names else 1.0
        wrong = (
            misses(session, arrangement.precision, _ways(session, arrangement, names))
            if gained >= decisions.GAIN
            else ""
        )
        if wrong:
            return {"names": [], "reason": f"matrices are left out: with them these networks {wrong}"}
        if gained >= decisions.GAIN:
            which = f"{len(names)} of {len(layers) * len(PRODUCTS)} products by matrices"
            return {"names": names, "reason": f"with {which}, a step was {gained:.2f} times as fast when measured here"}
        return {"names": [], "reason": f"matrices were measured here and gain less than {decisions.GAIN - 1:.0%}"}

    what, about = "convolutions are quicker by matrices", {"products": sorted(open_to), "than": arrangement}
    return chosen_once(session, machine, about, valid, measure, what=what)


def _gained(session: Session, arrangement: Arrangement, names: Sequence[str]) -> float:
    """How many times as fast as in an arrangement both networks are with these products by matrices."""
    seconds = passes(session, dict(enumerate(_ways(session, arrangement, names))))
    both = list(seconds.values())
    return gain(*both) if len(both) == 2 else 1.0


def _ways(session: Session, arrangement: Arrangement, names: Sequence[str]) -> list[Callable[[], None]]:
    """What lets the networks be as they were arranged, and what lets them compute these products by matrices."""
    return [functools.partial(_take, session.bundle, arrangement, which) for which in ((), names)]


def _take(bundle: Bundle, arrangement: Arrangement, names: Sequence[str]) -> None:
    """Let the networks be as they were arranged, or compute these products by matrices."""
    arrange(bundle, arrangement._replace(layout="channels-last") if names else arrangement)
    apply(bundle.gen, bundle.disc, names)


def apply(gen: nn.Module, disc: nn.Module, names: Iterable[str]) -> None:
    """Let the networks compute by matrices what these names say, and nothing else."""
    wanted = set(names)
    for layer, module in _convolutions(gen, disc):
        use_matrices(module, [product for product in PRODUCTS if f"{layer}/{product}" in wanted])


def _convolutions(gen: nn.Module, disc: nn.Module) -> Iterator[tuple[str, Convolution]]:
    """The layers of both networks that may compute by matrices, by name; names are kept with blanks in between."""
    seen: set[nn.Module] = set()
    for side, net in (("gen", gen), ("disc", disc)):
        for name, module in net.named_modules():
            if may_use_matrices(module) and module not in seen and not set(name) & set(string.whitespace):
                seen.add(module)
                yield f"{side}.{name}", module


def _layers(bundle: Bundle, batch: int) -> list[_Layer]:
    """The layers with what they see in one forward pass of few samples, which leaves no trace."""
    seen: dict[str, Tensor] = {}
    modules = dict(_convolutions(bundle.gen, bundle.disc))

    def hook(name: str, inputs: tuple[Tensor, ...]) -> None:
        if inputs:
            seen.setdefault(name, inputs[0])

    hooks = [
        module.register_forward_pre_hook(lambda _, inputs, name=name: hook(name, inputs))
        for name, module in modules.items()
    ]
    try:
        with undisturbed((bundle.gen_side, bundle.disc_side)), torch.no_grad():
            classes = bundle.spec.num_classes
            y = torch.zeros(_FEW, dtype=torch.int64, device=bundle.noise.rng.device) if classes else None
            fake = bundle.generate(_FEW, y)
            with bundle.precision.autocast():
                bundle.critic(fake.x, y)
            found = {name: (modules[name], x) for name, x in seen.items() if x.dim() == 4}
            dtype = DTYPES[bundle.precision.name]
            return [
                _Layer(name, tuple(module.weight.shape), geometry(module, x), batch, dtype)
                for name, (module, x) in found.items()
                if x.dtype in (torch.float32, dtype)
            ]
    finally:
        for handle in hooks:
            handle.remove()


def _quicker(layers: Iterable[_Layer]) -> list[str]:
    """Names of the products that matrices compute quicker."""
    found = []
    started = time.perf_counter()
    known: dict[tuple[object, ...], bool] = {}
    for layer in layers:
        for product in PRODUCTS:
            key = (product, layer.on, layer.kernel)
            if key not in known and time.perf_counter() - started < _BUDGET:
                known[key] = _is_quicker(layer, product)
            if known.get(key):
                found.append(f"{layer.name}/{product}")
    return found


@torch.no_grad()
def _is_quicker(layer: _Layer, product: Product) -> bool:
    """Whether a product is quicker by matrices, and by so much that it matters."""
    if layer.patches > _MOST:
        return False
    rng = torch.Generator().manual_seed(0)
    first, second, _ = (
        torch.randn(layer.shapes[role], generator=rng).to(layer.dtype, memory_format=torch.channels_last)
        for role in ROLES[product]
    )
    ways = (layer.on, layer.on._replace(by_matrices=frozenset((product,))))
    seconds: tuple[list[float], list[float]] = ([], [])
    other_data = torch.zeros(_OTHER)
    for number in range(1 + _ROUNDS):
        for on, times in zip(ways, seconds, strict=True):
            other_data.add_(1)  # in a step, what a layer needs was last used long ago
            started = time.perf_counter()
            FUNCTIONS[product](first, second, on)
            times.append(time.perf_counter() - started)
        if number == 0:
            if seconds[1][0] > _HOPELESS * seconds[0][0]:
                return False
            seconds = ([], [])  # the first round warms up
    saved = median(plain - by_matrices for plain, by_matrices in zip(*seconds, strict=True))
    return gain(*seconds) >= GAIN and saved * layer.batch / layer.few >= WORTH
