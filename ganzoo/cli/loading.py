"""Importing torch takes longer than all else that a short command does."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
