"""Listing and reading the images of a folder or of a zip. Free of torch and of Pillow.

A folder whose images lie in at least two sub-folders is labelled by them, in the order of their sorted names.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal

from ganzoo.errors import UsageError

_LOG: Final = logging.getLogger("ganzoo")
Fit = Literal["crop", "pad", "stretch"]
Channels = Literal["auto", "grey", "rgb"]
OnBadImage = Literal["refuse", "skip"]

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
COPY_RECORD: Final = "ganzoo-data.json"
"""A folder that holds a file of this name is a prepared copy; see :mod:`ganzoo.data.copies`."""
_HIDDEN: Final = re.compile(r"(?:^|[/\\])(?:\.(?![/\\]|\Z)|__MACOSX(?=[/\\]|\Z))")
"""In a path, what macOS leaves beside files, and what begins with a dot."""
MAX_FILE_BYTES: Final = 64 * 2**20
"""One image file may take this much, unpacked: a zip cannot explode in memory. Several are read at a time."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files of a folder or of a zip.

    Attributes:
        path: the folder or the zip.
        names: of the files, relative to it, sorted; as the zip spells them.
        labels: index into ``classes`` for each file, or None where the files have no classes.
        classes: sorted names of the class folders; of a name that is no Unicode, the odd bytes are escaped.
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
        names, digest = [name for name, *_ in found], _digest([(str(path.resolve()),), *found])
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


def _walk(root: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, size and times of change of each image below a folder; links are followed, but not in circles.

    Raises:
        UsageError: a folder cannot be listed, unless for lack of rights: those are told of and passed over.
    """
    seen = set()
    todo = [""]
    while todo:
        inside = todo.pop()
        before = f"{inside}/" if inside else ""
        below = []
        try:
            state = (root / inside).stat()
            if (state.st_dev, state.st_ino) in seen:
                continue  # a link that leads back up
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(root / inside) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        if not _HIDDEN.search(entry.name):
                            below.append(before + entry.name)
                    elif _is_image(entry.name):
                        yield (before + entry.name, *_state_of(entry))
        except OSError as err:
            if err.errno not in (errno.EACCES, errno.EPERM):
                raise UsageError(f"The folder {root / inside} cannot be read: {err.strerror or err}.") from None
            _LOG.warning("The folder %s is left out: you have no right to read it.", root / inside)
        todo += sorted(below, reverse=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where one may not look; if it has an image's name, reading it will say so
        return False


def _state_of(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    """Size, time of change, and the time that no program sets: a new file may come under the date of the old one."""
    try:
        state = entry.stat()
    except OSError:  # a link that leads nowhere; reading it will say so
        return -1, 0, 0
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _members(path: Path) -> tuple[list[str], str]:
    """Names of the images of a zip, and their digest."""
    with _open_zip(path) as archive:
        infos = {info.filename: info for info in archive.infolist() if _is_image(info.filename)}
    found = sorted((name, info.file_size, info.CRC) for name, info in infos.items())
    return [name for name, *_ in found], _digest(found)


def _digest(found: Iterable[tuple[str, *tuple[int, ...]]]) -> str:
    """Of names, each with numbers that change when the file does."""
    made = hashlib.sha256()
    for name, *state in found:
        made.update(f"{name}\0{state}\0".encode("utf-8", "surrogatepass"))
    return made.hexdigest()


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _HIDDEN.search(name)


def _classes(names: Iterable[str], path: Path) -> tuple[tuple[int, ...] | None, tuple[str, ...]]:
    # Folders are far fewer than images, so each is looked at once.
    inside = [name.replace("\\", "/").rpartition("/")[0] for name in names]
    folders = {folder: _parts(folder) for folder in set(inside)}
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*folders.values(), strict=False)))
    top_of = {name: parts[shared] if len(parts) > shared else None for name, parts in folders.items()}
    tops = [top_of[folder] for folder in inside]
    classes = sorted({top for top in top_of.values() if top is not None})
    if len(classes) < 2:
        return None, ()
    if None in tops:
        raise UsageError(
            f"In {path} {tops.count(None)} of {len(tops)} images lie outside the class folders "
            f"{', '.join(classes[:3])}{' ...' * (len(classes) > 3)}: move them into one, or set the option labels "
            "to false."
        )
    number = {name: label for label, name in enumerate(classes)}
    spelled = (name.encode("utf-8", "backslashreplace").decode() for name in classes)
    return tuple(number[top] for top in tops if top is not None), tuple(spelled)


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as err:
        # The last two are of members that need a later version of the format, and of names that are not in the
        # encoding that they promise.
        raise UsageError(f"{path} is neither a folder nor a zip that can be read ({err}).") from None


def _read_file(folder: Path, name: str) -> bytes:
    path = folder / name
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no file")  # a pipe would never end
    _refuse_large(state.st_size)
    return path.read_bytes()


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    _refuse_large(info.file_size)
    # zipfile never unpacks more than the size that the archive declares.
    return archive.read(info)


def _refuse_large(size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"it takes {size / 2**20:.0f} MiB, more than the {MAX_FILE_BYTES // 2**20} allowed")
