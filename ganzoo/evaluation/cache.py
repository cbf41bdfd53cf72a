"""Features that need not be computed twice: safetensors in a folder, named by the hash of all they depend on.

What is read is checked against the hash that its file carries. All files together take a limited number of bytes. To
list and to clear them needs no torch.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ganzoo.data.cache import CacheFolder
from ganzoo.errors import GanzooError, Interrupted, UsageError
from ganzoo.files import json_digest

if TYPE_CHECKING:
    from torch import Tensor

_LOG: Final = logging.getLogger("ganzoo")
VERSION: Final = 2
"""Of what is kept and how it is made; a change makes every older file unknown."""
LIMIT_VARIABLE: Final = "GANZOO_FEATURES_GB"
_LIMIT: Final = 10.0
"""Gigabytes that the files may take together: two dozen sets of 50,000 features of Inception."""


def cache_key(**parts: Any) -> str:
    """Hex SHA-256 over everything that a cached value depends on, by name: plain JSON values alone.

    ``cache_key(data=digest, extractor=extractor.digest, preprocessing="none", count=5000, dtype="float32")``
    """
    return json_digest({"version": VERSION, **parts})


def images_digest(images: Tensor) -> str:
    """Hex SHA-256 of ``images`` uint8 on the CPU: of their shape and their bytes."""
    from ganzoo.nn.weights import bytes_of

    made = hashlib.sha256(repr((str(images.dtype), tuple(images.shape))).encode())
    made.update(bytes_of(images))
    return made.hexdigest()


def size_limit() -> int:
    """How many bytes the cache may take: the environment's ``GANZOO_FEATURES_GB``, else 10 GB.

    Raises:
        UsageError: that is no number.
    """
    said = os.environ.get(LIMIT_VARIABLE, "") or str(_LIMIT)
    try:
        gigabytes = float(said)
    except ValueError:
        gigabytes = math.nan
    if not 0 <= gigabytes < math.inf:
        raise UsageError(
            f"{LIMIT_VARIABLE} is the number of gigabytes that kept features may take, such as {_LIMIT:g}, and not "
            f"{said!r}."
        )
    return int(gigabytes * 1e9)


class FeatureCache(CacheFolder):
    """Of its kinds ``chunk`` (features of some images) and ``set`` (what was kept of a whole data set)."""

    name = "features"
    again = "computed"

    def __init__(self, root: Path | None = None) -> None:
        super().__init__(root)
        self.limit = size_limit()

    def load(self, kind: str, key: str, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor] | None:
        """The tensors kept under a key; None if there are none, or damaged ones, which a sentence in the log tells.

        Args:
            kind: ``chunk`` or ``set``.
            key: from :func:`cache_key`.
            expected: names, types and shapes that must be there, on the device ``meta`` or any other.
        """
        return self.read(kind, key, lambda path: _checked(path, key, expected))

    def store(self, kind: str, key: str, tensors: Mapping[str, Tensor]) -> bool:
        """Keep tensors under a key; whether that worked, since a full disk is no reason to lose a result."""
        from ganzoo.nn.weights import content_hash, save_tensors

        if sum(tensor.nbytes for tensor in tensors.values()) > self.limit:
            return False
        try:
            save_tensors(self.path(kind, key), tensors, {"digest": content_hash(tensors), "kind": kind, "key": key})
        except Interrupted:
            raise
        except GanzooError as err:
            _LOG.warning("Features are not kept for the next time: %s", err)
            return False
        self.make_room(0, self.limit)
        return True


def _checked(path: Path, key: str, expected: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    from ganzoo.nn.weights import content_hash, load_tensors, metadata_of

    tensors = load_tensors(path, expected)
    told = metadata_of(path)
    if told.get("key") != key or told.get("digest") != content_hash(tensors):
        raise GanzooError(f"{path} does not hold what it was written with.")
    return tensors
