"""What was found out about folders and zips of images, kept in the user's cache for the next start. Free of torch.

``images/index`` has what is known of each file of a list (its size, whether it is grey, whether it can be read), and
``images/pixels`` decoded images; both in safetensors, under the hash of all that they depend on. A file is written
beside and renamed, so processes that start together do not disturb each other. What is damaged is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ganzoo.data.roots import cache_home
from ganzoo.errors import GanzooError
from ganzoo.files import write_bytes

_LOG: Final = logging.getLogger("ganzoo")
Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["index", "pixels"]

VERSION: Final = 1
"""Of what is kept and how it is made; a change makes every older file unknown."""
FOLDER: Final = "images"
LIMIT: Final = 16 * 10**9
"""Bytes that all files together may take."""
_SHARE_OF_DISK: Final = 0.25
_LENGTH: Final = 8
_ALIGNED: Final = 64
_LONGEST: Final = 2**20
_CHUNK: Final = 16 * 2**20
_TYPES: Final = {"U8": np.uint8, "I8": np.int8, "I32": np.int32, "I64": np.int64}


@dataclass(frozen=True)
class KeptFile:
    """A file of the cache.

    Attributes:
        path: where it is.
        kind: ``index`` or ``pixels``.
        size: bytes.
        used: when it was last read or written, in seconds since 1970.
        source: the folder or zip that it was made from.
    """

    path: Path
    kind: str
    size: int
    used: float
    source: str


def key_of(**parts: Any) -> str:
    """Hex SHA-256 of everything that a kept file depends on, by name: plain JSON values alone."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ImageCache:
    """The files under ``root``, the user's cache folder (``GANZOO_CACHE``) unless given."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root if root is not None else cache_home()) / FOLDER

    def load(self, kind: Kind, key: str) -> tuple[dict[str, Array], dict[str, str]] | None:
        """The arrays kept under a key, mapped from their file, and what goes with them; None if there are none.

        All of it is compared with its checksums. Writing to the arrays changes memory alone.
        """
        path = self._path(kind, key)
        if not path.is_file():
            return None
        try:
            arrays, metadata = read_arrays(path)
            _compare(path, metadata.get("key") == key and metadata.get("checksums") == _checksums(arrays.values()))
        except (GanzooError, OSError) as err:
            if path.is_file():  # else another process cleared it
                _LOG.warning("A file of the cache is damaged and made again: %s", err)
            return None
        with suppress(OSError):
            os.utime(path)
        return arrays, metadata

    def store(self, kind: Kind, key: str, arrays: Mapping[str, Array], source: Path) -> bool:
        """Keep arrays under a key; whether that worked, since a full disk is no reason to go without the data."""
        size = sum(array.nbytes for array in arrays.values())
        try:
            if not self._make_room(size):
                return False
            metadata = {"kind": kind, "key": key, "source": str(source), "checksums": _checksums(arrays.values())}
            write_arrays(self._path(kind, key), arrays, metadata)
        except (GanzooError, OSError) as err:
            level = logging.WARNING if kind == "pixels" else logging.DEBUG
            _LOG.log(level, "What was found out about %s is not kept for the next time: %s", source, err)
            return False
        return True

    def entries(self) -> list[KeptFile]:
        """What is there, the last used first."""
        found = []
        for path in self.root.glob("*/*/*.safetensors"):
            with suppress(OSError):
                told = path.stat()
                source = ""
                with suppress(GanzooError):
                    source = read_header(path)[1].get("source", "")
                found.append(KeptFile(path, path.parent.parent.name, told.st_size, told.st_mtime, source))
        return sorted(found, key=lambda entry: (-entry.used, entry.path))

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

    def _path(self, kind: str, key: str) -> Path:
        return self.root / kind / key[:2] / f"{key}.safetensors"

    def _make_room(self, size: int) -> bool:
        """Remove what was not used for longest until ``size`` bytes may be written; whether they may."""
        self.root.mkdir(parents=True, exist_ok=True)
        entries = self.entries()
        free = shutil.disk_usage(self.root).free + sum(entry.size for entry in entries)
        limit = min(LIMIT, int(free * _SHARE_OF_DISK))
        if size > limit:
            return False
        taken = sum(entry.size for entry in entries)
        while entries and taken + size > limit:
            oldest = entries.pop()
            with suppress(OSError):  # Windows keeps what is mapped somewhere
                oldest.path.unlink()
            taken -= oldest.size
        return True


def write_arrays(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; in contrast to the library's, the data are not copied first.

    Raises:
        GanzooError: it cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    names = {np.dtype(kind): name for name, kind in _TYPES.items()}
    start = 0
    for name, array in arrays.items():
        end = start + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": (start, end)}
        start = end
    write_bytes(path, pack_header(header), *(_bytes(array) for array in arrays.values()), durable=False)


def pack_header(header: Mapping[str, Any], room: int = 0) -> bytes:
    """The first bytes of a safetensors file, at least ``room`` of them, so that the data are aligned."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text = text.ljust(room - _LENGTH)
    text += b" " * (-(len(text) + _LENGTH) % _ALIGNED)
    return len(text).to_bytes(_LENGTH, "little") + text


