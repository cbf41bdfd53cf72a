"""One image file: its size, whether it is grey, its pixels. Free of torch; Pillow is imported when one is opened."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from ganzoo.data.files import Fit
from ganzoo.errors import Interrupted

if TYPE_CHECKING:
    from PIL import Image

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Reason = tuple[str, bool]
"""Why an image cannot be read, and whether that lasts."""

_LOG: Final = logging.getLogger("ganzoo")
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
"""What is looked for in a file whatever its name says. Pillow knows more, and calls other programs for some."""
_MAX_PIXELS: Final = 2**26
_LARGE: Final = 2**22
_STRIP: Final = 64
_SLACK: Final = 1e-3
"""How far below black and above white floats may be, by white: what arithmetic leaves."""
_TURNING: Final = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
"""What announces in a PNG that it may be turned; these words are never compressed."""
_DEEP_MODES: Final = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


_ONE_LARGE: Final = threading.Lock()
"""Large images are decoded one at a time: eight threads at once could fill the memory."""


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
            flat = _padded(flat, (width, height))
        else:
            flat = flat.resize((width, height), resample)
    array: Pixels = np.asarray(flat)
    return array[None] if channels == 1 else array.transpose(2, 0, 1)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole image, as large as it fits, on black; of a very long one at least a line is left."""
    from PIL import Image, ImageOps

    if image.width * size[1] > image.height * size[0]:
        inner = size[0], max(1, round(image.height / image.width * size[0]))
    else:
        inner = max(1, round(image.width / image.height * size[1])), size[1]
    if 1 not in inner:
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS)
    canvas = Image.new(image.mode, size)
    place = round((size[0] - inner[0]) * 0.5), round((size[1] - inner[1]) * 0.5)
    canvas.paste(image.resize(inner, Image.Resampling.LANCZOS), place)
    return canvas


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

    image.load()
    with _about_the_picture():
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode in _DEEP_MODES:
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: integers are taken to span 16 bits, floats 0 to 1 (or 0 to 255 if any is far above 1).

    A value that stands for transparent becomes white.
    """
    from PIL import Image

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are not finite")
    top = (255.0 if values.max() > 1 + _SLACK else 1.0) if image.mode == "F" else 65535.0
    most = top * (1 + _SLACK) if image.mode == "F" else top
    if values.min() < -_SLACK * top or values.max() > most:
        raise ValueError(f"it has pixels from {values.min():g} to {values.max():g}, where 0 to {top:g} was expected")
    pixels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _STRIP):  # float64 of a whole large image would take gigabytes
        rows = slice(start, start + _STRIP)
        pixels[rows] = np.rint(values[rows].astype(np.float64).clip(0, top) * (255 / top))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        pixels[values == clear] = 255
    return Image.fromarray(pixels)


def size_of(data: bytes) -> tuple[int, int]:
    """(height, width) as seen upright; reads only the header, but of a TIFF that is turned."""
    from PIL import ExifTags, ImageOps

    with _opened(data) as image:
        turned = 1
        # Pillow decodes a whole PNG to look for EXIF data at its end, where hardly any has them.
        if image.format != "PNG" or any(word in data for word in _TURNING):
            with _about_the_picture():
                turned = image.getexif().get(ExifTags.Base.Orientation, 1)
        if turned != 1 and image.format == "TIFF":  # some versions of Pillow turn these by themselves
            image.load()
            with _about_the_picture():
                ImageOps.exif_transpose(image, in_place=True)
            return image.height, image.width
        width, height = image.size
        return (width, height) if turned in (5, 6, 7, 8) else (height, width)


@contextmanager
def _about_the_picture() -> Iterator[None]:
    """What Pillow cannot make sense of in the data about a picture is no part of it."""
    try:
        yield
    except (Interrupted, MemoryError):
        raise
    except Exception as err:
        _LOG.debug("An image has EXIF data that cannot be read: %s", err)


def is_grey(data: bytes) -> bool:
    with _opened(data) as image:
        if image.mode in ("1", "L", *_DEEP_MODES):
            return True
        colours = np.asarray(_flatten(image, "RGB"))
    return bool((colours == colours[..., :1]).all())


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
