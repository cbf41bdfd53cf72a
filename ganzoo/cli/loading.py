"""Importing torch takes longer than all else that a short command does."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ganzoo.errors import Interrupted
from ganzoo.plugins import loaded


@contextmanager
def importing_torch() -> Iterator[None]:
    """Import torch, and what is enclosed: Python's garbage collector never looks through what they bring.

    It would do so several times while it is imported, and take all of it apart before the process ends: together a
    quarter of what the import costs. What exists by now is not taken apart either. A plugin of others may rely on
    that, with a file that it leaves open, so with one the collector is left alone.
    """
    if "torch" in sys.modules or not gc.isenabled() or not all(plugin.builtin for plugin in loaded()):
        yield
        return
    gc.disable()
    try:
        importlib.import_module("torch")
        yield
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def hearing_signals() -> Iterator[None]:
    """Import what is enclosed, and hear Ctrl-C meanwhile.

    NumPy is imported by torch, from C, where the interrupt that Python raises is lost: the command would go on.
    """
    from ganzoo.training.signals import StopSignals

    try:
        with StopSignals("stopped before anything was done"):
            yield
    except Interrupted as err:
        if err.exit_code == 128 + signal.SIGINT:
            raise KeyboardInterrupt from None  # as after the import
        raise
