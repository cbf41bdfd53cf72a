"""Health in words: now and then it looks at a run, and says what it sees, what that usually means and what to try.

A look costs about a step and comes every fifty steps at first, then every tenth of the run so far, up to 250. A
warning needs several looks in a row, is given once, and again only after it cleared. Where one failure explains
another, only the first is said: the order of the signs in ``_SIGNS`` is that order.
"""

from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch

from ganzoo.api import CONDITIONAL
from ganzoo.config import RunConfig
from ganzoo.data import Dataset, DataStream
from ganzoo.nn import Bundle
from ganzoo.nn.bundle import derive_seed
from ganzoo.training import advice
from ganzoo.training.state import same_random
from ganzoo.training.vitals import BATCH, Examiner, Vitals

_SOON, _LATE, _SHARE = 50, 250, 0.1

# Thresholds. Healthy runs of every loss on digits, MNIST, CIFAR-10 and on the ring keep away from them.
HEALTHY_DIVERSITY, LONG = 0.3, 16  # of the real samples' distance, as the median of so many looks
NO_DIVERSITY: Final = 0.05
GROWING: Final = 1.2  # what grows by more is on its way up
HUGE, HUGE_GROWTH = 1.0, 10.0  # root mean square of weights, which start at 0.02 to 0.3
STILL: Final = 1e-6  # relative to the weights
CERTAIN, NOTHING_LEFT = 0.98, 0.05  # pairs told apart; pull on the logits, 1 at the start, 0.2 in good DCGANs
FOOLED: Final = 0.02
FLAT: Final = 0.02
UNSEEN, VANISHED = 1e-8, 1e-3  # optimisers add 1e-8 to a gradient's size; relative to the median so far
HELD: Final = 0.98
STEEP: Final = 4.0


@dataclass(frozen=True)
class Event:
    """A warning.

    Attributes:
        step: at which it was seen.
        kind: what it is called.
        message: what is seen, what it usually means and a command to try.
    """

    step: int
    kind: str
    message: str

    def line(self) -> dict[str, Any]:
        """The line of ``metrics.jsonl``."""
        return {"step": self.step, "event": self.kind, "message": self.message}


@dataclass(frozen=True)
class Sign:
    """How a failure shows.

    Attributes:
        kind: what it is called.
        looks: how many looks in a row must show it.
        shows: whether the last look shows it, given all looks so far, the last one last.
        words: what is seen, a template for the numbers of the last look.
        explains: kinds that follow from it and need no words of their own.
    """

    kind: str
    looks: int
    shows: Callable[[Sequence[Vitals]], bool]
    words: str
    explains: tuple[str, ...] = ()


def _exploded(seen: Sequence[Vitals]) -> bool:
    now = seen[-1]
    of_gen = now.gen_size > HUGE and now.gen_grown > HUGE_GROWTH
    return of_gen or (now.disc_size > HUGE and now.disc_grown > HUGE_GROWTH)


def _constant(seen: Sequence[Vitals]) -> bool:
    return seen[-1].diversity < NO_DIVERSITY and not (
        len(seen) >= 3 and seen[-1].diversity > GROWING * seen[-3].diversity
    )


def _alike(seen: Sequence[Vitals]) -> bool:
    """Samples that go from mode to mode are now and then diverse, and at the start they are alike: a long look back."""
    long = [vitals.diversity for vitals in seen[-LONG:]]
    middle = statistics.median
    return len(long) == LONG and middle(long) < HEALTHY_DIVERSITY and middle(long[-4:]) < GROWING * middle(long[:4])


def _vanished(seen: Sequence[Vitals]) -> bool:
    now = seen[-1]
    if now.gen_gradient < UNSEEN or now.gen_push < FLAT:
        return True
    return len(seen) > 5 and now.gen_gradient < VANISHED * statistics.median(v.gen_gradient for v in seen)


