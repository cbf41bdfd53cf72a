"""Decoding image files to one uint8 array of one shape. Free of torch; Pillow is imported when the first is opened."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median_low
from typing import Final

import numpy as np

from ganzoo.api import Spec
from ganzoo.data.files import Channels, Fit, ImageFiles, OnBadImage
from ganzoo.data.index import ImageIndex, index_of
from ganzoo.data.picture import Pixels, Reason, decode, is_grey, reason_of, size_of, strict_pillow
from ganzoo.errors import Interrupted, UsageError, printable

_LOG = logging.getLogger("ganzoo")
_SURVEYED: Final = 256
_NAMED: Final = 5
_SURVEYED_FOR_COLOUR: Final = 64
_SHARED_CAP: Final = 128
_SERVABLE: Final = [side for side in range(8, 65) if Spec((1, side, side)).pyramid]
_BLOCK: Final = 1024


def choose_shape(
    files: ImageFiles,
    *,
    size: int | None = None,
    channels: Channels = "auto",
    on_bad_image: OnBadImage | None = None,
) -> tuple[int, int, int]:
    """The shape ``(C, H, W)`` that suits the images; looks at some of them.

    Without ``size``: the size that all surveyed images have, if networks can serve it and it is at most 128 a side;
    else the largest square up to 64 that networks can serve and that the median image's smaller side has.
    ``channels="auto"`` is one channel if all surveyed images are grey, by their pixels, else three.
    ``on_bad_image`` is None where nobody can choose to skip one; the sentence then does not offer it.

    Raises:
        UsageError: an image cannot be read, and ``on_bad_image`` does not say to skip it.
    """
    index = index_of(files)
    with files.open() as read, strict_pillow():
        if size is None:
            sizes = []
            for number in _spread(len(files), _SURVEYED):
                with reading(files, files.names[number], on_bad_image):
                    sizes.append(index.size_of(number, lambda at: size_of(read(at))))
            if not sizes:
                raise UsageError(f"None of the images looked at in {files.path} can be read.")
            height, width = _servable(sizes)
        else:
            height = width = size
        grey = channels == "grey"
        if channels == "auto":
            for number in _spread(len(files), _SURVEYED_FOR_COLOUR):
                with reading(files, files.names[number], on_bad_image):
                    grey = index.is_grey(number, lambda at: is_grey(read(at)))
                    if not grey:
                        break
    index.keep()
    return 1 if grey else 3, height, width


def common_shape(files: ImageFiles) -> tuple[int, int, int]:
    """The shape ``(C, H, W)`` that all images have, looking at every one; C is 1 if all are grey.

    Raises:
        UsageError: they have different sizes, or one cannot be read.
    """
    index = index_of(files)
    first: tuple[int, int] | None = None
    with files.open() as read, strict_pillow():
        for number, name in enumerate(files.names):
            with reading(files, name, None):
                size = index.size_of(number, lambda at: size_of(read(at)))
            first = first or size
            if size != first:
                (height, width), (other_height, other_width) = first, size
                raise UsageError(
                    f"The images of {files.path} have different sizes ({width}x{height} in {files.names[0]}, "
                    f"{other_width}x{other_height} in {name}); bring them to one size first."
                )
    assert first is not None
    return (1 if _all_grey(files, index) else 3, *first)


def _all_grey(files: ImageFiles, index: ImageIndex) -> bool:
    """Whether no image has colours; once one is found that has some, no more are opened for that."""
    coloured = threading.Event()
    with files.open() as read, strict_pillow():

        def look(number: int) -> None:
            if not coloured.is_set():
                with reading(files, files.names[number], None):
                    if not index.is_grey(number, lambda at: is_grey(read(at))):
                        coloured.set()

        _by_threads(look, len(files))
    index.keep()
    return not coloured.is_set()


def decode_images(
    files: ImageFiles,
    shape: tuple[int, int, int],
    *,
    fit: Fit = "crop",
    on_bad_image: OnBadImage | None = None,
) -> tuple[Pixels, list[int]]:
    """All images as ``[N, C, H, W]`` uint8, and the indices of those that were kept.

    The first frame counts, turned as its EXIF data say; what is transparent becomes white. ``fit`` makes other
    proportions fit: ``crop`` cuts the middle out, ``pad`` adds black, ``stretch`` distorts. Resizing is Lanczos.
    ``on_bad_image`` is as for :func:`choose_shape`.

    Raises:
        UsageError: an image cannot be read (named, with the reason) and is not to be skipped; all of them cannot;
            or the memory does not suffice.
    """
    pixels, kept, bad = decode_all(files, shape, fit, on_bad_image)
    report_bad(files, {name: reason for name, (reason, _) in bad.items()})
    return pixels, kept


def decode_all(
    files: ImageFiles,
    shape: tuple[int, int, int],
    fit: Fit,
    on_bad_image: OnBadImage | None,
) -> tuple[Pixels, list[int], dict[str, Reason]]:
    """What :func:`decode_images` gives, and why the others cannot be read."""
    try:
        pixels: Pixels = np.empty((len(files), *shape), np.uint8)
    except MemoryError:
        raise UsageError(
            f"{len(files)} images of {'x'.join(map(str, shape))} do not fit into memory; choose a smaller size."
        ) from None
    bad: dict[str, Reason] = {}
    good = np.zeros(len(files), bool)
    with files.open() as read, strict_pillow():

        def decode_into(i: int) -> None:
            with reading(files, files.names[i], on_bad_image, bad):
                pixels[i] = decode(read(i), shape, fit)
                good[i] = True

        _by_threads(decode_into, len(files))
    kept = np.flatnonzero(good)
    for start in range(0, len(kept) if bad else 0, _BLOCK):  # moved up in place: there may be no room for them twice
        block = kept[start : start + _BLOCK]
        pixels[start : start + len(block)] = pixels[block]
    return pixels[: len(kept)], kept.tolist(), bad


def _by_threads(work: Callable[[int], None], count: int) -> None:
    """Call ``work`` with each number below ``count``, by several threads: Pillow decodes and resizes without the GIL.

    Raises:
        Exception: what it raised for the lowest number; those after it may not have been worked on.
    """
    numbers, taking = iter(range(count)), threading.Lock()
    failed: dict[int, Exception] = {}
    given_up = threading.Event()

    def take() -> None:
        while not (failed or given_up.is_set()):
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except Exception as err:
                failed[number] = err

    threads = min(8, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(threads)
    try:
        for each in [pool.submit(take) for _ in range(threads)]:
            each.result()
    finally:
        given_up.set()
        pool.shutdown()
    if failed:
        raise failed[min(failed)]


def report_bad(files: ImageFiles, bad: Mapping[str, str]) -> None:
    """Tell which images are left out.

    Raises:
        UsageError: it is all of them.
    """
    if len(bad) == len(files):
        raise UsageError(f"None of the {len(files)} images in {files.path} can be read; {_named(bad)}.")
    if bad:
        were = "was" if len(bad) == 1 else "were"
        _LOG.warning("%d of %d images %s left out of %s: %s.", len(bad), len(files), were, files.path, _named(bad))
    if bad and files.labels is not None:
        left = {label for name, label in zip(files.names, files.labels, strict=True) if name not in bad}
        empty = [name for label, name in enumerate(files.classes) if label not in left]
        if empty:
            which = printable(", ".join(empty[:_NAMED]) + ", ..." * (len(empty) > _NAMED))
            _LOG.warning("Classes of %s are left without an image: %s.", files.path, which)


def refusal(files: ImageFiles, name: str, reason: str, *, may_skip: bool = True) -> UsageError:
    """The sentence about an image that cannot be read and is not to be skipped."""
    offer = ", or skip such images with --on-bad-image skip" if may_skip else ""
    return UsageError(f"The image {name} in {files.path} cannot be read ({reason}): mend or remove it{offer}.")


def _named(bad: Mapping[str, str]) -> str:
    """Some of the images that cannot be read, each with the reason."""
    words = [printable(f"{name} ({bad[name]})") for name in sorted(bad)[:_NAMED]]
    return ", ".join(words) + f" and {len(bad) - _NAMED} more" * (len(bad) > _NAMED)


def _spread(length: int, count: int) -> list[int]:
    """At most ``count`` numbers below ``length``, evenly spaced."""
    count = min(count, length)
    return [at * length // count for at in range(count)]


def _servable(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    if len(set(sizes)) == 1 and max(sizes[0]) <= _SHARED_CAP and Spec((1, *sizes[0])).pyramid:
        return sizes[0]
    side = median_low(min(size) for size in sizes)
    square = max((servable for servable in _SERVABLE if servable <= side), default=_SERVABLE[0])
    return square, square


@contextmanager
def reading(
    files: ImageFiles, name: str, on_bad_image: OnBadImage | None, bad: dict[str, Reason] | None = None
) -> Iterator[None]:
    """Turns whatever a broken file raises into one sentence, or into an entry of ``bad`` if it is to be skipped."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as err:  # Pillow raises almost anything for a broken file
        reason = reason_of(err)
        if on_bad_image != "skip":
            raise refusal(files, name, reason[0], may_skip=on_bad_image is not None) from err
        if bad is not None:
            bad[name] = reason
