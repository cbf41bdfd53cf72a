"""What an npz of arrays holds, found out from its headers, without torch and without unpickling anything.

Samples are ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]`` with C at most 4, or points ``[N, D]`` of floats.
Pixels are kept as uint8. Other integers must be in 0 .. 255; floats are scaled from the first of the ranges [0, 1],
[-1, 1] and [0, 255] that holds them all.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from ganzoo.api import Interrupted, Spec, UsageError
from ganzoo.data.files import at_home
from ganzoo.data.npz import ArrayHeader, array_header, array_names
from ganzoo_datasets import NpzConfig

Array = np.ndarray[Any, np.dtype[Any]]

_SAMPLES: Final = ("images", "x", "arr_0", "x_train")
_LABELS: Final = ("labels", "y", "y_train")
_RANGES: Final = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_SLACK: Final = 1e-3
_NAMED: Final = 5
_LOG: Final = logging.getLogger("ganzoo")
_INTEGERS: Final = ("b", "u", "i")
_MAX_CHANNELS: Final = 4
_MAX_UNPACKED: Final = 256 * 2**20
_MAX_RATIO: Final = 100


@dataclass(frozen=True)
class NpzSource:
    """An npz whose headers were found good."""

    path: Path
    samples: str
    labels: str | None
    channels_last: bool
    spec: Spec

    def read(self) -> tuple[Array, Array | None]:
        """Images ``[N, C, H, W]`` uint8 or points ``[N, D]`` float32, and labels ``[N]`` int64 or None.

        Raises:
            UsageError: the file is broken, or values are in none of the ranges.
        """
        array = _load(self.path, self.samples)
        labels = None if self.labels is None else _load_labels(self.path, self.labels)
        where = f"The array {self.samples!r} in {self.path}"
        if not self.spec.is_image:
            if not np.isfinite(array).all():
                raise UsageError(f"{where} holds numbers that are not finite; remove those points.")
            with np.errstate(over="ignore"):
                points = array.astype(np.float32)
            if not np.isfinite(points).all():
                raise UsageError(f"{where} holds numbers beyond float32 (3.4e38); scale them.")
            return points, labels
        pixels = _pixels(array, where)
        if self.channels_last:
            pixels = pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pixels.reshape(len(pixels), -1, *pixels.shape[-2:])), labels


def npz_source(config: NpzConfig) -> NpzSource:
    """Look at the file; once in a process unless it changes.

    Raises:
        UsageError: there is no such file or array, or one that is no data set.
    """
    if config.path is None:
        raise UsageError("The data set 'npz' needs the option path: --data.path FILE.npz.")
    path = at_home(config.path).absolute()
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    return _look(config, path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _look(config: NpzConfig, path: Path, _modified: int) -> NpzSource:
    samples = _choose(path, config.images, _SAMPLES, "samples", "images")
    assert samples is not None
    header = _header(path, samples)
    shape, channels_last = _sample_shape(header, f"The array {samples!r} in {path}")
    labels = _choose(path, config.labels, _LABELS, None, "labels")
    num_classes = None if labels is None else _count_classes(path, labels, header.shape[0])
    return NpzSource(path, samples, labels, channels_last, Spec(shape, num_classes))


def _choose(path: Path, asked: str | None, usual: tuple[str, ...], needed: str | None, option: str) -> str | None:
    with _reading(path), zipfile.ZipFile(path) as archive:
        names = array_names(archive)
    there = f"it has {', '.join(names) or 'no arrays'}"
    if asked is not None:
        if asked not in names:
            raise UsageError(f"{path} has no array {asked!r}; {there}.")
        return asked
    found = next((name for name in usual if name in names), None)
    if found is None and needed:
        do = f": set the option {option}" if names else ""
        raise UsageError(f"{path} has no {needed} called {' or '.join(usual)}; {there}{do}.")
    return found


def _header(path: Path, name: str) -> ArrayHeader:
    with _reading(path), zipfile.ZipFile(path) as archive:
        header = array_header(archive, name)
    where, shape, dtype = f"The array {name!r} in {path}", header.shape, header.dtype
    if dtype.hasobject or dtype.kind not in (*_INTEGERS, "f"):
        raise UsageError(f"{where} is of {dtype}; store plain numbers.")
    size = header.unpacked
    if header.promised != size:
        raise UsageError(f"{where} is cut off: its header promises {header.promised} bytes and it has {size}.")
    if size > _MAX_UNPACKED and size > _MAX_RATIO * header.packed:
        raise UsageError(
            f"{where} unpacks to {size // header.packed} times its size, {size / 2**20:.0f} "
            "MiB, as files do that shall fill the memory; if it is sound, save it anew with numpy.savez."
        )
    if not shape or shape[0] == 0:
        raise UsageError(f"{where} is empty: it has the shape {shape}.")
    return header


def _sample_shape(header: ArrayHeader, where: str) -> tuple[tuple[int, ...], bool]:
    """Shape of a sample as a spec has it, and whether the array's channels come last."""
    shape = header.shape[1:]
    if len(shape) == 1 and header.dtype.kind == "f":
        return shape, False
    if len(shape) == 2:
        return (1, *shape), False
    if len(shape) == 3:
        first, last = (shape[i] <= _MAX_CHANNELS for i in (0, 2))
        if first != last:
            return ((shape[2], shape[0], shape[1]) if last else shape), last
    raise UsageError(
        f"{where} has the shape {header.shape} of {header.dtype}, which is no data set: images are (N, H, W), "
        f"(N, H, W, C) or (N, C, H, W) with at most {_MAX_CHANNELS} channels, points (N, D) of floats."
    )


