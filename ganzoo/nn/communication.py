"""How the processes of a run agree; one process alone agrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Communication(Protocol):
    """How the processes of a run agree."""

    rank: int
    world: int

    def average_gradients(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], total: Tensor) -> Tensor:
        """Replace each ``.grad``, each floating buffer, and ``total``, by its mean over the processes.

        A missing gradient counts as zeros where another process has one. Returns the mean total: it is finite if that
        of every process is.
        """

    def mean(self, value: Tensor) -> Tensor:
        """The mean of ``value`` over the processes, differentiable any number of times."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""

    def agree(self, signum: int) -> int:
        """Vote to leave on signal ``signum`` (0 for none, at most 31); return what was agreed, the same in all."""


class Solo:
    """A run of one process."""

    rank = 0
    world = 1

    def average_gradients(self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], total: Tensor) -> Tensor:
        """``total``; there is nothing to do."""
        return total

    def mean(self, value: Tensor) -> Tensor:
        """``value`` itself."""
        return value

    def any(self, flag: bool) -> bool:
        """``flag`` itself."""
        return flag

    def agree(self, signum: int) -> int:
        """``signum`` itself."""
        return signum
