"""Which process of a run this is, and how many there are, as torchrun tells it. Free of torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ganzoo.errors import UsageError

_NAMES: Final = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_OTHERS: Final = frozenset(
    {"GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
)
_planned: list[int] = []


@dataclass(frozen=True)
class Place:
    """One process among those of a run.

    Attributes:
        rank: its number, from 0; process 0 alone writes and speaks.
        world: how many there are.
        local_rank: its number on this machine.
        local_world: how many there are on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


def place() -> Place:
    """This process, from the variables that torchrun sets; the only one where they are not set.

    Raises:
        UsageError: they are set to something that is no place.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Place()
    said = {name: os.environ.get(name, default) for name, default in zip(_NAMES, "0101", strict=True)}
    if "LOCAL_RANK" not in os.environ:
        said |= {"LOCAL_RANK": said["RANK"], "LOCAL_WORLD_SIZE": said["WORLD_SIZE"]}
    try:
        found = Place(*(int(said[name]) for name in _NAMES))
    except ValueError:
        found = Place(world=0)
    if not (0 <= found.rank < found.world and 0 <= found.local_rank < found.local_world):
        raise UsageError(
            "The environment names no process of a run: "
            f"{', '.join(f'{name}={value}' for name, value in said.items())}; start it with torchrun or --devices."
        )
    return found


def apart() -> dict[str, str]:
    """The environment for a program that is none of the processes of this one's run."""
    ours = _OTHERS.union(_NAMES)
    return {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("TORCHELASTIC_")}


def python() -> tuple[str, ...]:
    """How a command begins that runs a module of ours with ``-m``: Python, and ``-P`` unless this process has no need.

    Without it Python looks for every module in the current folder first, and a ``random.py`` of the user's stands in
    for its own. Where this process does so too (``python -m ganzoo``, or a script that lies there), its children do as
    it does: it may have found ganzoo itself there.
    """
    with suppress(OSError):  # the folder may be gone
        if sys.path and Path(sys.path[0]).resolve() == Path.cwd():
            return (sys.executable,)
    return (sys.executable, "-P")


@contextmanager
def planned(count: int) -> Iterator[None]:
    """Within, :func:`count` speaks of processes that are still to be started."""
    before, _planned[:] = list(_planned), [count]
    try:
        yield
    finally:
        _planned[:] = before


def count() -> int:
    """How many processes the run has, or is about to have."""
    return _planned[0] if _planned else place().world


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(world: int) -> int:
    """Threads of each of so many processes on this machine: its share of the cores."""
    return max(1, cores() // world)


def share(batch_size: int, world: int) -> int:
    """Samples of a batch that one process takes.

    Raises:
        UsageError: the batch does not divide evenly.
    """
    if batch_size % world:
        raise UsageError(
            f"A batch of {batch_size} does not divide evenly between {world} processes; "
            f"choose a multiple of {world} as batch_size, or set --batch-size-per-device."
        )
    return batch_size // world
