"""How one process among several ends: the user hears each sentence once, and process 0 is heard out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import click

from ganzoo import processes
from ganzoo.cli import terminal
from ganzoo.errors import GanzooError, Interrupted, UsageError

T = TypeVar("T")


def to_start(devices: str | None, device: Callable[[], str]) -> int:
    """How many processes ``--devices`` asks for that are still to be started; 0 if it does not ask.

    Args:
        devices: a number, ``auto``, or None if it was not given.
        device: tells where they are to compute.

    Raises:
        UsageError: torchrun started another number, or it is neither a number nor ``auto``.
    """
    if devices is None:
        return 0
    from ganzoo.training.launch import count

    world = processes.place().world
    wanted = count(devices, device())
    if world == 1:
        return wanted
    if wanted != world and devices != "auto":
        raise UsageError(f"torchrun started {world} processes, and --devices asks for {wanted}; leave one of them.")
    return 0


def as_one(function: Callable[[], T]) -> T:
    """Call ``function``; what it raises is said by one of the processes of the run, and ends each with its code."""
    if processes.place().world == 1:
        return function()
    from ganzoo.training.signals import StopSignals

    with StopSignals() as stop:  # the function hears signals itself; after it they must not cut the last words off
        stop.defer()
        return _heard_out(function)


def _heard_out(function: Callable[[], T]) -> T:
    try:
        return function()
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as err:
        from ganzoo.training.alone import LostError, current

        terminal.trace(err)
        words = next(iter(current), None)
        of_all = isinstance(err, (UsageError, Interrupted))  # each process meets it by itself
        if words.tells(err) if words else processes.place().rank == 0 or not of_all:
            terminal.status(f"Error: {terminal.sentence(err)}")
        lost = isinstance(err, LostError)
        code = err.exit_code if isinstance(err, GanzooError) else 1
        if words and not (lost and words.rank):  # process 0, which would end the wait, may be the one that is gone
            words.told()
        if lost or (words and words.backend == "nccl"):
            # Threads of the backend may still wait for other processes; they would keep this one from leaving.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        raise click.exceptions.Exit(code) from None
