"""An endless, reproducible sequence of real batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ganzoo.api import UsageError
from ganzoo.data.dataset import Dataset, Pending
from ganzoo.nn.bundle import Batch, derive_seed


class DataStream:
    """Batches of a data set as a function of (seed, position), so that there is nothing else to save.

    A finite data set is an endless concatenation of permutations, that of epoch ``e`` being a function of
    (seed, e): a batch may span epochs, may be larger than the data set, and no sample is ever left out. An endless
    one is drawn, and the samples of a finite one are augmented, with random numbers seeded by (seed, position, rank).

    A data set that asks for it hears of the next batches ahead. Those are the ones that come, unless the position is
    set; then what was begun is given up.

    Args:
        dataset: it is moved to ``device``.
        batch_size: samples of one batch over all processes.
        seed: of the run.
        device: where batches are wanted.
        rank, world: this process takes the ``rank``-th of ``world`` equal and contiguous parts of each batch.

    Raises:
        UsageError: the batch does not divide evenly between the processes.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch_size < 1 or batch_size % world:
            raise UsageError(
                f"A batch of {batch_size} does not divide evenly between {world} processes; "
                f"choose a multiple of {world} as batch_size."
            )
        self.device = torch.device(device)
        self.dataset = dataset.to(self.device)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self._share = batch_size // world
        self._position = 0
        self._start()

    def _start(self) -> None:
        """What follows from the rest and so does not travel to another process."""
        self._rng = torch.Generator(self.device if self.dataset.length is None else "cpu")
        self._chance = torch.Generator(self.device)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)
        self._begun: deque[tuple[int, Pending]] = deque()
        self._in_a_row = 0

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_rng", "_chance", "_epoch", "_order", "_begun", "_in_a_row")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()

    @property
    def position(self) -> int:
        """How many samples all processes together have drawn. Setting it continues from there, to the bit."""
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        if value < 0:
            raise UsageError(f"The position of a data stream is at least 0, not {value}.")
        self._position = value

    def next(self) -> Batch:
        """This process's part of the next batch: ``batch_size / world`` samples."""
        position = self._position
        self._position += self.batch_size
        if self.dataset.length is None:
            self._rng.manual_seed(derive_seed(self.seed, "draw", position, self.rank))
            return self.dataset.draw(self._share, self._rng)
        batch = self._fetch(position, self.dataset.length)
        if not self.dataset.augment:
            return batch
        self._chance.manual_seed(derive_seed(self.seed, "augment", position, self.rank))
        return Batch(self.dataset.augment(batch.x, self._chance), batch.y)

    def _fetch(self, position: int, length: int) -> Batch:
        """This process's part of the batch at a position; those after it are begun."""
        ahead = self.dataset.ahead(self._share)
        if not ahead:
            return self.dataset.fetch(self._part(position, length))
        if self._begun and self._begun[0][0] != position:
            self._give_up()
        self._in_a_row += 1
        # A stream that is asked for a batch or two, as for a look at the data, begins hardly more.
        while len(self._begun) <= min(ahead, self._in_a_row):
            at = position + len(self._begun) * self.batch_size
            self._begun.append((at, self.dataset.begin(self._part(at, length))))
        return self._begun.popleft()[1].result()

    def _give_up(self) -> None:
        for _, pending in self._begun:
            pending.cancel()
        self._begun.clear()
        self._in_a_row = 0

    def _part(self, position: int, length: int) -> Tensor:
        start = position + self.rank * self._share
        return self._indices(start, start + self._share, length)

    def _indices(self, start: int, stop: int, length: int) -> Tensor:
        parts = []
        while start < stop:
            epoch, offset = divmod(start, length)
            end = min(length, offset + stop - start)
            parts.append(self._order_of(epoch, length)[offset:end])
            start += end - offset
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _order_of(self, epoch: int, length: int) -> Tensor:
        if epoch != self._epoch:
            # Drawn on the CPU, so that the order is the same on every device.
            self._rng.manual_seed(derive_seed(self.seed, "order", epoch))
            self._order = torch.randperm(length, generator=self._rng).to(self.dataset.home)
            self._epoch = epoch
        return self._order


def in_turn(dataset: Dataset, order: Tensor, count: int) -> Iterator[Batch]:
    """The samples ``order`` of a finite data set, ``count`` at a time."""
    parts = iter(torch.split(order, count))
    begun: deque[Pending] = deque()
    for part in parts:
        begun.append(dataset.begin(part))
        if len(begun) > dataset.ahead(count):
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()
