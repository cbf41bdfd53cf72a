"""Features that need not be computed twice: safetensors in a folder, named by the hash of all they depend on.

A file is written beside and renamed, so two processes that compute the same write the same, one after the other, and a
reader sees a whole file. What is read is checked against the hash that its file carries; damaged, it is computed again.

All files together take a limited number of bytes. Where there would be more, those go that were not used for longest:
two processes that make room at once choose the same ones, and whoever misses one computes it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from ganzoo.data.roots import cache_home
from ganzoo.errors import GanzooError, UsageError
from ganzoo.nn.weights import bytes_of, content_hash, load_tensors, metadata_of, save_tensors

_LOG: Final = logging.getLogger("ganzoo")
VERSION: Final = 2
"""Of what is kept and how it is made; a change makes every older file unknown."""
FOLDER: Final = "features"
LIMIT_VARIABLE: Final = "GANZOO_FEATURES_GB"
_LIMIT: Final = 10.0
"""Gigabytes that the files may take together: two dozen sets of 50,000 features of Inception."""


@dataclass(frozen=True)
class CacheEntry:
    """A file of the cache.

    Attributes:
        path: where it is.
        kind: ``chunk`` (features of some images) or ``set`` (what was kept of a whole data set).
        key: SHA-256 of everything that it depends on.
        size: bytes.
        used: when it was last read or written, in seconds since 1970.
    """

    path: Path
    kind: str
    key: str
    size: int
    used: float


def cache_key(**parts: Any) -> str:
    """Hex SHA-256 over everything that a cached value depends on, by name: plain JSON values alone.

    ``cache_key(data=digest, extractor=extractor.digest, preprocessing="none", count=5000, dtype="float32")``
    """
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def images_digest(images: Tensor) -> str:
    """Hex SHA-256 of ``images`` uint8 on the CPU: of their shape and their bytes."""
    made = hashlib.sha256(repr((str(images.dtype), tuple(images.shape))).encode())
    made.update(bytes_of(images))
    return made.hexdigest()


def size_limit() -> int:
    """How many bytes the cache may take: the environment's ``GANZOO_FEATURES_GB``, else 10 GB.

    Raises:
        UsageError: that is no number.
    """
    said = os.environ.get(LIMIT_VARIABLE, "") or str(_LIMIT)
    try:
        gigabytes = float(said)
    except ValueError:
        gigabytes = math.nan
    if not 0 <= gigabytes < math.inf:
        raise UsageError(
            f"{LIMIT_VARIABLE} is the number of gigabytes that kept features may take, such as {_LIMIT:g}, and not "
            f"{said!r}."
        )
    return int(gigabytes * 1e9)


class FeatureCache:
    """The files under ``root``, the user's cache folder (``GANZOO_CACHE``) unless given."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root if root is not None else cache_home()) / FOLDER
        self.limit = size_limit()

    def load(self, kind: str, key: str, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor] | None:
        """The tensors kept under a key; None if there are none, or damaged ones, which a sentence in the log tells.

        Args:
            kind: ``chunk`` or ``set``.
            key: from :func:`cache_key`.
            expected: names, types and shapes that must be there, on the device ``meta`` or any other.
        """
        path = self._path(kind, key)
        if not path.is_file():
            return None
        try:
            tensors = _checked(path, key, expected)
        except GanzooError as err:
            if path.is_file():  # else another process cleared it
                _LOG.warning("A file of the cache is damaged and computed again: %s", err)
            return None
        with suppress(OSError):
            os.utime(path)
        return tensors

    def store(self, kind: str, key: str, tensors: Mapping[str, Tensor]) -> bool:
        """Keep tensors under a key; whether that worked, since a full disk is no reason to lose a result."""
        if sum(tensor.nbytes for tensor in tensors.values()) > self.limit:
            return False
        try:
            save_tensors(self._path(kind, key), tensors, {"digest": content_hash(tensors), "kind": kind, "key": key})
        except GanzooError as err:
            _LOG.warning("Features are not kept for the next time: %s", err)
            return False
        self._make_room()
        return True

    def forget(self, kind: str, keys: Iterable[str]) -> None:
        """Remove what is kept under some keys, as far as it is there."""
        for key in keys:
            with suppress(OSError):
                self._path(kind, key).unlink(missing_ok=True)

    def entries(self) -> list[CacheEntry]:
        """What is there, the last used first."""
        found = []
        for path in self.root.glob("*/*/*.safetensors"):
            with suppress(OSError):
                told = path.stat()
                found.append(CacheEntry(path, path.parent.parent.name, path.stem, told.st_size, told.st_mtime))
        return sorted(found, key=lambda entry: (-entry.used, entry.key))

    def clear(self) -> int:
        """Remove everything; how many bytes that were.

        Raises:
            GanzooError: something cannot be removed.
        """
        size = sum(entry.size for entry in self.entries())
        try:
            if self.root.exists():
                shutil.rmtree(self.root)
        except OSError as err:
            raise GanzooError(f"Cannot clear {self.root}: {err.strerror or err}.") from None
        return size

    def _make_room(self) -> None:
        """Remove what was not used for longest until the rest is within the limit."""
        entries = self.entries()
        size = sum(entry.size for entry in entries)
        while entries and size > self.limit:
            entry = entries.pop()
            size -= entry.size
            with suppress(OSError):  # Windows keeps what another process reads; it goes another time
                entry.path.unlink(missing_ok=True)

    def _path(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / f"{key}.safetensors"


def _checked(path: Path, key: str, expected: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    tensors = load_tensors(path, expected)
    told = metadata_of(path)
    if told.get("key") != key or told.get("digest") != content_hash(tensors):
        raise GanzooError(f"{path} does not hold what it was written with.")
    return tensors
