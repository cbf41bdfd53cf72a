"""Getting a published data set with what torchvision knows of it: its sources, its hashes and its readers."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from ganzoo.api import MissingError
from ganzoo.data import download, torchvision_module

_LOG = logging.getLogger("ganzoo")
_TIMEOUT = 60.0


def torchvision_class(name: str) -> Any:
    """``torchvision.datasets.NAME``.

    Raises:
        MissingError: torchvision does not import.
    """
    return getattr(torchvision_module().datasets, name)


def torchvision_dataset(name: str, root: Path, *, download: bool, **arguments: Any) -> Any:
    """``torchvision.datasets.NAME(root, ...)``; what it prints goes to stderr, and its sockets time out.

    Raises:
        MissingError: torchvision does not import.
    """
    create = torchvision_class(name)
    if not download:
        return create(root, download=False, **arguments)
    with _timeout(), redirect_stdout(sys.stderr):
        root.mkdir(parents=True, exist_ok=True)
        return create(root, download=True, **arguments)


def announce(what: str, source: str, target: Path) -> None:
    """Say that a download starts which somebody else does."""
    _LOG.warning("Downloading %s from %s to %s.", what, source, target)


def download_idx(folder: str, target: Path, names: tuple[str, ...]) -> None:
    """Download ``NAME.gz`` of MNIST or its family into ``target``, unless it is there; checked by torchvision's hashes.

    Raises:
        OSError: no source has them, or they cannot be written.
        MissingError: torchvision does not import.
    """
    known = torchvision_class(folder)
    for file, md5 in known.resources:
        path = target / file
        if path.stem in names and not path.is_file():
            download([f"{mirror.rstrip('/')}/{file}" for mirror in known.mirrors], path, f"md5:{md5}")


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
