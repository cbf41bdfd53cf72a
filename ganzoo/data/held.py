"""Images that are decoded as a whole, or were so at an earlier start. Free of torch."""

from __future__ import annotations

import json
import logging
import time
from typing import Final

import numpy as np

from ganzoo.data.arrays import Array
from ganzoo.data.files import Fit, ImageFiles, OnBadImage
from ganzoo.data.images import decode_all, refusal, report_bad
from ganzoo.data.kept import ImageCache, key_of
from ganzoo.data.picture import Pixels
from ganzoo.errors import printable

_LOG: Final = logging.getLogger("ganzoo")
_WORTH_KEEPING: Final = 1.0
"""Seconds of decoding after which the pixels are kept."""


def held_images(
    files: ImageFiles, shape: tuple[int, int, int], fit: Fit, on_bad_image: OnBadImage, *, keep: bool = True
) -> tuple[Pixels, list[int]]:
    """As :func:`~ganzoo.data.images.decode_images`, from the user's cache where they were decoded before.

    Raises:
        UsageError: as there.
    """
    from PIL import __version__ as pillow

    cache = ImageCache()
    key = key_of(list=files.state, shape=shape, fit=fit, pillow=pillow) if files.state and keep else ""
    found = cache.load("pixels", key) if key else None
    kept = None if found is None else _understood(found[0], len(files), shape)
    if kept is not None:
        pixels, numbers, bad = kept
        if on_bad_image == "refuse":
            for number, reason in bad.items():
                raise refusal(files, files.names[number], reason)
        report_bad(files, {files.names[number]: reason for number, reason in bad.items()})
        return pixels, numbers
    begun = time.monotonic()
    pixels, numbers, why = decode_all(files, shape, fit, on_bad_image)
    report_bad(files, {name: reason for name, (reason, _) in why.items()})
    if key and time.monotonic() - begun >= _WORTH_KEEPING and all(lasts for _, lasts in why.values()):
        places = {name: place for place, name in enumerate(files.names)} if why else {}
        reasons = json.dumps({places[name]: printable(reason) for name, (reason, _) in sorted(why.items())})
        arrays: dict[str, Array] = {
            "pixels": pixels,
            "kept": np.array(numbers, np.int64),
            "bad": np.frombuffer(reasons.encode("utf-8", "replace"), np.uint8),
        }
        cache.store("pixels", key, arrays, files.path)
    return pixels, numbers


def _understood(
    arrays: dict[str, Array], count: int, shape: tuple[int, int, int]
) -> tuple[Pixels, list[int], dict[int, str]] | None:
    """Pixels, the numbers of the images, and why the others are missing; None if the file holds something else."""
    try:
        pixels, kept = arrays["pixels"], arrays["kept"].tolist()
        said = json.loads(arrays["bad"].tobytes())
        bad = {int(number): str(reason) for number, reason in said.items()}
    except (KeyError, ValueError, AttributeError):
        return None
    if pixels.shape != (len(kept), *shape) or sorted([*kept, *bad]) != list(range(count)):
        return None
    return pixels, kept, bad
