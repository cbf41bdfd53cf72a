"""Weights that somebody published: found on this machine first, checked by their hash, read without unpickling code."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from ganzoo.api import GanzooError, MissingError
from ganzoo.data.fetch import download, has_digest
from ganzoo.data.files import at_home
from ganzoo.data.roots import cache_home
from ganzoo.nn.weights import load_tensors

WEIGHTS_VARIABLE: Final = "GANZOO_WEIGHTS"
_ENDINGS: Final = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Published:
    """A weights file as it was published.

    Attributes:
        name: short name, that of the component; ``NAME.safetensors`` or ``NAME.pth`` in a folder means this file too.
        file: its file name.
        url: where it is.
        sha256: its SHA-256 in hexadecimal, or the first digits of it that were published with it.
    """

    name: str
    file: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Found:
    """A weights file on this machine, and whether it is, by its hash, the one that was published."""

    path: Path
    published: bool


def find_weights(wanted: Published, named: Path | None = None, *, fetch: bool = True, instead: str = "") -> Found:
    """The file of these weights.

    It is looked for where ``named`` says and nowhere else; or at ``GANZOO_WEIGHTS`` (a file, or a folder that has it),
    in torch's hub folder, in ganzoo's cache. Else it is downloaded. A file at ``GANZOO_WEIGHTS`` is taken for the
    network alone whose it is by its name or its hash.

    Args:
        wanted: which.
        named: a file or a folder that has it.
        fetch: whether it may be downloaded.
        instead: what to do without it, as the end of a sentence.

    Raises:
        MissingError: it is nowhere, and cannot be had.
        GanzooError: a file of the published name is another one, or damaged.
    """
    if named is not None:
        place = at_home(named).absolute()
        found = _at(place, wanted)
        if found is None:
            what = f"is no {wanted.file}" if place.is_dir() else "is nothing"
            raise MissingError(f"There {what} at {place}, which is to have the weights of {wanted.name}.")
        return _checked(found, wanted)
    for place in _places():
        found = _at(place, wanted)
        if found is not None and (place.is_dir() or _fits(found, wanted)):
            return _checked(found, wanted)
    target = cache_home() / "weights" / wanted.file
    if not fetch:
        raise _missing(wanted, target, "downloads are off", instead)
    try:
        download([wanted.url], target, f"sha256:{wanted.sha256}")
    except OSError as err:
        reason = " ".join(str(err).split()) or type(err).__name__
        raise _missing(wanted, target, f"it cannot be downloaded ({reason})", instead) from None
    return Found(target, published=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, or of a ``.pth`` that holds a state dict and nothing else.

    Raises:
        GanzooError: it is damaged, or holds anything but tensors by name.
    """
    if path.suffix.lower() == ".safetensors":
        return load_tensors(path)
    foreign = f"{path} holds no weights: a file of weights has tensors by name, and nothing else"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of TorchScript archives before it refuses them
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise GanzooError(f"{foreign}; what else is in it could run code, so it is not read.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as err:
        reason = " ".join(str(err).split())[:200]
        raise GanzooError(f"{path} is damaged, or no file of weights ({reason}); get it again.") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise GanzooError(f"{foreign}.")
    return {str(name): value for name, value in state.items()}


def weights_digest(tensors: Mapping[str, Tensor], *also: str) -> str:
    """Hex SHA-256 over tensors by name, whatever file they came in, and over the words ``also``."""
    made = hashlib.sha256(repr(also).encode())
    for name, tensor in sorted(tensors.items()):
        made.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


def _places() -> list[Path]:
    named = os.environ.get(WEIGHTS_VARIABLE, "")
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    return [*([at_home(Path(named)).absolute()] if named else []), hub, cache_home() / "weights"]


def _at(place: Path, wanted: Published) -> Path | None:
    """The file that a place has: itself, or the one of the right name in the folder that it is."""
    if place.is_file():
        return place
    return next((place / name for name in _names(wanted) if (place / name).is_file()), None)


def _names(wanted: Published) -> tuple[str, ...]:
    """The file names that mean these weights."""
    return (wanted.file, *(f"{wanted.name}{ending}" for ending in _ENDINGS))


def _fits(path: Path, wanted: Published) -> bool:
    """Whether a file that was named for any network is the one of this network."""
    return path.name in _names(wanted) or has_digest(path, f"sha256:{wanted.sha256}")


def _checked(path: Path, wanted: Published) -> Found:
    published = has_digest(path, f"sha256:{wanted.sha256}")
    if path.name == wanted.file and not published:
        raise GanzooError(
            f"{path} is damaged, or another file under this name: its SHA-256 does not begin with "
            f"{wanted.sha256[:8]}; get it again from {wanted.url}."
        )
    return Found(path, published)


def _missing(wanted: Published, target: Path, why: str, instead: str) -> MissingError:
    also = f"; or {instead}" if instead else ""
    return MissingError(
        f"The weights {wanted.file} of {wanted.name} are not on this machine, and {why}: get {wanted.url} elsewhere "
        f"and put it to {target}, or name its place with --weights or {WEIGHTS_VARIABLE}{also}."
    )
