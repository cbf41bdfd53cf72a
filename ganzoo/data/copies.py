"""The format of prepared copies: pixels in safetensors, part by part, and a small record in JSON. Free of torch.

::

    COPY/
      ganzoo-data.json          what it holds, the files with their SHA-256, and its own digest
      images-00000.safetensors  pixels [n, C, H, W] uint8
      images-00001.safetensors  ...
      labels.safetensors        labels [N] int64, where there are any

Opening reads the record, the header of each file and the labels; the sizes must fit exactly. Pixels are not read, so a
byte of them that is not what it was is found by :func:`check_copy` alone, which reads all.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from ganzoo.api import Spec
from ganzoo.data.arrays import Array, map_array, read_header
from ganzoo.data.files import COPY_RECORD as RECORD
from ganzoo.data.files import at_home
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.files import json_digest, sha256
from ganzoo.reading import read_table

LABELS: Final = "labels.safetensors"
FORMAT: Final = "ganzoo-data"
VERSION: Final = 1
_SHARD: Final = re.compile(r"images-\d{5,}\.safetensors")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_MOST: Final = 2**48
_SIDE: Final = 2**16


@dataclass(frozen=True)
class Shard:
    """A file of a copy.

    Attributes:
        file: its name.
        count: how many images it holds.
        sha256: of all its bytes, in hexadecimal.
    """

    file: str
    count: int
    sha256: str


@dataclass(frozen=True)
class Copy:
    """What the record of a prepared copy says.

    Attributes:
        path: the folder.
        spec: what one sample is.
        classes: names of the classes; empty if they have none.
        shards: the files of images, in order.
        labels: SHA-256 of the file of labels; empty without labels.
        source: what it was made from, and how: plain JSON values.
    """

    path: Path
    spec: Spec
    classes: tuple[str, ...]
    shards: tuple[Shard, ...]
    labels: str
    source: Mapping[str, Any]

    @property
    def count(self) -> int:
        """How many images there are."""
        return sum(shard.count for shard in self.shards)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return self.count * self.spec.numel

    @property
    def digest(self) -> str:
        """Hex SHA-256 of what the copy holds, by the hashes of its files."""
        return json_digest({name: value for name, value in self.to_dict().items() if name != "source"})

    def to_dict(self) -> dict[str, Any]:
        """What the record holds, but for its own digest."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "shape": list(self.spec.shape),
            "count": self.count,
            "num_classes": self.spec.num_classes,
            "classes": list(self.classes),
            "labels": self.labels,
            "shards": [[shard.file, shard.count, shard.sha256] for shard in self.shards],
            "source": dict(self.source),
        }

    def text(self) -> str:
        """The record."""
        said = self.to_dict()
        return json.dumps({**said, "digest": json_digest(said)}, indent=1, ensure_ascii=True) + "\n"

    def read_labels(self) -> Array | None:
        """Labels ``[N]`` int64; None where there are none.

        Raises:
            GanzooError: the file is damaged.
        """
        if not self.labels:
            return None
        path = self.path / LABELS
        _same(path, sha256(_there(path)) == self.labels)
        labels = np.array(map_array(path, *_only(path, "labels", "I64", (self.count,))))
        classes = self.spec.num_classes or 0
        _same(path, bool((labels >= 0).all() and (labels < classes).all()))
        return labels

    def open_shard(self, shard: Shard, *, soon: bool = False) -> Array:
        """The pixels ``[n, C, H, W]`` of a file, mapped.

        Raises:
            GanzooError: the file is damaged.
        """
        path = self.path / shard.file
        return map_array(path, *_only(path, "pixels", "U8", (shard.count, *self.spec.shape)), soon=soon)


def read_copy(path: Path) -> Copy:
    """The record of the copy at ``path``; once in a process unless it changes.

    Raises:
        MissingError: there is none.
        UsageError: its path begins with the name of a user who is not here.
        GanzooError: it is damaged, or of a later version.
    """
    path = at_home(path).absolute()
    try:
        modified = (path / RECORD).stat().st_mtime_ns
    except OSError:
        raise MissingError(
            f"There is no prepared copy at {path}: it would hold {RECORD}; make one with 'ganzoo data prepare'."
        ) from None
    return _read(path, modified)


