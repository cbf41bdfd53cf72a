"""NumPy arrays in safetensors files: mapped instead of read, written without a copy. Free of torch."""

from __future__ import annotations

import json
import math
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from ganzoo.errors import GanzooError
from ganzoo.files import write_bytes

Array = np.ndarray[Any, np.dtype[Any]]

_LENGTH: Final = 8
_ALIGNED: Final = 64
_LONGEST: Final = 2**20
_CHUNK: Final = 16 * 2**20
_TYPES: Final = {"U8": np.uint8, "I8": np.int8, "I32": np.int32, "I64": np.int64}


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
        raise damaged(path) from None
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


def damaged(path: Path) -> GanzooError:
    """The error of a file that does not hold what it should."""
    return GanzooError(f"{path} is damaged, or no file of arrays.")


def checksums(arrays: Iterable[Array]) -> str:
    """CRC-32 of each piece of the data, by several threads: they find what a disk does, not what an attacker does."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return " ".join(f"{crc:08x}" for crc in pool.map(zlib.crc32, _pieces(arrays)))


def _compare(path: Path, same: bool) -> None:
    if not same:
        raise damaged(path)


def _pieces(arrays: Iterable[Array]) -> Iterator[memoryview]:
    for array in arrays:
        data = _bytes(array)
        for start in range(0, len(data), _CHUNK):
            yield data[start : start + _CHUNK]


def _bytes(array: Array) -> memoryview:
    if not array.size:
        return memoryview(b"")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
