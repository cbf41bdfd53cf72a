"""What was found out about folders and zips of images, kept in the user's cache for the next start. Free of torch.

``images/members`` has the list of a zip, ``images/index`` what is known of each file of a list (its size, whether it is
grey, whether it can be read), and ``images/pixels`` decoded images; all in safetensors, under the hash of what they
depend on.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from ganzoo.data.arrays import Array, checksums, damaged, read_arrays, read_header, write_arrays
from ganzoo.data.cache import CacheEntry, CacheFolder
from ganzoo.errors import GanzooError, Interrupted
from ganzoo.files import json_digest

_LOG: Final = logging.getLogger("ganzoo")
Kind = Literal["members", "index", "pixels"]
Kept = tuple[dict[str, Array], dict[str, str]]

VERSION: Final = 2
"""Of what is kept and how it is made; a change makes every older file unknown."""
LIMIT: Final = 16 * 10**9
"""Bytes that all files together may take."""
_SHARE_OF_DISK: Final = 0.25
WORTH_KEEPING: Final = 0.05
"""Seconds of listing or of looking at images after which what was found is kept."""


def key_of(**parts: Any) -> str:
    """Hex SHA-256 of everything that a kept file depends on, by name: plain JSON values alone."""
    return json_digest({"version": VERSION, **parts})


class ImageCache(CacheFolder):
    """Of its kinds ``members``, ``index`` and ``pixels``; all together take a limited part of the disk."""

    name = "images"

    def load(self, kind: Kind, key: str) -> Kept | None:
        """The arrays kept under a key, mapped from their file, and what goes with them; None if there are none.

        All of it is compared with its checksums. Writing to the arrays changes memory alone.
        """
        return self.read(kind, key, lambda path: _checked(path, key))

    def store(self, kind: Kind, key: str, arrays: Mapping[str, Array], source: Path) -> bool:
        """Keep arrays under a key; whether that worked, since a full disk is no reason to go without the data."""
        try:
            if not self.make_room(sum(array.nbytes for array in arrays.values()), self._limit()):
                return False
            metadata = {"kind": kind, "key": key, "source": str(source), "checksums": checksums(arrays.values())}
            write_arrays(self.path(kind, key), arrays, metadata)
        except Interrupted:
            raise
        except (GanzooError, OSError) as err:
            level = logging.WARNING if kind == "pixels" else logging.DEBUG
            _LOG.log(level, "What was found out about %s is not kept for the next time: %s", source, err)
            return False
        return True

    def _limit(self) -> int:
        """How many bytes there may be on this disk."""
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free + self.size()
        return min(LIMIT, int(free * _SHARE_OF_DISK))


def source_of(entry: CacheEntry) -> str:
    """The folder or zip that a kept file was made from; empty if that cannot be read."""
    try:
        return read_header(entry.path)[1].get("source", "")
    except GanzooError:
        return ""


def _checked(path: Path, key: str) -> Kept:
    arrays, metadata = read_arrays(path)
    if metadata.get("key") != key or metadata.get("checksums") != checksums(arrays.values()):
        raise damaged(path)
    return arrays, metadata
