"""Starting several processes on this machine, with torchrun's own machinery."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from types import FrameType
from typing import Any, Final, NoReturn

from ganzoo.errors import DivergedError, GanzooError, MissingError, UsageError
from ganzoo.training.signals import StopSignals

_SIGNALS: Final = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1")
_TIME_TO_SAVE: Final = 300
"""Seconds that processes have to save and leave after a signal, before they are killed."""
_SAID: Final = {error.exit_code for error in (UsageError, DivergedError, MissingError)}
"""Exit codes of a process that has said what was wrong."""


def count(asked: str, device: str) -> int:
    """How many processes ``--devices`` asks for: a number, or ``auto``, one for each accelerator found here.

    Raises:
        UsageError: it is neither.
        MissingError: there are not so many GPUs.
    """
    if asked == "auto":
        import torch

        here = torch.accelerator.device_count() if torch.accelerator.is_available() else 1
        return here if device in ("auto", "cuda") else 1
    if not asked.isascii() or not asked.isdigit() or int(asked) < 1:
        raise UsageError(f"--devices takes a number of at least 1, or auto, not {asked!r}.")
    return int(asked)


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run ``python -m ganzoo ARGUMENTS`` in so many processes; signals go to each of them.

    Returns:
        the exit code of the run: that of the process which failed first, or 128 plus the number of a signal.

    Raises:
        GanzooError: a process was killed; the sentence says which.
        Interrupted: a signal came before they were started.
        MissingError: this machine, or this build of torch, cannot start several processes.
    """
    try:
        with StopSignals():  # to import these takes seconds
            from torch.distributed.elastic.multiprocessing.api import SignalException
            from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
            from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    except ImportError as err:
        raise MissingError(
            f"This build of torch cannot start several processes ({err}); leave out --devices."
        ) from None

    def leave(number: int, _: FrameType | None) -> NoReturn:
        raise SignalException(f"signal {number}", signal.Signals(number))

    _prepare(processes)
    settings: dict[str, Any] = {
        "min_nodes": 1,
        "max_nodes": 1,
        "nproc_per_node": processes,
        "run_id": uuid.uuid4().hex,
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "max_restarts": 0,
        "monitor_interval": 0.1,
        "local_addr": "127.0.0.1",
        "signals_to_handle": ",".join(name for name in _SIGNALS if _is_heard(name)),
        "shutdown_timeout": _TIME_TO_SAVE,
    }
    known = {field.name for field in dataclasses.fields(LaunchConfig)}  # older versions of torch have fewer
    config = LaunchConfig(**{name: value for name, value in settings.items() if name in known})
    if _is_heard("SIGUSR1"):
        signal.signal(signal.SIGUSR1, leave)
    heard = logging.root.manager.disable
    logging.disable(logging.ERROR)  # the processes say themselves what happens to the run
    try:
        elastic_launch(config, sys.executable)("-m", "ganzoo", *arguments)
    except ChildFailedError as err:
        # One that says what was wrong is the cause: others that hung then were killed for it. Else it is one that was
        # killed, though another that misses it may have ended within the same moment.
        failures = list(err.failures.items())
        said = (each for each in failures if each[1].exitcode in _SAID)
        killed = (each for each in failures if each[1].exitcode not in (-signal.SIGTERM, *range(256)))
        rank, failure = next(itertools.chain(said, killed), err.get_first_failure())
        if failure.exitcode >= 0:
            return int(failure.exitcode)  # it has said why
        name = signal.Signals(-failure.exitcode).name
        raise GanzooError(
            f"Process {rank} of {processes} was killed by {name}"
            f"{', perhaps because memory ran out' if name == 'SIGKILL' else ''}; the run stops with what was saved."
        ) from None
    except SignalException as err:
        return 128 + int(err.sigval)
    except RuntimeError as err:
        raise GanzooError(f"The {processes} processes could not be started: {' '.join(str(err).split())}.") from None
    finally:
        logging.disable(heard)
    return 0


def _is_heard(name: str) -> bool:
    """Whether a signal exists, and is not ignored: what ``nohup`` has told us to ignore, the processes shall too."""
    return hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN


def _prepare(processes: int) -> None:
    """The processes share the cores, meet on the loopback interface, and show no warnings about it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    if sys.platform == "win32":
        os.environ.setdefault("USE_LIBUV", "0")  # torch for Windows is built without it
