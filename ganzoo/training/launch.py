"""Starting several processes on this machine, with torchrun's own machinery."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ganzoo.errors import DivergedError, GanzooError, MissingError, UsageError
from ganzoo.processes import python, threads_each
from ganzoo.training.signals import StopSignals

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")
_SAID: Final = {error.exit_code for error in (UsageError, DivergedError, MissingError)}
"""Exit codes of a process that has said what was wrong."""
_HUNG: Final = 15
"""Seconds between the failure of one process and the end of another after which that hung, and was killed for it."""


def count(asked: str, device: str) -> int:
    """How many processes ``--devices`` asks for: a number, or ``auto``, one for each accelerator found here.

    Raises:
        UsageError: it is neither.
        Interrupted: a signal came.
    """
    if asked == "auto":
        with StopSignals():  # to import it takes seconds
            import torch

        here = torch.accelerator.device_count() if torch.accelerator.is_available() else 1
        return here if device in ("auto", "cuda") else 1
    if not asked.isascii() or not asked.isdigit() or int(asked) < 1:
        raise UsageError(f"--devices takes a number of at least 1, or auto, not {asked!r}.")
    return int(asked)


def launch(processes: int, arguments: Sequence[str], device: str) -> int:
    """Run ``python -m ganzoo ARGUMENTS`` in so many processes; signals go to each of them.

    Args:
        processes: how many.
        arguments: of the command line.
        device: where they are told to compute. It is looked for here, so that the user hears once that it is missing.

    Returns:
        the exit code of the run: that of the process which failed first, or 128 plus the number of a signal.

    Raises:
        GanzooError: a process was killed; the sentence says which.
        Interrupted: a signal came before they were started.
        MissingError: this machine, or this build of torch, cannot start several processes, or has no such device, or
            not so many of it.
        UsageError: there is no device of this name, or it cannot serve several processes.
    """
    try:
        with StopSignals():  # to import these takes seconds
            from ganzoo.training.device import backend_of, resolve_device

            backend_of(resolve_device(device).device, processes)
            from torch.distributed.elastic.multiprocessing.api import SignalException

            from ganzoo.training.agent import Agent
    except ImportError as err:
        raise MissingError(
            f"This build of torch cannot start several processes ({err}); leave out --devices."
        ) from None

    _prepare(processes)
    heard = logging.root.manager.disable
    logging.disable(logging.ERROR)  # the processes say themselves what happens to the run
    try:
        program, *flags = python()
        known = [getattr(signal, name) for name in _SIGNALS if _is_heard(name)]
        agent = Agent(program, (*flags, "-m", "ganzoo", *arguments), processes, known)
        failures = agent.failures()
    except SignalException as err:
        return 128 + int(err.sigval)
    except RuntimeError as err:
        raise GanzooError(f"The {processes} processes could not be started: {' '.join(str(err).split())}.") from None
    finally:
        logging.disable(heard)
    return _code_of(failures, processes, agent.received, gave_up=agent.gave_up) if failures else 0


def _code_of(failures: Mapping[int, ProcessFailure], processes: int, received: int, *, gave_up: bool) -> int:
    """The exit code of processes of which some failed.

    One that says what was wrong is the cause: others that hung then were killed for it. Else it is one that was killed,
    though another that misses it may have ended within the same moment; one that was killed later hung, and torchrun's
    machinery has killed it.

    Args:
        failures: by rank.
        processes: how many there were.
        received: the number of the signal that was handed on to them, or 0.
        gave_up: whether those were killed that did not leave after it.

    Raises:
        GanzooError: a process was killed.
    """
    first = min(failures.values(), key=lambda failure: failure.timestamp)
    said = (each for each in failures.items() if each[1].exitcode in _SAID)
    killed = (
        each
        for each in failures.items()
        if each[1].exitcode not in (-signal.SIGTERM, *range(256)) and each[1].timestamp - first.timestamp < _HUNG
    )
    of_first = next(each for each in failures.items() if each[1] is first)
    rank, failure = next(itertools.chain(said, killed), of_first)
    if failure.exitcode >= 0:
        return int(failure.exitcode)  # it has said why
    if received and (gave_up or failure.exitcode in (-received, -signal.SIGTERM)):
        return 128 + received  # it had nothing to save yet, or could not leave
    name = signal.Signals(-failure.exitcode).name
    raise GanzooError(
        f"Process {rank} of {processes} was killed by {name}"
        f"{', perhaps because memory ran out' if name == 'SIGKILL' else ''}; the run stops with what was saved."
    )


def _is_heard(name: str) -> bool:
    """Whether a signal exists, and is not ignored: what ``nohup`` has told us to ignore, the processes shall too."""
    return hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN


def _prepare(processes: int) -> None:
    """The processes share the cores, meet on the loopback interface, and show no warnings about it."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_each(processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    if sys.platform == "win32":
        os.environ.setdefault("USE_LIBUV", "0")  # torch for Windows is built without it
