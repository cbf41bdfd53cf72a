"""The ``mu``/``sigma`` npz that the tools people have exchange, with two more arrays of ours: ``n`` and ``extractor``.

Whatever a file promises is checked from its headers before memory is allocated, and nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from ganzoo.data.files import at_home
from ganzoo.data.npz import ArrayHeader, array_header, array_names
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.evaluation.statistics import Gaussian
from ganzoo.files import write_bytes

Array = np.ndarray[Any, np.dtype[Any]]

_ARRAYS: Final[tuple[str, ...]] = ("mu", "sigma", "n", "extractor")
_MOST_FEATURES: Final = 16_384
"""A covariance of more takes over 2 GB; no extractor in use has half as many."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST_TEXT: Final = 256
_ASYMMETRY: Final = 1e-4
"""Share of the largest entry by which a matrix may miss symmetry: some tools save float32."""


def write_statistics(path: Path, statistics: Gaussian) -> None:
    """Write ``mu [F]`` and ``sigma [F, F]`` float64, the count ``n`` and the extractor's digest as an npz.

    Raises:
        GanzooError: it cannot be written.
    """
    covariance = statistics.covariance
    if covariance is None:
        assert statistics.centred is not None
        covariance = statistics.centred.T @ statistics.centred / (len(statistics.centred) - 1)
    arrays: dict[str, Array] = {"mu": statistics.mean.numpy(), "sigma": covariance.numpy()}
    if statistics.count is not None:
        arrays["n"] = np.array(statistics.count, dtype=np.int64)
    if statistics.extractor:
        arrays["extractor"] = np.array(statistics.extractor)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getbuffer())


def read_statistics(path: Path) -> Gaussian:
    """Read what :func:`write_statistics` or another tool wrote; arrays of other names are passed over.

    Raises:
        MissingError: there is no such file.
        UsageError: it is no such file.
        GanzooError: its numbers are damaged.
    """
    path = at_home(path)
    if not path.is_file():
        raise MissingError(f"There is no file {path} of statistics; write one with --save-stats.")
    try:
        found = _read(path)
    except GanzooError:
        raise
    except Exception as err:  # numpy evaluates a header as Python does, and raises whatever that raises
        reason = " ".join(str(err).split()) or type(err).__name__
        raise UsageError(f"{path} is no npz of statistics that can be read ({reason}): write it anew.") from err
    mean, covariance = found["mu"].astype(np.float64), found["sigma"].astype(np.float64)
    for name, array in (("mu", mean), ("sigma", covariance)):
        if not np.isfinite(array).all():
            raise GanzooError(f"{path} is damaged: {name} holds numbers that are not finite.")
    if np.abs(covariance - covariance.T).max() > _ASYMMETRY * max(float(np.abs(covariance).max()), 1e-300):
        raise GanzooError(f"{path} is damaged: sigma is not symmetric, and so no covariance.")
    if (np.diagonal(covariance) < 0).any():
        raise GanzooError(f"{path} is damaged: sigma has negative variances.")
    return Gaussian(
        torch.from_numpy(mean),
        torch.from_numpy((covariance + covariance.T) / 2),
        int(found["n"]) if "n" in found else None,
        str(found["extractor"]) if "extractor" in found else "",
    )


def _read(path: Path) -> dict[str, Array]:
    """The arrays that matter, their shapes and types checked."""
    with zipfile.ZipFile(path) as archive:
        names = set(array_names(archive))
        lacking = [name for name in ("mu", "sigma") if name not in names]
        if lacking:
            there = ", ".join(sorted(names)[:8]) or "none"
            raise UsageError(f"{path} holds no {' and no '.join(lacking)}, which statistics are; its arrays: {there}.")
        headers = {name: _header(archive, name) for name in _ARRAYS if name in names}
    dim = _check_shapes(path, headers)
    with np.load(path, allow_pickle=False) as arrays:
        found: dict[str, Array] = {name: arrays[name] for name in headers}
    if "n" in found and int(found["n"]) < 2:
        raise GanzooError(f"{path} is damaged: its statistics would come from n = {int(found['n'])} samples.")
    if "extractor" in found and not _DIGEST.fullmatch(str(found["extractor"])):
        raise GanzooError(f"{path} is damaged: its extractor is no SHA-256 in hexadecimal.")
    assert found["mu"].shape == (dim,)
    return found


def _header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    header = array_header(archive, name)
    if header.promised != header.unpacked:
        raise ValueError(f"the header of {name} promises {header.promised} bytes and there are {header.unpacked}")
    return header


def _check_shapes(path: Path, headers: Mapping[str, ArrayHeader]) -> int:
    """How many features there are."""
    shape, square = headers["mu"].shape, headers["sigma"].shape
    dim = math.prod(shape)
    if len(shape) != 1 or square != (dim, dim) or not 1 <= dim <= _MOST_FEATURES:
        raise UsageError(
            f"{path} holds mu {list(shape)} and sigma {list(square)}; statistics are [F] and [F, F] "
            f"with F from 1 to {_MOST_FEATURES:,}."
        )
    for name in ("mu", "sigma"):
        if headers[name].dtype.kind != "f":
            raise UsageError(f"{path} holds {name} of {headers[name].dtype}; statistics are floats.")
    scalars = {"n": ("i", "u"), "extractor": ("U",)}
    for name, kinds in scalars.items():
        if name in headers:
            shape, dtype = headers[name].shape, headers[name].dtype
            if math.prod(shape) != 1 or dtype.kind not in kinds or dtype.itemsize > 4 * _LONGEST_TEXT:
                raise UsageError(f"{path} holds {name} {list(shape)} of {dtype}, which is no such thing.")
    return dim
