"""Passes through the networks of a run, in several ways that take turns, before its first step."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import torch

from ganzoo.data import DataStream
from ganzoo.nn import Batch, Bundle, Solo
from ganzoo.nn.buffers import KeptState
from ganzoo.nn.bundle import derive_seed
from ganzoo.training import state

if TYPE_CHECKING:
    from ganzoo.training.loop import Session

_LONG: Final = 0.5
"""Seconds that one pass may take; a slower one is tried with fewer samples."""
_ROUNDS: Final = (4, 12)
_BUDGET: Final = 0.5
"""Seconds after which there are no more rounds than the fewest."""
_WARM: Final = 2
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
