"""The idx files of MNIST and its family, plain or gzipped. Free of torch."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from ganzoo.api import MissingError

_MAX_BYTES: Final = 2**28
_GZIP: Final = b"\x1f\x8b"
_UBYTE: Final = 8
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def read_idx(path: Path, ndim: int) -> Bytes:
    """The array of unsigned bytes with ``ndim`` dimensions in an idx file.

    Raises:
        MissingError: it is no such file, is cut off or too long, or is broken; the sentence names it.
    """
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == _GZIP
            plain.seek(0)
            if not zipped:
                return _read(plain, path, ndim, os.fstat(plain.fileno()).st_size)
            with gzip.GzipFile(fileobj=plain) as unzipped:
                return _read(unzipped, path, ndim, None)
    except (OSError, EOFError, zlib.error) as err:
        raise _broken(path, str(err)) from None


def _read(file: Any, path: Path, ndim: int, length: int | None) -> Bytes:
    header = file.read(4 + 4 * ndim)
    if header[:4] != bytes([0, 0, _UBYTE, ndim]):
        expected = bytes([0, 0, _UBYTE, ndim]).hex()
        raise _broken(path, f"it begins with {header[:4].hex() or 'nothing'} instead of {expected}")
    if len(header) < 4 + 4 * ndim:
        raise _broken(path, "its header is cut off")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
    size = math.prod(shape)
    if length is not None and length != len(header) + size:
        raise _broken(path, f"its header promises {len(header) + size} bytes and it has {length}")
    if size > _MAX_BYTES:
        raise _broken(path, f"its header promises {size} bytes")
    data = file.read(size + 1)
    if len(data) != size:
        has = "more" if len(data) > size else len(data)
        raise _broken(path, f"its header promises {size} bytes of data and it has {has}")
    return np.frombuffer(bytearray(data), np.uint8).reshape(shape)


def _broken(path: Path, reason: str) -> MissingError:
    return MissingError(f"{path} is no whole idx file ({reason}): delete it and download it again.")
