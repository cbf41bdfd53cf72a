"""Decoding image files to one uint8 array of one shape. Free of torch; Pillow is imported when the first is opened."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from io import BytesIO
from statistics import median_low
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ganzoo.api import Spec
from ganzoo.data.files import Channels, Fit, ImageFiles, OnBadImage
from ganzoo.data.index import index_of
from ganzoo.errors import UsageError, printable

if TYPE_CHECKING:
    from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Reason = tuple[str, bool]
"""Why an image cannot be read, and whether that lasts."""

_LOG = logging.getLogger("ganzoo")
_SURVEYED: Final = 256
_NAMED: Final = 5
_SURVEYED_FOR_COLOUR: Final = 64
_SHARED_CAP: Final = 128
_SERVABLE: Final = [side for side in range(8, 65) if Spec((1, side, side)).pyramid]
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
"""What is looked for in a file whatever its name says. Pillow knows more, and calls other programs for some."""
_MAX_PIXELS: Final = 2**26
_LARGE: Final = 2**22
_ONE_LARGE = threading.Lock()
"""Large images are decoded one at a time: eight at once could fill the memory."""
_STRIP: Final = 64
_DEEP_MODES: Final = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


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
                    sizes.append(index.size_of(number, lambda name: _size_of(read(name))))
            if not sizes:
                raise UsageError(f"None of the images looked at in {files.path} can be read.")
            height, width = _servable(sizes)
        else:
            height = width = size
        grey = channels == "grey"
        if channels == "auto":
            for number in _spread(len(files), _SURVEYED_FOR_COLOUR):
                with reading(files, files.names[number], on_bad_image):
                    grey = index.is_grey(number, lambda name: _is_grey(read(name)))
                    if not grey:
                        break
    index.keep()
    return 1 if grey else 3, height, width


def common_shape(files: ImageFiles) -> tuple[int, int, int]:
    """The shape ``(C, H, W)`` that all images have, looking at every one; C is 1 if those looked at are grey.

    Raises:
        UsageError: they have different sizes, or one cannot be read.
    """
    index = index_of(files)
    first: tuple[int, int] | None = None
    with files.open() as read, strict_pillow():
        for number, name in enumerate(files.names):
            with reading(files, name, None):
                size = index.size_of(number, lambda name: _size_of(read(name)))
            first = first or size
            if size != first:
                (height, width), (other_height, other_width) = first, size
                raise UsageError(
                    f"The images of {files.path} have different sizes ({width}x{height} in {files.names[0]}, "
                    f"{other_width}x{other_height} in {name}); bring them to one size first."
                )
    assert first is not None
    channels, *_ = choose_shape(files, size=1)
    return (channels, *first)


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
    files: ImageFiles, shape: tuple[int, int, int], fit: Fit, on_bad_image: OnBadImage | None
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
                pixels[i] = decode(read(files.names[i]), shape, fit)
                good[i] = True

        pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # Pillow decodes and resizes without the GIL
        try:
            deque(pool.map(decode_into, range(len(files))), maxlen=0)
        finally:
            pool.shutdown(cancel_futures=True)
    kept: list[int] = np.flatnonzero(good).tolist()
    return (pixels[kept] if bad else pixels), kept, bad


def report_bad(files: ImageFiles, bad: Mapping[str, str]) -> None:
    """Tell which images are left out.

    Raises:
        UsageError: it is all of them.
    """
    if len(bad) == len(files):
        raise UsageError(f"None of the {len(files)} images in {files.path} can be read; {_named(bad)}.")
    if bad:
        were = "image was" if len(bad) == 1 else "images were"
        _LOG.warning("%d of %d %s left out of %s: %s.", len(bad), len(files), were, files.path, _named(bad))


def refusal(files: ImageFiles, name: str, reason: str, *, may_skip: bool = True) -> UsageError:
    """The sentence about an image that cannot be read and is not to be skipped."""
    offer = ", or skip such images with --on-bad-image skip" if may_skip else ""
    return UsageError(f"The image {name} in {files.path} cannot be read ({reason}): mend or remove it{offer}.")


def _named(bad: Mapping[str, str]) -> str:
    """Some of the images that cannot be read, each with the reason."""
    words = [printable(f"{name} ({bad[name]})") for name in sorted(bad)[:_NAMED]]
    return ", ".join(words) + f" and {len(bad) - _NAMED} more" * (len(bad) > _NAMED)


def decode(data: bytes, shape: tuple[int, int, int], fit: Fit = "crop") -> Pixels:
    """One image file as ``[C, H, W]`` uint8. Whatever Pillow raises for a broken file passes through."""
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _opened(data) as image:
        flat = _flatten(image, "L" if channels == 1 else "RGB")
    if flat.size != (width, height):
        resample = Image.Resampling.LANCZOS
        if fit == "crop":
            flat = ImageOps.fit(flat, (width, height), resample)
        elif fit == "pad":
            flat = ImageOps.pad(flat, (width, height), resample)
        else:
            flat = flat.resize((width, height), resample)
    array: Pixels = np.asarray(flat)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """The image, of a format that is known here and of sane size; its pixels are not decoded yet."""
    from PIL import Image

    with Image.open(BytesIO(data), formats=_FORMATS) as image:
        pixels = image.width * image.height
        if pixels > _MAX_PIXELS:
            raise ValueError(f"it has {pixels / 1e6:.0f} million pixels, more than the {_MAX_PIXELS // 10**6} allowed")
        with _ONE_LARGE if pixels > _LARGE else nullcontext():
            yield image


def _flatten(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """The image upright, without transparency, with 8 bits in ``mode``."""
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _DEEP_MODES:
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: integers are taken to span 16 bits, floats 0 to 1 (or 0 to 255 if any exceeds 1)."""
    from PIL import Image

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite")
    top = (255.0 if values.max() > 1 else 1.0) if image.mode == "F" else 65535.0
    pixels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _STRIP):  # float64 of a whole large image would take gigabytes
        rows = slice(start, start + _STRIP)
        pixels[rows] = np.rint(values[rows].astype(np.float64).clip(0, top) * (255 / top))
    return Image.fromarray(pixels)


