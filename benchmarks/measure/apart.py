"""A contender in a process of its own: its allocator, its threads and its heap are not those of the others."""

from __future__ import annotations

import logging
import multiprocessing
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import torch

from measure.context import Context
from measure.timing import Turn, Work, as_turn

_SPAWN: Final = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class _Order:
    """What the other process is to make, and how it is to be."""

    make: Callable[..., Work | Turn]
    given: tuple[Any, ...]
    context: tuple[Any, ...]
    threads: int
    workers: str
    benchmark: bool


def apart(context: Context, make: Callable[..., Work | Turn], *given: Any) -> Turn:
    """A contender that another process makes and works for.

    Args:
        context: the process ends when it is closed.
        make: a function of a module, or a class; it is called with a context and ``given``.
        given: to be pickled.
    """
    ours, theirs = _SPAWN.Pipe()
    same = (context.seconds, context.device, context.folder, context.small)
    switches = (torch.get_num_threads(), multiprocessing.get_start_method(), torch.backends.cudnn.benchmark)
    order = _Order(make, given, same, *switches)
    process = _SPAWN.Process(target=_serve, args=(theirs, order))
    process.start()
    theirs.close()

    def answer() -> None:
        try:
            problem = ours.recv()
        except (EOFError, OSError):
            problem = f"The process of {make.__name__} is gone."
        if problem:
            raise RuntimeError(problem)

    def ask(what: str, n: int) -> None:
        with suppress(OSError):  # it is gone, and that is the answer
            ours.send((what, n))
        answer()

    def leave() -> None:
        ours.close()
        process.join()

    context.at_close.append(leave)
    answer()  # its imports must not disturb what is measured before its first turn
    return Turn(lambda n: ask("work", n), before=lambda n: ask("before", n))


def _serve(line: Connection, order: _Order) -> None:
    """Make the contender and do what is asked for, until nobody asks any more."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(order.threads)
    torch.backends.cudnn.benchmark = order.benchmark
    multiprocessing.set_start_method(order.workers, force=True)  # else a loader's workers are spawned in spawned ones
    line.send("")
    context = Context(*order.context)
    with closing(context):
        turn: Turn | None = None
        while True:
            try:
                what, n = line.recv()
            except (EOFError, OSError):
                return
            try:
                turn = turn or as_turn(order.make(context, *order.given))
                {"work": turn.work, "before": turn.before}[what](n)
                line.send("")
            except Exception:
                line.send(traceback.format_exc())