_ALL: Final = ("collapse", "critic-wins", "generator-wins", "vanishing-gradient")
_SIGNS: Final = (
    Sign(
        "explosion",
        1,
        _exploded,
        "the weights of the generator have become {gen_grown:.3g} times as large as they were, those of the critic "
        "{disc_grown:.3g} times",
        (*_ALL, "frozen-generator", "clip-saturation", "penalty-drift"),
    ),
    Sign(
        "frozen-generator",
        2,
        lambda seen: seen[-1].gen_moved < STILL,
        "the generator's weights have not moved since the last look",
        (*_ALL,),
    ),
    Sign(
        "collapse",
        3,
        _constant,
        "the generator draws nearly the same sample for every latent: two of them differ {diversity:.2g} times as much "
        "as two real ones",
        ("critic-wins", "generator-wins", "vanishing-gradient"),
    ),
    Sign(
        "collapse",
        1,
        _alike,
        "the generator's samples have been much alike for long: two of them differ {usual:.2g} times as much as two "
        "real ones",
    ),
    Sign(
        "vanishing-gradient",
        3,
        _vanished,
        "the generator gets next to no gradient ({gen_gradient:.2g} a weight, and {gen_push:.2g} of its loss's pull)",
        ("critic-wins",),
    ),
    Sign(
        "critic-wins",
        3,
        lambda seen: seen[-1].above > CERTAIN and seen[-1].critic_push < NOTHING_LEFT,
        "the critic tells real from fake in {above:.1%} of the cases and has little left to learn ({critic_push:.2g} "
        "of what it began with)",
    ),
    Sign(
        "generator-wins",
        3,
        lambda seen: seen[-1].above < FOOLED,
        "the critic prefers the fake to the real sample in {fooled:.1%} of the cases",
    ),
    Sign(
        "clip-saturation",
        3,
        lambda seen: seen[-1].at_bound > HELD,
        "{at_bound:.1%} of the critic's weights stand at the bound that the clip sets",
    ),
    Sign(
        "penalty-drift",
        4,
        lambda seen: seen[-1].slope < 1 / STEEP or seen[-1].slope > STEEP,
        "the critic's slope is {slope:.2g} times what its gradient penalty asks for",
    ),
)
_MEMORY, _CLEAR_AFTER = 64, 5
_log = logging.getLogger("ganzoo")
T = TypeVar("T")


class Monitor:
    """Watches one run.

    Args:
        config: of the run.
        bundle: its live objects, which are looked at and not touched.
        dataset: some reals are drawn from it, from a stream of their own.
        step: the last step taken.
        watching: whether it looks; if not, it only knows when a look would be due.
    """

    def __init__(
        self, config: RunConfig, bundle: Bundle, dataset: Dataset, step: int = 0, *, watching: bool = True
    ) -> None:
        self.config = config
        self._spec, self._last = bundle.spec, step
        self._seen: list[Vitals] = []
        self._streaks = [0] * len(_SIGNS)
        self._open: dict[str, int] = {}  # warnings given, and for how many looks they have not shown
        self._blind = not watching
        self._examiner = self._guarded(lambda: _examiner(config, bundle, dataset)) if watching else None

    def due(self, step: int) -> bool:
        """Whether a look is worth its price."""
        return step - self._last >= min(_LATE, max(_SOON, _SHARE * step))

    def look(self, step: int) -> list[Event]:
        """Look, and return what is new."""
        self._last = step
        found = self._guarded(self._examiner.look) if self._examiner and not self._blind else None
        if found is None:
            return []
        self._seen = [*self._seen[1 - _MEMORY :], found]
        return self._judge(step)

    def _guarded(self, function: Callable[[], T]) -> T | None:
        """A part that cannot be looked at does not end the run; it is only watched no longer."""
        try:
            with same_random():
                return function()
        except Exception as err:
            if os.environ.get("GANZOO_STRICT_PLUGINS", "") not in ("", "0"):
                raise
            self._blind = True
            _log.warning("The health of this run cannot be watched: %r", err)
            return None

    def _judge(self, step: int) -> list[Event]:
        """What the looks so far say and has not been said."""
        shown: dict[str, Sign] = {}
        explained: set[str] = set()
        for index, sign in enumerate(_SIGNS):
            self._streaks[index] = self._streaks[index] + 1 if sign.shows(self._seen) else 0
            if self._streaks[index]:
                explained |= set(sign.explains)
                if self._streaks[index] >= sign.looks and sign.kind not in explained:
                    shown.setdefault(sign.kind, sign)
        self._open = {kind: quiet for kind in self._open if (quiet := self._quiet(kind, explained)) < _CLEAR_AFTER}
        new = [sign for kind, sign in shown.items() if kind not in self._open]
        self._open |= dict.fromkeys(shown, 0)
        return [self._event(step, sign) for sign in new]

    def _quiet(self, kind: str, explained: Collection[str]) -> int:
        """Looks since a warning that was given last showed."""
        shows = any(streak for sign, streak in zip(_SIGNS, self._streaks, strict=True) if sign.kind == kind)
        return 0 if shows or kind in explained else self._open[kind] + 1

    def _event(self, step: int, sign: Sign) -> Event:
        now = self._seen[-1]
        usual = statistics.median(vitals.diversity for vitals in self._seen[-LONG:])
        words = sign.words.format(**vars(now), fooled=1 - now.above, usual=usual)
        means, command = advice.meaning(sign.kind), advice.to_try(sign.kind, self.config, self._spec)
        return Event(step, sign.kind, f"Step {step}: {words}; usually {means}; try: {command}")


def _examiner(config: RunConfig, bundle: Bundle, dataset: Dataset) -> Examiner:
    device, seed = bundle.noise.rng.device, derive_seed(config.run.seed, "look")
    n = min(BATCH, max(2, config.run.batch_size))
    real = DataStream(dataset, n, seed, device).next()
    # Drawn on the CPU, so that every device is judged by the same latents.
    latents = bundle.gen.latent(n, torch.Generator().manual_seed(seed)).to(device)
    return Examiner(bundle, real, latents, by_class=config.plan(bundle.spec).has(CONDITIONAL, "gen"))
