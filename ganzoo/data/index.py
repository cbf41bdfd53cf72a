"""What is known of each image of a list without opening it again, from one start to the next. Free of torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ganzoo.data.arrays import Array
from ganzoo.data.files import ImageFiles
from ganzoo.data.kept import WORTH_KEEPING, ImageCache, key_of
from ganzoo.errors import printable

_LONGEST_REASON: Final = 300
_MOST: Final = 4
"""Lists of which this process remembers what is known."""
_UNKNOWN: Final = 0
_YES: Final = 1
_NO: Final = 2


class ImageIndex:
    """Sizes, greyness and readability of the images of a list, as far as somebody looked.

    Args:
        files: the images; what was kept of the same list, with the same sizes and times of change, is known at once.
        cache: where it is kept.
    """

    def __init__(self, files: ImageFiles, cache: ImageCache | None = None) -> None:
        from PIL import __version__ as pillow

        self.files = files
        self.cache = cache or ImageCache()
        # What an image is depends on who reads it, too.
        self._key = key_of(list=files.state, pillow=pillow) if files.state else ""
        self._changed = False
        self._begun = time.monotonic()
        count = len(files)
        self._sizes: Array = np.zeros((count, 2), np.int32)
        self._grey: Array = np.zeros(count, np.int8)
        self._sound: Array = np.zeros(count, np.int8)
        self._bad: dict[int, str] = {}
        kept = self.cache.load("index", self._key) if self._key else None
        if kept is not None:
            self._take(kept[0])

    def size_of(self, number: int, look: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
        """(height, width) of an image; if nobody looked yet, ``look`` is asked by its number."""
        height, width = self._sizes[number].tolist()
        if not height:
            height, width = look(number)
            self._sizes[number] = height, width
            self._changed = True
        return height, width

    def is_grey(self, number: int, look: Callable[[int], bool]) -> bool:
        """Whether all pixels of an image are grey; if nobody looked yet, ``look`` is asked by its number."""
        if self._grey[number] not in (_YES, _NO):
            self._grey[number] = _YES if look(number) else _NO
            self._changed = True
        return bool(self._grey[number] == _YES)

    @property
    def unknown(self) -> Array:
        """The numbers of those of which nobody knows whether they can be decoded."""
        return np.flatnonzero(self._sound == _UNKNOWN)

    @property
    def sound(self) -> Array:
        """The numbers of those that can be decoded."""
        return np.flatnonzero(self._sound == _YES)

    @property
    def bad(self) -> dict[str, str]:
        """Name -> reason of those that cannot be decoded."""
        return {self.files.names[number]: reason for number, reason in sorted(self._bad.items())}

    def say_sound(self, numbers: Sequence[int] | Array) -> None:
        """Note that images can be decoded."""
        self._sound[numbers] = _YES
        self._changed = True

    def say_bad(self, number: int, reason: str) -> None:
        """Note that an image cannot be decoded, and why."""
        self._sound[number] = _NO
        self._bad[number] = reason[:_LONGEST_REASON]
        self._changed = True

    def keep(self) -> None:
        """Keep what is known for the next start, if finding it out took long."""
        if not (self._changed and self._key and time.monotonic() - self._begun >= WORTH_KEEPING):
            return
        self._changed = False
        reasons = "\0".join(f"{number} {printable(reason)}" for number, reason in sorted(self._bad.items()))
        arrays: dict[str, Any] = {
            "sizes": self._sizes,
            "grey": self._grey,
            "sound": self._sound,
            "bad": np.frombuffer(reasons.encode("utf-8", "surrogatepass"), np.uint8),
        }
        self.cache.store("index", self._key, arrays, self.files.path)

    def _take(self, kept: dict[str, Array]) -> None:
        """What was kept, if it is what it should be; its checksums were right, so it is unless a stranger wrote it."""
        count = len(self.files)
        shapes = {"sizes": (count, 2), "grey": (count,), "sound": (count,)}
        if kept.keys() != {*shapes, "bad"} or any(kept[name].shape != shape for name, shape in shapes.items()):
            return
        lines = kept["bad"].tobytes().decode("utf-8", "replace")
        bad = dict(line.partition(" ")[::2] for line in lines.split("\0") if line)
        numbers = {int(number): reason for number, reason in bad.items() if number.isascii() and number.isdigit()}
        if sorted(numbers) != np.flatnonzero(kept["sound"] == _NO).tolist():
            return
        # Copies: a file that is mapped cannot be replaced on Windows, and this one will be when more is known.
        self._sizes, self._grey, self._sound = (np.array(kept[name]) for name in ("sizes", "grey", "sound"))
        self._bad = numbers


_KNOWN: Final[dict[tuple[str, int], ImageIndex]] = {}


def index_of(files: ImageFiles) -> ImageIndex:
    """What is known of the images; of the same list always the same object, by its digest."""
    if not files.state:
        return ImageIndex(files)
    key = (files.state, len(files))
    index = _KNOWN.pop(key, None) or ImageIndex(files)
    _KNOWN[key] = index  # the last one used is the last to be forgotten
    if len(_KNOWN) > _MOST:
        del _KNOWN[next(iter(_KNOWN))]
    return index
