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
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from ganzoo.errors import UsageError
from ganzoo.files import json_digest

if TYPE_CHECKING:
    from ganzoo.data.arrays import Array

_LOG: Final = logging.getLogger("ganzoo")
Fit = Literal["crop", "pad", "stretch"]
Channels = Literal["auto", "grey", "rgb"]
OnBadImage = Literal["refuse", "skip"]

SUFFIXES: Final = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm", ".pnm"),
)
_SPLITS: Final = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""Names of folders that hardly are classes."""
_OTHERS: Final = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".raw", ".dng", ".cr2", ".nef", ".arw", ".exr")
"""Endings of pictures that are not read."""
COPY_RECORD: Final = "ganzoo-data.json"
"""A folder that holds a file of this name is a prepared copy; see :mod:`ganzoo.data.copies`."""
_HIDDEN: Final = re.compile(r"(?:^|[/\\])(?:\.(?!\.?(?:[/\\]|\Z))|__MACOSX(?=[/\\]|\Z))")
"""In a path, what macOS leaves beside files, and what begins with a dot."""
_RULE: Final = f"{_HIDDEN.pattern} {' '.join((*SUFFIXES, *_OTHERS))}"
_LARGEST: Final = 2**63 - 1
ANY_SIZE: Final = "any-size"
"""Trait of a data set whose images are brought to the height and width of the spec that it is built for."""
ANY_CHANNELS: Final = "any-channels"
"""Trait of a data set whose images are brought to the channels, one or three, of the spec that it is built for."""
_MOST_AGAIN: Final = 4096
"""So many folders may be entered another time, through links; those that link to each other on every floor would make
thousands of few."""
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
        content: hex SHA-256 of the names and sizes in a folder, or the digest of a zip: it tells less of a folder, and
            stays the same when that is moved; empty where it is not known.
        table: of a zip, where each file is in it, a :class:`~ganzoo.data.zipped.Member` in a row.
        stamp: of a zip, its size and times of change; empty where it is not known.
    """

    path: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    digest: str = ""
    content: str = ""
    table: Array | None = field(default=None, compare=False, repr=False)
    stamp: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def state(self) -> str:
        """What was found out about the files holds as long as this is the same; empty where it is not known.

        The list of a zip says what its files should be, whoever packed them. Whether they can be read, it does not say.
        """
        return json_digest([self.digest, self.stamp]) if self.digest and self.stamp else self.digest

    def part(self, numbers: Sequence[int]) -> ImageFiles:
        """Some of them, without labels; what is needed to read them and no more, so that it is quickly sent."""
        names = tuple(self.names[number] for number in numbers)
        return ImageFiles(self.path, names, table=None if self.table is None else self.table[list(numbers)])

    @contextmanager
    def open(self) -> Iterator[Callable[[int], bytes]]:
        """A function that reads the bytes of a file by its number; threads may share it.

        Raises:
            UsageError: it is a zip that cannot be read.
            OSError: the folder or zip is not there any more.
        """
        from ganzoo.data.zipped import Member, OpenZip, list_members  # NumPy takes its time, and help needs none

        if self.table is None and stat.S_ISREG(self.path.stat().st_mode):
            found = list_members(self.path, set(self.names).__contains__)
            missing = set(self.names).difference(found.names)
            if missing:
                raise UsageError(f"{self.path} has no file {min(missing)}.")
            rows = {name: row for row, name in enumerate(found.names)}
            with replace(self, table=found.table[[rows[name] for name in self.names]]).open() as read:
                yield read
        elif self.table is None:
            yield lambda number: _read_file(self.path, self.names[number])
        else:
            table = self.table
            with closing(OpenZip(self.path)) as archive:
                yield lambda number: archive.read(Member(*table[number].tolist()))


def list_images(path: Path, *, labels: bool = True) -> ImageFiles:
    """The images under ``path``, a folder (with its sub-folders, links followed) or a zip.

    Hidden files and ``__MACOSX`` are passed over. Folders that all images share do not count, so a zip of one folder
    of class folders is labelled like that folder.

    Raises:
        UsageError: there is no such folder or zip, it holds no images, or some but not all are in class folders.
    """
    from ganzoo.data.zipped import known_members, stamp_of, sums

    path = at_home(path)
    table: Array | None = None
    stamp: tuple[int, ...] = ()
    if path.is_dir():
        names, state = _walk(path)
        # Names, sizes and times tell the files of one folder apart, not those of two.
        digest = _digest((str(path.resolve()), *names), state.tobytes())
        content = _digest(names, state[::3].tobytes())
        names = sorted(names)
    elif path.suffix.lower() in SUFFIXES and path.is_file():
        raise UsageError(one_image(path))
    elif path.is_file():
        stamp = stamp_of(path)
        names, table = known_members(path, stamp, _is_picture, _RULE)
        others = Counter(_ending(name) for name in names if _is_other(name))
        if others:
            _tell_of(others, path)
            rows = [row for row, name in enumerate(names) if not _is_other(name)]
            names, table = tuple(names[row] for row in rows), table[rows]
        digest = content = _digest(names, sums(table))
    else:
        raise UsageError(f"There is no folder or zip of images at {path}.")
    if not names:
        raise UsageError(f"{path} holds no images; they end in {' '.join(SUFFIXES)}, and what is hidden is left out.")
    numbers, classes = _classes(names, path) if labels else (None, ())
    return ImageFiles(path, tuple(names), numbers, classes, digest, content, table, stamp)


