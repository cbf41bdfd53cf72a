"""A folder of the user's cache: files named by the hash of all that they depend on. Free of torch.

A file is written beside and renamed, so processes that start together do not disturb each other, and a reader sees a
whole file. What is read is checked by whoever keeps it; damaged, it is made again.

Where there would be more than a limit, those go that were not used for longest: two processes that make room at once
choose the same ones, and whoever misses one makes it again.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from ganzoo.data.roots import cache_home
from ganzoo.errors import GanzooError, Interrupted

T = TypeVar("T")
_LOG: Final = logging.getLogger("ganzoo")


@dataclass(frozen=True)
class CacheEntry:
    """A file of the cache.

    Attributes:
        path: where it is.
        kind: what it holds, such as ``pixels``.
        key: hash of everything that it depends on.
        size: bytes.
        used: when it was last read or written, in seconds since 1970.
    """

    path: Path
    kind: str
    key: str
    size: int
    used: float


class CacheFolder:
    """The files under ``root``, the user's cache folder (``GANZOO_CACHE``) unless given."""

    name: ClassVar[str]
    """Of the folder."""
    again: ClassVar[str] = "made"
    """What the log says is done again with a damaged file."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root if root is not None else cache_home()) / self.name

    def path(self, kind: str, key: str) -> Path:
        """Where the file of a kind and key is, or would be."""
        return self.root / kind / key[:2] / f"{key}.safetensors"

    def read(self, kind: str, key: str, reader: Callable[[Path], T]) -> T | None:
        """What ``reader`` finds in a file; None if there is none, or a damaged one, of which the log tells."""
        path = self.path(kind, key)
        if not _is_there(path):
            return None
        try:
            found = reader(path)
        except Interrupted:
            raise
        except (GanzooError, OSError) as err:
            if _is_there(path):  # else another process cleared it
                _LOG.warning("A file of the cache is damaged and %s again: %s", self.again, err)
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def entries(self) -> list[CacheEntry]:
        """What is there, the last used first."""
        found = []
        for path in self.root.glob("*/*/*.safetensors"):
            with suppress(OSError):
                told = path.stat()
                found.append(CacheEntry(path, path.parent.parent.name, path.stem, told.st_size, told.st_mtime))
        return sorted(found, key=lambda entry: (-entry.used, entry.path))

    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries())

    def make_room(self, size: int, limit: int) -> bool:
        """Remove what was not used for longest until ``size`` more bytes are within the limit; whether they can be."""
        if size > limit:
            return False
        entries = self.entries()
        size += sum(entry.size for entry in entries)
        while entries and size > limit:
            oldest = entries.pop()
            size -= oldest.size
            with suppress(OSError):  # Windows keeps what another process reads; it goes another time
                oldest.path.unlink(missing_ok=True)
        return True

    def forget(self, kind: str, keys: Iterable[str]) -> None:
        """Remove what is kept under some keys, as far as it is there."""
        for key in keys:
            with suppress(OSError):
                self.path(kind, key).unlink(missing_ok=True)

    def clear(self) -> int:
        """Remove everything; how many bytes that were.

        Raises:
            GanzooError: something cannot be removed.
        """
        size = self.size()
        try:
            if self.root.exists():
                shutil.rmtree(self.root)
        except OSError as err:
            raise GanzooError(f"Cannot clear {self.root}: {err.strerror or err}.") from None
        return size


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder above it belongs to somebody else
        return False