def read_header(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], int]], dict[str, str]]:
    """Type, shape and place of each array of a safetensors file, and its metadata. Nothing of the data is read.

    Raises:
        GanzooError: it is not there, or damaged: what its header says does not fill the file exactly.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(_LENGTH), "little")
            _compare(path, length <= min(_LONGEST, size - _LENGTH))
            header = json.loads(file.read(length))
        start = base = _LENGTH + length
        metadata = header.pop("__metadata__", {})
        found = {}
        for name, about in header.items():
            kind, shape = about["dtype"], tuple(about["shape"])
            _compare(path, kind in _TYPES and all(type(side) is int and side >= 0 for side in shape))
            end = start + math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
            _compare(path, about["data_offsets"] == [start - base, end - base])
            found[name] = (kind, shape, start)
            start = end
        _compare(path, start == size and all(isinstance(value, str) for value in metadata.values()))
    except OSError as err:
        raise GanzooError(f"Cannot read {path}: {err.strerror or err}.") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise _damaged(path) from None
    return found, metadata


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays of a safetensors file, mapped: they are read where they are looked at, and written to in memory alone.

    Raises:
        GanzooError: as :func:`read_header`.
    """
    header, metadata = read_header(path)
    return {name: map_array(path, *about) for name, about in header.items()}, metadata


def map_array(path: Path, kind: str, shape: tuple[int, ...], start: int, *, soon: bool = False) -> Array:
    """One array of a file, as :func:`read_header` tells of it.

    Args:
        path: the file.
        kind, shape, start: of the array.
        soon: whether all of it will be wanted, so that the system begins to read it.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as err:
        raise GanzooError(f"Cannot read {path}: {err}.") from None
    if hasattr(mmap, "MADV_WILLNEED"):
        with suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_WILLNEED if soon else mmap.MADV_NORMAL)
    count = math.prod(shape)
    return np.frombuffer(mapped, _TYPES[kind], count, start).reshape(shape)


def _compare(path: Path, same: bool) -> None:
    if not same:
        raise _damaged(path)


def _damaged(path: Path) -> GanzooError:
    return GanzooError(f"{path} is damaged, or no file of arrays.")


def _checksums(arrays: Sequence[Array] | Any) -> str:
    """CRC-32 of each piece of the data, by several threads: they find what a disk does, not what an attacker does."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return " ".join(f"{crc:08x}" for crc in pool.map(zlib.crc32, _pieces(arrays)))


def _pieces(arrays: Sequence[Array]) -> Iterator[memoryview]:
    for array in arrays:
        data = _bytes(array)
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]


def _bytes(array: Array) -> memoryview:
    if not array.size:
        return memoryview(b"")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
