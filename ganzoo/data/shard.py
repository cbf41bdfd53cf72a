"""One file of images of a prepared copy, while it is being written; free of torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import numpy as np

from ganzoo.api import Spec
from ganzoo.data.arrays import Array, pack_header
from ganzoo.data.copies import Shard
from ganzoo.data.picture import Pixels
from ganzoo.files import sha256

HEADER: Final = 512
"""Bytes of a file before its pixels; its header is written when they are counted."""


class ShardFile:
    """A file of images that is being written."""

    def __init__(self, path: Path, spec: Spec, numbers: Iterable[Array] = ()) -> None:
        self.path, self.spec, self.numbers = path, spec, list(numbers)
        self.count = sum(map(len, self.numbers))
        self._draft = _draft_of(path)
        self._file: IO[bytes] = self._draft.open("ab")
        self._file.truncate(HEADER + self.count * spec.numel)

    @classmethod
    def left(cls, path: Path, spec: Spec) -> ShardFile | None:
        """The file as an earlier process gave it up; None if it left nothing that can be gone on with."""
        part = path.with_suffix(".part")
        try:
            numbers = np.fromfile(path.with_suffix(".part.numbers"), np.int64)
            if not len(numbers) or part.stat().st_size != HEADER + len(numbers) * spec.numel:
                return None
            part.replace(_draft_of(path))  # of several processes, one has it
        except OSError:
            return None
        return cls(path, spec, [numbers])

    def add(self, pixels: Pixels, numbers: Array) -> None:
        """Write some images after the others."""
        self._file.write(np.ascontiguousarray(pixels).data)
        self.numbers.append(numbers)
        self.count += len(pixels)

    def close(self) -> Shard:
        """Write the header, and give the file its name when all is on the disk."""
        size = self.count * self.spec.numel
        array = {"dtype": "U8", "shape": [self.count, *self.spec.shape], "data_offsets": [0, size]}
        header = pack_header({"pixels": array}, HEADER)
        assert len(header) == HEADER
        self._file.close()
        with self._draft.open("r+b") as file:
            file.write(header)
            file.flush()
            os.fsync(file.fileno())
        digest = sha256(self._draft)
        self._draft.replace(self.path)
        return Shard(self.path.name, self.count, digest)

    def give_up(self) -> None:
        """Leave what there is to :meth:`left`, as far as the disk lets us."""
        with suppress(OSError, ValueError):
            self._file.close()
            numbers = np.concatenate(self.numbers)
            with self._draft.open("r+b") as file:
                file.truncate(HEADER + len(numbers) * self.spec.numel)  # the last images may be there in part
                os.fsync(file.fileno())
            self.path.with_suffix(".part.numbers").write_bytes(numbers.tobytes())
            self._draft.replace(self.path.with_suffix(".part"))
        self._file.close()
        self._draft.unlink(missing_ok=True)


def _draft_of(path: Path) -> Path:
    """Where this process writes a file until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