def _size_of(data: bytes) -> tuple[int, int]:
    """(height, width) as seen upright; reads only the header."""
    from PIL import ExifTags

    with _opened(data) as image:
        width, height = image.size
        # Pillow decodes a whole PNG to look for EXIF data at its end, where hardly any has them.
        exif = {} if image.format == "PNG" and "exif" not in image.info else image.getexif()
        turned = exif.get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def _is_grey(data: bytes) -> bool:
    with _opened(data) as image:
        if image.mode in ("1", "L", *_DEEP_MODES):
            return True
        colours = np.asarray(_flatten(image, "RGB"))
    return bool((colours == colours[..., :1]).all())


def _spread(length: int, count: int) -> range:
    """At most ``count`` numbers below ``length``, evenly spaced."""
    return range(0, length, max(1, length // count))[:count]


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
    except Exception as err:  # Pillow raises almost anything for a broken file
        reason = reason_of(err)
        if on_bad_image != "skip":
            raise refusal(files, name, reason[0], may_skip=on_bad_image is not None) from err
        if bad is not None:
            bad[name] = reason


def reason_of(err: Exception) -> Reason:
    """Why an image cannot be read, and whether that lasts: a lack of memory or of rights does not."""
    from PIL import UnidentifiedImageError

    if isinstance(err, UnidentifiedImageError):
        return "no image format that is known here", True
    reason = " ".join(str(err).split()) or type(err).__name__
    passing = isinstance(err, MemoryError) or (isinstance(err, OSError) and err.errno is not None)
    return reason, not passing


class _Strictness:
    """Pillow's warnings as they are to be taken, for as long as some thread decodes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = warnings.catch_warnings()

    def enter(self) -> None:
        from PIL import Image

        with self._lock:
            self._inside += 1
            if self._inside > 1:
                return
            self._before = warnings.catch_warnings()
            self._before.__enter__()
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            warnings.simplefilter("error", Image.DecompressionBombWarning)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._before.__exit__(None, None, None)


_STRICTNESS: Final = _Strictness()


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Images so large that they look like an attack are errors; remarks on odd metadata are not shown."""
    _STRICTNESS.enter()
    try:
        yield
    finally:
        _STRICTNESS.leave()
