"""The headers of arrays in an npz: what a file promises is known before memory is taken. Free of torch."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

_FIRST: Final = (1, 0)


@dataclass(frozen=True)
class ArrayHeader:
    """What an npz says about one of its arrays.

    Attributes:
        shape: of the array.
        dtype: of its numbers; may be one that only a pickle holds, which nobody here reads.
        promised: bytes that the header and the array of that shape take.
        unpacked: bytes that the archive says that they take.
        packed: bytes that they take in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    promised: int
    unpacked: int
    packed: int


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """The arrays of an npz, in its order."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def array_header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    """The header of an array; its numbers are not read. Whatever numpy and zipfile raise for a broken file passes."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == _FIRST else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        promised = file.tell() + math.prod(shape) * dtype.itemsize
    return ArrayHeader(shape, dtype, promised, info.file_size, info.compress_size)
