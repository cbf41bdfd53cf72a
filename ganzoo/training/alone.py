"""A run of one process, what it has in common with one of several, and the way to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import torch
from torch import Tensor

from ganzoo import processes
from ganzoo.errors import GanzooError, MissingError
from ganzoo.nn import Bundle, Solo
from ganzoo.processes import Place
from ganzoo.training.device import backend_of, numbered
from ganzoo.training.run import Run

current: Final[list[Alone]] = []
"""Through whom this process can still speak to the others, after its run ended; empty for a run of one process."""


class LostError(GanzooError):
    """Another process is gone, or does not answer."""


class Alone(Solo):
    """A run of one process: there is nobody to agree with."""

    backend: str | None = None
    go_on = "start the run again"
    """What the user can do when a process is lost."""

    def start_alike(self, bundle: Bundle) -> None:
        """Take process 0's parameters and buffers."""

    def check_alike(self, bundle: Bundle, step: int) -> None:
        """Make sure that all processes hold the same weights.

        Raises:
            GanzooError: they do not.
        """

    def means_of(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean of each number over the processes that have one of its name; all know all of them."""
        return dict(values)

    def from_first(self, function: Callable[[], str | None]) -> str:
        """What ``function`` returns in process 0, which alone calls it; what it raises is raised in all.

        The others wait for as long as it takes. None is told as an empty text.
        """
        return function() or ""

    def gather(self, function: Callable[[], dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """What ``function`` returns in each process, by rank, on the CPU of process 0; nothing in the others.

        What it raises in one is raised in all.
        """
        return [function()]

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The body runs in the first process of each machine, then in the others: for downloads and caches.

        None leaves it before all others are through, however long that takes.
        """
        yield

    def meet(self) -> None:
        """Wait until all processes are here."""

    def tells(self, error: BaseException) -> bool:
        """Whether it is on this process to tell the user about the error; the first of many says it for all.

        A process that misses another one takes the exit code of that, if that says itself why it left.
        """
        return True

    def told(self) -> None:
        """Process 0 has said its last word; the others wait for that, since the first to leave ends all."""

    def notes(self, batch_size: int) -> dict[str, Any]:
        """What ``config.json`` says of the processes."""
        return {
            "processes": {"world": self.world, "backend": self.backend, "batch_per_process": batch_size // self.world}
        }

    def run_for(self, run: Run) -> Run:
        """The run as this process may use it."""
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the others."""


def join(device: torch.device, timeout: int) -> tuple[Alone, torch.device]:
    """Meet the other processes of the run, if torchrun started several; also the device of this process.

    Raises:
        UsageError: the device cannot serve several processes.
        MissingError: there are more processes than GPUs.
        LostError: the others are not there.
    """
    place = processes.place()
    if place.world == 1:
        return Alone(), numbered(device)
    if not torch.distributed.is_available():
        raise MissingError("This build of torch has no torch.distributed, so a run has one process.")
    from ganzoo.training.distributed import Together

    device, backend = place_of(device, place)
    return Together(place, device, backend, timeout), device


def place_of(device: torch.device, place: Place) -> tuple[torch.device, str]:
    """The device of one process and the backend that serves it.

    Raises:
        UsageError: the device cannot serve several processes.
        MissingError: there are more processes than GPUs.
    """
    backend = backend_of(device, place.local_world)
    if device.type == "cuda":
        device = torch.device("cuda", place.local_rank)
        torch.cuda.set_device(device)
    return device, backend