def at_home(path: Path) -> Path:
    """The path with ``~`` and ``~name`` written out.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError:
        user = path.parts[0]
        raise UsageError(
            f"Nobody knows whose home {user} in {path} is; if it is the name of a folder, write {path.absolute()}."
        ) from None


def is_copy(path: Path) -> bool:
    """Whether a folder is a prepared copy."""
    return (path / COPY_RECORD).is_file()


def one_image(path: Path | str) -> str:
    """The sentence for one image where many are needed, be it a photo or a sheet of many small pictures."""
    return (
        f"{path} is a single image, and a GAN learns from many: cut a sheet into its pictures, and name their folder."
    )


def _walk(root: Path) -> tuple[Sequence[str], array[int]]:
    """Names of the images below a folder, always in the same order, and size and times of change of each.

    Links are followed, but not in circles.

    Raises:
        UsageError: a folder cannot be listed, unless for lack of rights: those are told of and passed over.
    """
    entered: set[tuple[int, int]] = set()
    again = 0
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    names: list[str] = []
    states = array("q")
    others: Counter[str] = Counter()
    while todo:
        inside, above = todo.pop()
        before = f"{inside}/" if inside else ""
        below, found = [], []
        try:
            state = (root / inside).stat()
            this = state.st_dev, state.st_ino
            if this in above:
                continue  # a link that leads back up
            again += this in entered
            if again > _MOST_AGAIN:
                raise UsageError(
                    f"Links in {root} lead to the same folders more than {_MOST_AGAIN} times: remove some."
                )
            entered.add(this)
            with os.scandir(root / inside) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        if not _HIDDEN.search(entry.name):
                            below.append(before + entry.name)
                    elif _is_image(entry.name):
                        found.append((before + entry.name, _state_of(entry)))
                    elif _is_other(entry.name) and not _HIDDEN.search(entry.name):
                        others[_ending(entry.name)] += 1
        except OSError as err:
            if err.errno not in (errno.EACCES, errno.EPERM):
                raise UsageError(f"The folder {root / inside} cannot be read: {err.strerror or err}.") from None
            _LOG.warning("The folder %s is left out: you have no right to read it.", root / inside)
        for name, state_of_file in sorted(found):
            names.append(name)
            states.extend(state_of_file)
            above |= {this}
        todo += [(folder, above) for folder in sorted(below, reverse=True)]
    if others:
        _tell_of(others, root)
    return names, states


def _tell_of(others: Counter[str], path: Path) -> None:
    """Say how many pictures are left out, by their endings."""
    kinds = ", ".join(f"{count} end in .{ending}" for ending, count in sorted(others.items()))
    _LOG.warning("Pictures in %s that cannot be read are left out: %s; convert them to PNG or JPEG.", path, kinds)


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
    # Some file systems have dates that 64 bits have not; which one it is does not matter here.
    return state.st_size & _LARGEST, state.st_mtime_ns & _LARGEST, state.st_ctime_ns & _LARGEST


def _digest(names: Iterable[str], state: bytes) -> str:
    """Of names and of numbers that change when the files do."""
    made = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass"))
    made.update(b"\0\0" + state)
    return made.hexdigest()


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _HIDDEN.search(name)


def _is_other(name: str) -> bool:
    """Whether it is a picture that is not read."""
    return name.lower().endswith(_OTHERS)


def _is_picture(name: str) -> bool:
    """Whether it is a picture, be it one that is not read."""
    return name.lower().endswith((*SUFFIXES, *_OTHERS)) and not _HIDDEN.search(name)


def _ending(name: str) -> str:
    return name.lower().rpartition(".")[2]


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
    if _SPLITS.issuperset(name.lower() for name in classes):
        above = next(iter(folders.values()))[:shared]
        known = [name for name in classes if name.lower().startswith("train")]
        wanted = path.joinpath(*above, *(known or classes)[:1])
        _LOG.warning(
            "The folders %s of %s look like parts of a data set, and are taken for its classes: name one of them%s, or "
            "set the option labels to false.",
            ", ".join(classes),
            path,
            f" ({wanted})" if wanted.is_dir() else ", unpacked",
        )
    if None in tops:
        raise UsageError(
            f"In {path} {tops.count(None)} of {len(tops)} images lie outside the class folders "
            f"{', '.join(classes[:3])}{' ...' * (len(classes) > 3)}: move them into one, or set the option labels "
            "to false."
        )
    number = {name: label for label, name in enumerate(classes)}
    spelled = (name.encode("utf-8", "backslashreplace").decode() for name in classes)
    return tuple(number[top] for top in tops if top is not None), tuple(spelled)


def _read_file(folder: Path, name: str) -> bytes:
    path = folder / name
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("it is no file")  # a pipe would never end
    refuse_large(state.st_size)
    return path.read_bytes()


def refuse_large(size: int) -> None:
    """Refuse a file of more bytes than are allowed.

    Raises:
        ValueError: it is one.
    """
    if size > MAX_FILE_BYTES:
        raise ValueError(f"it takes {size / 2**20:.0f} MiB, more than the {MAX_FILE_BYTES // 2**20} allowed")
