"""Listing and reading the images of a folder or of a zip. Free of torch and of Pillow.

A folder whose images lie in at least two sub-folders is labelled by them, in the order of their sorted names.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
    """

    path: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()

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
        names = sorted(name for name in _walk(path) if _is_image(name))
    elif path.suffix.lower() in SUFFIXES and path.is_file():
        raise UsageError(one_image(path))
    elif path.is_file():
        with _open_zip(path) as archive:
            names = sorted({info.filename for info in archive.infolist() if _is_image(info.filename)})
    else:
        raise UsageError(f"There is no folder or zip of images at {path}.")
    if not names:
        raise UsageError(f"{path} holds no images; they end in {' '.join(SUFFIXES)}.")
    found, classes = _classes(names, path) if labels else (None, ())
    return ImageFiles(path, tuple(names), found, classes)


def one_image(path: Path | str) -> str:
    """The sentence for one image where many are needed, be it a photo or a sheet of many small pictures."""
    return (
        f"{path} is a single image, and a GAN learns from many: cut a sheet into its pictures, and name their folder."
    )


def _walk(root: Path) -> Iterator[str]:
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True):
        state = os.stat(folder)  # noqa: PTH116 - os.walk tells text
        if (state.st_dev, state.st_ino) in seen:
            below.clear()  # a link that leads back up
            continue
        seen.add((state.st_dev, state.st_ino))
        below.sort()
        inside = Path(folder).relative_to(root)
        yield from ((inside / name).as_posix() for name in files)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part)


def _is_image(name: str) -> bool:
    parts = _parts(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(SUFFIXES)


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
