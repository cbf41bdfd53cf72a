"""The members of a zip by where they lie in it, so that only one process reads its list. Free of torch and of Pillow.

A list of a million members takes seconds and most of a gigabyte to read. It is read once, kept in the user's cache as
two blocks of bytes until the zip changes, and whoever decodes a member is told its place.
"""

from __future__ import annotations

import importlib
import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from ganzoo.data.arrays import Array
from ganzoo.data.files import refuse_large
from ganzoo.data.kept import WORTH_KEEPING, ImageCache, key_of
from ganzoo.errors import UsageError

_LOCAL: Final = struct.Struct("<4s22xHH")
"""What stands before a member: a mark, and at its end how long its name and the fields after that are."""
_MARK: Final = b"PK\3\4"
_ENDS_ITSELF: Final = 0x02
"""The bit of the flags by which data of LZMA have a mark at their end."""
_LOCKED: Final = "it is encrypted, so save the zip anew without a password"
_UNREADABLE: Final = {0x01: _LOCKED, 0x20: "it is a patch of another zip", 0x40: _LOCKED}
"""Bits of a member's flags, and what they mean."""


class Member(NamedTuple):
    """Where a member of a zip is, and how it is packed.

    Attributes:
        offset: where its header begins.
        packed: bytes that it takes in the zip.
        size: bytes that it has.
        crc: its CRC-32.
        method: number of the way it is packed.
        flags: its flags, as the zip has them.
    """

    offset: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int


class Members(NamedTuple):
    """Members of a zip in the order of their names; ``table`` has the numbers of each :class:`Member` in a row."""

    names: tuple[str, ...]
    table: Array


def list_members(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> Members:
    """The members of a zip whose names are wanted; of several of one name, the last one counts.

    Raises:
        UsageError: it is no zip, or not one that can be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename: info for info in archive.infolist() if wanted(info.filename)}
        names = tuple(sorted(infos, key=lambda name: name.replace("\\", "/")))  # as a folder's would be
        table = np.empty((len(names), len(Member._fields)), np.int64)
        for row, name in enumerate(names):
            info = infos[name]
            sizes = info.compress_size, info.file_size
            table[row] = info.header_offset, *sizes, info.CRC, info.compress_type, info.flag_bits
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {err.strerror or err}.") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as err:
        # The last three are of members that need a later version of the format, of names that are not in the encoding
        # that they promise, and of places and sizes beyond any disk.
        anew = "copy or download it again, or pack it anew"
        raise UsageError(f"{path} is neither a folder nor a zip that can be read ({err}): {anew}.") from None
    return Members(names, table)


def stamp_of(path: Path) -> tuple[int, ...]:
    """Size, times of change and number of a file, with the time that no program sets: the other may be an old date."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def known_members(
    path: Path, stamp: Sequence[int], wanted: Callable[[str], bool], rule: str, cache: ImageCache | None = None
) -> Members:
    """What :func:`list_members` gives; it is kept for the next start if it took long.

    Args:
        path: the zip.
        stamp: its :func:`stamp_of`; what was kept under another one does not count.
        wanted: which names.
        rule: says in words which; what was kept under another one does not count either.
        cache: where it is kept.

    Raises:
        UsageError: it is no zip, or not one that can be read.
    """
    cache = cache or ImageCache()
    key = key_of(zip=str(path.resolve()), stamp=list(stamp), rule=rule)
    kept = cache.load("members", key)
    known = None if kept is None else _restored(kept[0])
    if known is not None:
        return known
    begun = time.monotonic()
    found = list_members(path, wanted)
    if time.monotonic() - begun >= WORTH_KEEPING:
        names = np.frombuffer("\0".join(found.names).encode("utf-8", "surrogatepass"), np.uint8)
        cache.store("members", key, {"names": names, "table": found.table}, path)
    return found


def _restored(arrays: Mapping[str, Array]) -> Members | None:
    """What was kept, if it is what it should be; its checksums were right, so it is unless a stranger wrote it."""
    if arrays.keys() != {"names", "table"}:
        return None
    try:
        names = tuple(arrays["names"].tobytes().decode("utf-8", "surrogatepass").split("\0"))
    except UnicodeDecodeError:
        return None
    if arrays["table"].shape != (len(names), len(Member._fields)) or arrays["table"].dtype != np.int64:
        return None
    return Members(names, arrays["table"])


def sums(table: Array) -> bytes:
    """Sizes and checksums of members, which tell what they hold wherever they are."""
    return table[:, [Member._fields.index(name) for name in ("size", "crc")]].tobytes()


class OpenZip:
    """A zip whose members are read by their places; threads may share it.

    Raises:
        OSError: it is not there, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._reading = threading.Lock()

    def read(self, member: Member) -> bytes:
        """The bytes of a member.

        Raises:
            ValueError: it takes more bytes than are allowed, is encrypted, packed in a way that Python does not know,
                damaged, or not where it should be.
        """
        for bit, meaning in _UNREADABLE.items():
            if member.flags & bit:
                raise ValueError(meaning)
        refuse_large(max(member.size, member.packed))
        if member.offset < 0:  # its list is nearer to the start than it says
            raise ValueError("the zip is damaged: bytes before it are missing")
        with self._reading:
            self._file.seek(member.offset)
            mark, name, extra = _LOCAL.unpack(self._file.read(_LOCAL.size).ljust(_LOCAL.size, b"\0"))
            if mark != _MARK:
                raise ValueError("the zip has changed, or is damaged")
            self._file.seek(name + extra, io.SEEK_CUR)
            packed = self._file.read(member.packed)
        data = _unpacked(packed, member)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise ValueError("the zip is damaged there")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _unpacked(packed: bytes, member: Member) -> bytes:
    """At most as many bytes as a member says that it has: a few can stand for gigabytes.

    Raises:
        ValueError: it is damaged, or packed in a way that this Python does not know.
    """
    try:
        unpack = _WAYS[member.method]
        return unpack(packed, member, max(1, member.size))  # 0 would be no limit
    except (KeyError, ImportError):
        raise ValueError(
            f"it is packed by method {member.method}, which this Python does not know, so save the zip anew"
        ) from None
    except Exception as err:  # each way has its own
        raise ValueError(f"the zip is damaged there: {err}") from None


def _bunzip(packed: bytes, _: Member, most: int) -> bytes:
    import bz2  # a Python may have been built without it

    return bz2.BZ2Decompressor().decompress(packed, most)


def _unlzma(packed: bytes, member: Member, most: int) -> bytes:
    import lzma  # as above

    # A zip has a version, the length of the properties, and those; a file of its own has them and its size.
    size = -1 if member.flags & _ENDS_ITSELF else member.size
    header = packed[4:9] + size.to_bytes(8, "little", signed=True)
    return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(header + packed[9:], most)


def _unzstd(packed: bytes, _: Member, most: int) -> bytes:
    unpacked: bytes = importlib.import_module("compression.zstd").ZstdDecompressor().decompress(packed, most)
    return unpacked


_WAYS: Final[dict[int, Callable[[bytes, Member, int], bytes]]] = {
    zipfile.ZIP_STORED: lambda packed, *_: packed,
    zipfile.ZIP_DEFLATED: lambda packed, _, most: zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most),
    zipfile.ZIP_BZIP2: _bunzip,
    zipfile.ZIP_LZMA: _unlzma,
    93: _unzstd,  # from Python 3.14 on
}