def _count_classes(path: Path, name: str, samples: int) -> int:
    header = _header(path, name)
    where = f"The array {name!r} in {path}"
    if header.shape not in ((samples,), (samples, 1)) or header.dtype.kind not in _INTEGERS:
        raise UsageError(
            f"{where} has the shape {header.shape} of {header.dtype}; labels of {samples} samples are ({samples},) "
            "of integers."
        )
    labels = _load(path, name)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= samples:
        why = "" if low < 0 else f", which would be more classes than its {samples} samples"
        raise UsageError(f"{where} has labels from {low} to {high}{why}; number the classes from 0 without gaps.")
    seen = np.bincount(labels.reshape(-1).astype(np.int64))
    empty = np.flatnonzero(seen == 0)
    if len(empty):
        which = ", ".join(map(str, empty[:_NAMED])) + ", ..." * (len(empty) > _NAMED)
        _LOG.warning("%s has no sample of the classes %s; number the classes from 0 without gaps.", where, which)
    return high + 1


def _load_labels(path: Path, name: str) -> Array:
    labels: Array = _load(path, name).reshape(-1).astype(np.int64)
    return labels


def _load(path: Path, name: str) -> Array:
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        found: Array = arrays[name]
    return found


def _pixels(array: Array, where: str) -> Array:
    if array.dtype.kind in ("u", "i") and array.max() == 1:
        _LOG.warning("%s has pixels of 0 and 1 alone, of 255: all black. If 1 means white, store it as bool.", where)
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise UsageError(f"{where} has pixels that are not finite; remove those images.")
    ranges = _RANGES if array.dtype.kind == "f" else _RANGES[-1:]
    for start, end in ranges:
        slack = _SLACK * (end - start) if array.dtype.kind == "f" else 0
        if start - slack <= low and high <= end + slack:
            scaled: Array = (array.astype(np.float32) - start) * (255 / (end - start))
            pixels: Array = np.rint(scaled).clip(0, 255).astype(np.uint8)
            return pixels
    spans = ", ".join(f"[{start:g}, {end:g}]" for start, end in ranges)
    raise UsageError(f"{where} has pixels from {low:g} to {high:g}; bring them into one of {spans}.")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise UsageError(f"{path} does not fit into memory; leave some samples out, or store them as uint8.") from None
    except Interrupted:
        raise
    except Exception as err:  # numpy evaluates a header as Python does, and raises whatever that raises
        reason = " ".join(str(err).split()) or type(err).__name__
        raise UsageError(f"{path} cannot be read as an .npz ({reason}): save it anew with numpy.savez.") from err
