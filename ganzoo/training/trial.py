"""Passes through the networks of a run, in several ways that take turns, before its first step."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import torch
from torch import Tensor

from ganzoo import decisions
from ganzoo.data import DataStream
from ganzoo.nn import Batch, Bundle, Solo
from ganzoo.nn.buffers import KeptState
from ganzoo.nn.bundle import Side, derive_seed
from ganzoo.training import state

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

_LONG: Final = 0.5
"""Seconds that one pass may take; a slower one is tried with fewer samples."""
_ROUNDS: Final = (4, 12)
_BUDGET: Final = 0.5
"""Seconds after which there are no more rounds than the fewest."""
_WARM: Final = 2
_ALIKE: Final = 16
"""Samples with which two ways are compared."""
APART: Final = 0.3
"""How far from float32's, relative to their norm, samples, logits and gradients may be in other arithmetic: bfloat16's
own error is some percent in ordinary networks."""
_SAME: Final = 1e-3
"""How far they may be in the same arithmetic, where sums are taken in another order: 1e-6, or 1e-3 with a ReLU that
switches."""
_DRAWS: Final = 3
_TINY: Final = 1e-12
_HUGE: Final = 1e30
_PIECES: Final = 4
Way = TypeVar("Way", bound=Hashable)


def gain(plain: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast the other way was, each at its best: whatever else a machine does only slows rounds."""
    return min(plain) / min(other)


def passes(session: Session, ways: Mapping[Way, Callable[[], None]]) -> dict[Way, list[float]]:
    """Seconds of each round of a pass, in each way that works; the networks are left as they were, in the first way.

    Args:
        session: it has taken no step yet.
        ways: what prepares the networks for each, the plain one first.
    """
    bundle, device, dataset = session.bundle, session.device, session.dataset
    sides = (bundle.gen_side, bundle.disc_side)
    share = session.settings.batch_size // session.together.world
    real = DataStream(dataset, share, derive_seed(session.settings.seed, "trial"), device).next()
    kept = KeptState(sides)
    random, together = state.random_state(), bundle.communication
    plain = next(iter(ways))
    bundle.communication = Solo()
    bundle.begin(0)
    seconds: dict[Way, list[float]] = {}
    try:
        for way, prepare in ways.items():
            with suppress(Exception):  # a network may view its activations in a way that only one layout allows
                prepare()
                for _ in range(_WARM):
                    if device.type != "cpu":  # a GPU's kernels are loaded and chosen at the first pass of a shape
                        _pass(bundle, real, device)
                    took = _pass(bundle, real, device)
                    if way == plain and took > _LONG:
                        few = max(4, int(len(real.x) * _LONG / took))
                        real = Batch(real.x[:few], None if real.y is None else real.y[:few])
                seconds[way] = []
        started = time.perf_counter()
        for number in range(_ROUNDS[1]):
            if number >= _ROUNDS[0] and time.perf_counter() - started > _BUDGET:
                break
            for way, times in seconds.items():
                ways[way]()
                times.append(_pass(bundle, real, device))
    except Exception:
        return {}  # out of memory, say: the first step will tell, if it was not for the measurement
    finally:
        bundle.communication = together
        for side in sides:
            side.optimizer.zero_grad(set_to_none=True)
        ways[plain]()
        kept.put_back()
        state.restore_random(random)
    return seconds


