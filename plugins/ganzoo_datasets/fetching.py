"""Downloading a data set through torchvision, politely."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from ganzoo.api import MissingError
from ganzoo.data import torchvision_module

_LOG = logging.getLogger("ganzoo")
_TIMEOUT = 60.0


def torchvision_dataset(name: str, root: Path, *, download: bool, **arguments: Any) -> Any:
    """``torchvision.datasets.NAME(root, ...)``; what it prints goes to stderr, and its sockets time out.

    Raises:
        MissingError: torchvision does not import.
    """
    create = getattr(torchvision_module().datasets, name)
    if not download:
        return create(root, download=False, **arguments)
    _LOG.warning("Downloading %s to %s (source: torchvision.datasets.%s).", name, root, name)
    with _timeout(), redirect_stdout(sys.stderr):
        root.mkdir(parents=True, exist_ok=True)
        return create(root, download=True, **arguments)


def missing(name: str, roots: list[Path], advice: str, err: Exception | None = None) -> MissingError:
    """The sentence for a data set that is not there, and what to place where."""
    places = " or ".join(map(str, roots))
    if err is None:
        why = "the option download is false"
    else:
        reason = " ".join(str(err).split()) or type(err).__name__
        why = f"its download failed ({reason})"
    return MissingError(f"{name} is not in {places}, and {why}: {advice}.")


@contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
