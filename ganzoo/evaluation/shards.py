"""An evaluation that several processes share: each looks at some of the samples, and process 0 alone at what was seen.

Samples are numbered, and divided in whole chunks, which go round. What is seen of them comes to process 0 in order,
so every number is the one that a single process finds, to the bit.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from ganzoo import processes
from ganzoo.errors import Interrupted

if TYPE_CHECKING:
    from ganzoo.training.alone import Alone

CHUNK: Final = 256
"""Samples that are hashed, computed, cached and handed over together: a minute of Inception on a slow CPU."""

STOPPED: Final = "stopped; features that were computed are kept for the next time"
"""What a signal does to an evaluation, in words."""
PATIENCE: Final = 600
"""Seconds that a process waits for the others."""

Piece = dict[str, Tensor]
"""What was seen of a chunk, by name."""


def _nothing() -> None:
    pass


class Shards:
    """How the samples of an evaluation are divided.

    Args:
        together: the processes; this one alone unless given.
        check: called before each chunk; what it raises ends the work of all.
    """

    def __init__(self, together: Alone | None = None, check: Callable[[], None] = _nothing) -> None:
        self._together, self._check = together, check
        self.rank, self.world = (together.rank, together.world) if together is not None else (0, 1)

    @property
    def leads(self) -> bool:
        """Whether this process is the one that knows what all have seen."""
        return self.rank == 0

    def mine(self, n: int) -> Tensor:
        """The numbers of those of ``n`` samples that this process looks at, int64, ascending, in whole chunks."""
        every = torch.arange(n)
        return every if self.world == 1 else every[every // CHUNK % self.world == self.rank]

    def in_order(self, n: int, look: Callable[[slice], Piece]) -> Iterator[Piece]:
        """What was seen of each chunk of ``n`` samples, in their order, in process 0; nothing in the others.

        Args:
            n: how many samples there are.
            look: gets the place of a chunk; called for those of this process, in their order.
        """
        chunks = math.ceil(n / CHUNK)

        def seen(number: int) -> Piece:
            self._check()
            return look(slice(number * CHUNK, min(n, (number + 1) * CHUNK))) if number < chunks else {}

        for first in range(0, chunks, self.world):
            if self._together is None:
                yield seen(first)
            else:
                yield from filter(None, self._together.gather(lambda first=first: seen(first + self.rank)))  # type: ignore[misc]

    def first(self, function: Callable[[], object]) -> bool:
        """Whether ``function`` finds something in process 0, which alone calls it; what it raises is raised in all."""
        if self._together is None:
            return bool(function())
        return bool(self._together.from_first(lambda: "1" if function() else ""))


@contextmanager
def sharing(device: str) -> Iterator[tuple[Alone, torch.device, Shards]]:
    """The processes that torchrun started, this one's device, and how they divide the samples.

    Of several processes, a signal to any ends all at the next chunk.

    Raises:
        UsageError: there is no such device, or it cannot serve several processes.
        MissingError: it is not here, or there are more processes than GPUs.
        LostError: the other processes are not there.
        Interrupted: a signal came.
    """
    from ganzoo.training.alone import join
    from ganzoo.training.device import meant, resolve_device
    from ganzoo.training.signals import StopSignals, noted

    def check() -> None:
        number = noted()
        if number:
            raise Interrupted(f"{signal.Signals(number).name}: {STOPPED}.", number)

    target = resolve_device(device).device
    if processes.place().world == 1:
        together, target = join(target, PATIENCE)
        with meant(target):
            yield together, target, Shards(check=check)
        return

    with StopSignals("stopped before anything was computed") as stop:
        together, target = join(target, PATIENCE)
        together.go_on = "start the evaluation again, which goes on where it was"
        with together:
            stop.defer()
            yield together, target, Shards(together, check)
