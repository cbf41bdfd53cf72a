"""Listing and reading the images of a folder or of a zip. Free of torch and of Pillow.

A folder whose images lie in at least two sub-folders is labelled by them, in the order of their sorted names.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal

from ganzoo.errors import UsageError

Fit = Literal["crop", "pad", "stretch"]
Channels = Literal["auto", "grey", "rgb"]
OnBadImage = Literal["refuse", "skip"]

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
COPY_RECORD: Final = "ganzoo-data.json"
"""A folder that holds a file of this name is a prepared copy; see :mod:`ganzoo.data.copies`."""
MAX_FILE_BYTES: Final = 64 * 2**20
"""One image file may take this much, unpacked: a zip cannot explode in memory. Several are read at a time."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files of a folder or of a zip.

    Attributes:
        path: the folder or the zip.
        names: of the files, relative to it, sorted; as the zip spells them.
        labels: index into ``classes`` for each file, or None where the files have no classes.
        classes: sorted names of the class folders.
        digest: hex SHA-256 of the folder and the names, sizes and times of change in it, or of the names, sizes and
            checksums of a zip; empty where it is not known.
    """

    path: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    digest: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @contextmanager
    def open(self) -> Iterator[Callable[[str], bytes]]:
        """A function that reads the bytes of a file by its name; threads may share it."""
        if self.path.is_dir():
            yield partial(_read_file, self.path)
        else:
            with _open_zip(self.path) as archive:
                yield partial(_read_member, archive)


def list_images(path: Path, *, labels: bool = True) -> ImageFiles:
    """The images under ``path``, a folder (with its sub-folders, links followed) or a zip.

    Hidden files and ``__MACOSX`` are passed over. Folders that all images share do not count, so a zip of one folder
    of class folders is labelled like that folder.

    Raises:
        UsageError: there is no such folder or zip, it holds no images, or some but not all are in class folders.
    """
    path = path.expanduser()
    if path.is_dir():
        found = sorted(_walk(path))
        # Names, sizes and times tell the files of one folder apart, not those of two.
        names, digest = [name for name, *_ in found], _digest([(str(path.resolve()), 0, 0), *found])
    elif path.suffix.lower() in SUFFIXES and path.is_file():
        raise UsageError(one_image(path))
    elif path.is_file():
        names, digest = _members(path)
    else:
        raise UsageError(f"There is no folder or zip of images at {path}.")
    if not names:
        raise UsageError(f"{path} holds no images; they end in {' '.join(SUFFIXES)}.")
    numbers, classes = _classes(names, path) if labels else (None, ())
    return ImageFiles(path, tuple(names), numbers, classes, digest)


def is_copy(path: Path) -> bool:
    """Whether a folder is a prepared copy."""
    return (path / COPY_RECORD).is_file()


def one_image(path: Path | str) -> str:
    """The sentence for one image where many are needed, be it a photo or a sheet of many small pictures."""
    return (
        f"{path} is a single image, and a GAN learns from many: cut a sheet into its pictures, and name their folder."
    )


def _walk(root: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and time of change of each image below a folder; links are followed, but not in circles."""
    seen = set()
    todo = [""]
    while todo:
        inside = todo.pop()
        below = []
        with suppress(OSError):  # a folder that may not be read is passed over
            state = (root / inside).stat()
            if (state.st_dev, state.st_ino) in seen:
                continue  # a link that leads back up
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(root / inside) as entries:
                for entry in entries:
                    name = f"{inside}/{entry.name}" if inside else entry.name
                    if entry.is_dir():
                        below.append(name)
                    elif _is_image(name):
                        yield (name, *_state_of(entry))
        todo += sorted(below, reverse=True)


def _state_of(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        state = entry.stat()
    except OSError:  # a link that leads nowhere; reading it will say so
        return -1, 0
    return state.st_size, state.st_mtime_ns


def _members(path: Path) -> tuple[list[str], str]:
    """Names of the images of a zip, and their digest."""
    with _open_zip(path) as archive:
        infos = {info.filename: info for info in archive.infolist() if _is_image(info.filename)}
    found = sorted((name, info.file_size, info.CRC) for name, info in infos.items())
    return [name for name, *_ in found], _digest(found)


def _digest(found: Iterable[tuple[str, int, int]]) -> str:
    """Of names, each with two numbers that change when the file does."""
    made = hashlib.sha256()
    for name, *state in found:
        made.update(f"{name}\0{state}\0".encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def _parts(name: str) -> tuple[str, ...]:
    return tuple(filter(None, name.replace("\\", "/").split("/")))


def _is_image(name: str) -> bool:
    if not name.lower().endswith(SUFFIXES):
        return False
    return not any(part.startswith(".") or part == "__MACOSX" for part in _parts(name))


def _classes(names: Iterable[str], path: Path) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    folders = [_parts(name)[:-1] for name in names]
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False)))
    tops = [folder[shared] if len(folder) > shared else None for folder in folders]
    classes = sorted({top for top in tops if top is not None})
    if len(classes) < 2:
        return None, ()
    if None in tops:
        raise UsageError(
            f"In {path} {tops.count(None)} of {len(tops)} images lie outside the class folders "
            f"{', '.join(classes[:3])}{' ...' * (len(classes) > 3)}: move them into one, or set the option labels "
            "to false."
        )
    number = {name: label for label, name in enumerate(classes)}
    return tuple(number[top] for top in tops if top is not None), tuple(classes)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as err:
        # The last is what zipfile raises where a member needs a later version of the format than it knows.
        raise UsageError(f"{path} is neither a folder nor a zip that can be read ({err}).") from None


def _read_file(folder: Path, name: str) -> bytes:
    path = folder / name
    if not path.is_file():
        raise ValueError("it is no file")  # a pipe would never end
    _refuse_large(path.stat().st_size)
    return path.read_bytes()


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    _refuse_large(info.file_size)
    # zipfile never unpacks more than the size that the archive declares.
    return archive.read(info)


def _refuse_large(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"it takes {size / 2**20:.0f} MiB, more than the {MAX_FILE_BYTES // 2**20} allowed")