@lru_cache(maxsize=8)
def _read(path: Path, _modified: int) -> Copy:
    record = path / RECORD
    try:
        found = read_table(record)
    except (OSError, ValueError) as err:
        anew = "ask for the right to read it" if isinstance(err, PermissionError) else "prepare the copy anew"
        raise GanzooError(f"{record} cannot be read ({err}); {anew}.") from None
    if found.get("format") != FORMAT or type(found.get("version")) is not int:
        raise GanzooError(f"{record} is no record of a prepared copy.")
    if found["version"] != VERSION:
        raise GanzooError(
            f"{record} is of version {str(found['version'])[:20]}, and this ganzoo reads version {VERSION}: prepare "
            "the copy anew."
        )
    digest = found.pop("digest", None)
    if digest != json_digest(found):
        raise GanzooError(f"{record} is damaged: its digest is not that of what it says; prepare the copy anew.")
    try:
        return understood(path, found)
    except (KeyError, TypeError, ValueError, UsageError):
        raise GanzooError(f"{record} says what cannot be; prepare the copy anew.") from None


def understood(path: Path, said: dict[str, Any]) -> Copy:
    """The record, every value of which was looked at: sizes before anybody multiplies them, names before any path.

    Raises:
        KeyError, TypeError, ValueError, UsageError: it says what cannot be.
    """
    shape = tuple(said["shape"])
    _require(len(shape) == 3 and all(type(side) is int and 0 < side <= _SIDE for side in shape))
    classes, count = said["num_classes"], said["count"]
    _require(classes is None or (type(classes) is int and 0 < classes <= _MOST))
    names = said["classes"]
    _require(isinstance(names, list) and all(isinstance(name, str) for name in names))
    _require(len(names) in (0, classes))
    shards = [Shard(*shard) for shard in said["shards"]]
    _require(bool(shards) and len({shard.file for shard in shards}) == len(shards))
    for shard in shards:
        _require(bool(_SHARD.fullmatch(shard.file)) and bool(_HEX.fullmatch(shard.sha256)))
        _require(type(shard.count) is int and 0 < shard.count <= _MOST)
    _require(type(count) is int and sum(shard.count for shard in shards) == count <= _MOST // math.prod(shape))
    labels = said["labels"]
    _require(labels == "" if classes is None else bool(_HEX.fullmatch(labels)))
    _require(isinstance(said["source"], dict))
    return Copy(path, Spec(shape, classes), tuple(names), tuple(shards), labels, said["source"])


def check_copy(copy: Copy, advance: Callable[[int], None] = lambda _: None) -> None:
    """Read all of a copy and compare it with its hashes.

    Args:
        copy: what its record says.
        advance: hears how many more images were compared.

    Raises:
        GanzooError: files are missing or damaged; all of them are named. Or one may not be read.
    """
    wrong = []
    for shard in copy.shards:
        path = copy.path / shard.file
        try:
            copy.open_shard(shard)
            _same(path, sha256(path) == shard.sha256)
        except GanzooError:
            if path.is_file() and not os.access(path, os.R_OK):
                raise
            wrong.append(f"{shard.file} {'is damaged' if path.is_file() else 'is missing'}")
        advance(shard.count)
    try:
        copy.read_labels()
    except GanzooError:
        wrong.append(f"{LABELS} is damaged or missing")
    if wrong:
        raise GanzooError(f"The copy {copy.path} is not what was prepared: {', '.join(wrong)}; prepare it anew.")


def _only(path: Path, name: str, kind: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...], int]:
    """The one array that a file shall hold, whose header promises just that."""
    header, _ = read_header(_there(path))
    _same(path, header.keys() == {name} and header[name][:2] == (kind, shape))
    return header[name]


def _there(path: Path) -> Path:
    if not path.is_file():
        raise GanzooError(f"The prepared copy {path.parent} lacks {path.name}; prepare it anew.")
    return path


def _same(path: Path, same: bool) -> None:
    if not same:
        raise GanzooError(f"{path} is damaged: it does not hold what {RECORD} says; prepare the copy anew.")


def _require(fine: bool) -> None:
    if not fine:
        raise ValueError
