"""Plugins of the tests, installed for a while."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ganzoo.plugins import loaded


@contextmanager
def installed(*modules: str) -> Iterator[None]:
    """These modules are plugins beside ganzoo's own, and no others; they are forgotten afterwards."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GANZOO_PLUGINS", ",".join(modules))
            loaded.cache_clear()
            yield
    finally:
        loaded.cache_clear()
        for name in modules:
            sys.modules.pop(name, None)