def difference(
    session: Session, ways: Sequence[Callable[[], None]], *, evaluating: bool = False, draw: int = 0
) -> float:
    """How far apart two ways of computing the same step are, the networks being left as they were, in the first way.

    Args:
        session: it has taken no step yet.
        ways: what prepares the networks for both.
        evaluating: whether the networks are in evaluation mode.
        draw: which reals and latents.

    Returns:
        the largest relative difference of samples, logits, and both gradients; infinite where numbers are not finite,
        NaN where one of the two could not be computed.
    """
    bundle, device = session.bundle, session.device
    sides = (bundle.gen_side, bundle.disc_side)
    seed = derive_seed(session.settings.seed, "trial", draw)
    real = DataStream(session.dataset, min(_ALIKE, session.settings.batch_size), seed, device).next()
    kept, random, together = KeptState(sides), state.random_state(), bundle.communication
    bundle.communication = Solo()
    found: list[list[Tensor]] = []
    modes = [(module, module.training) for side in sides for module in side.modules()]
    for module, mode in modes:
        module.training = mode and not evaluating
    try:
        for prepare in ways:
            prepare()
            state.restore_random(random)
            bundle.begin(draw)
            if device.type == "cpu":
                _litter()
            fake = bundle.generate(len(real.x), real.y)
            seen = bundle.critic_pass(real, Batch(fake.x.detach(), fake.y))
            bundle.backward(bundle.disc_side, torch.stack(list(bundle.discriminator_terms(seen).values())).sum())
            values = [
                fake.x.detach(),
                seen.real_logits.detach(),
                seen.fake_logits.detach(),
                _gradient(bundle.disc_side),
            ]
            terms = bundle.loss.generator_terms(bundle.generator_pass(fake, real if bundle.loss.uses_real else None))
            bundle.backward(bundle.gen_side, torch.stack(list(terms.values())).sum())
            found.append([*values, _gradient(bundle.gen_side)])
            kept.put_back()
    except Exception:
        return math.nan
    finally:
        bundle.communication = together
        for side in sides:
            side.optimizer.zero_grad(set_to_none=True)
        ways[0]()
        kept.put_back()
        state.restore_random(random)
        for module, mode in modes:
            module.training = mode
    apart = [_norm(mine - its) / _norm(its).clamp_min(_TINY) for its, mine in zip(*found, strict=True)]
    largest = torch.stack(apart).nan_to_num(math.inf, math.inf).max()
    return float(largest)


def misses(session: Session, precision: str, ways: Sequence[Callable[[], None]]) -> str:
    """Why the second of two ways, which should differ in the order of sums alone, is not to be taken; else empty.

    Where they differ by more, they may still be right. What draws random numbers in the order of memory, as dropout
    does, draws other ones in another, but not in evaluation mode. And a ReLU whose input is 0 but for the last bit
    switches a gradient on in one way alone, but hardly with three draws of samples.
    """
    rounds = precision != "fp32" or (session.device.type == "cuda" and decisions.uses_tf32(session.settings))
    limit = APART if rounds else _SAME
    apart = math.inf
    for draw, evaluating in itertools.product(range(_DRAWS), (False, True)):
        apart = difference(session, ways, evaluating=evaluating, draw=draw)
        if apart <= limit:
            return ""
    return how_far(apart, "without")


def how_far(apart: float, than: str) -> str:
    """A :func:`difference` in words, after "these networks"."""
    if math.isfinite(apart):
        return f"compute other numbers than {than} (by {apart:.{0 if apart >= 0.01 else 1}%})"
    return "could not be computed" if math.isnan(apart) else "compute numbers that are not finite"


def _gradient(side: Side) -> Tensor:
    """Of all parameters of a side, in one vector."""
    return torch.cat([torch.zeros(1), *(p.grad.flatten().float().cpu() for p in side.trainable if p.grad is not None)])


def _norm(value: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(value.double().cpu())
    return norm


def _litter() -> None:
    """Leave large numbers in the memory that is handed out next: who reads what nobody wrote is found out so."""
    for size in (2**power for power in range(6, 22)):
        some = [torch.full((size,), _HUGE) for _ in range(_PIECES)]
        del some


def _pass(bundle: Bundle, real: Batch, device: torch.device) -> float:
    """Seconds of what one step computes in the networks, forward and backward, without the optimisers."""
    _wait(device)
    started = time.perf_counter()
    fake = bundle.generate(len(real.x), real.y)
    terms = bundle.discriminator_terms(bundle.critic_pass(real, Batch(fake.x.detach(), fake.y)))
    bundle.backward(bundle.disc_side, torch.stack(list(terms.values())).sum())
    terms = bundle.loss.generator_terms(bundle.generator_pass(fake, real if bundle.loss.uses_real else None))
    bundle.backward(bundle.gen_side, torch.stack(list(terms.values())).sum())
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
