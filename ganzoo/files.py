"""Writing files so that a reader sees the old or the new, never a half: staged beside, flushed to disk, then renamed.

Every failure of the disk becomes one sentence that says what, where and what to do. Hashes of files and of values are
made here, too. Free of torch.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ganzoo.errors import GanzooError

Buffer = bytes | bytearray | memoryview

_CAUSES: Final = {
    errno.ENOSPC: "the disk is full; free some space, or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space, or choose another folder",
    errno.EFBIG: "the file is larger than the file system or your limits allow; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission is denied; choose another folder, or ask its owner for the right to write there",
    errno.EPERM: "permission is denied; choose another folder, or ask its owner for the right to write there",
    errno.ENOTDIR: "a file stands where a folder is needed; choose another path",
    errno.EEXIST: "a file stands where a folder is needed; choose another path",
    errno.EISDIR: "a folder stands where the file belongs; choose another path",
    errno.ENOENT: "a folder on the way vanished or cannot be made; choose another path",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.EIO: "the disk reports an error; check its health, or choose another folder",
}
_NO_DIRECTORY_SYNC: Final = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """:func:`write_bytes` of ``text`` in UTF-8, line ends as they are."""
    # Names of files that are not UTF-8 come from Python as surrogates, and go back to the bytes that they were.
    write_bytes(path, text.encode("utf-8", "surrogateescape"), durable=durable)


def write_bytes(path: Path, *data: Buffer, durable: bool = True) -> None:
    """Put ``data``, one piece after the other, into the file ``path``; missing folders are made.

    Args:
        path: the file, replaced if it is there.
        data: its content.
        durable: whether to wait until it is on the disk; a crash of the machine may lose or empty it otherwise.

    Raises:
        GanzooError: it cannot be written; what was there before stays as it was.
    """
    with _said(path):
        path = _ready(path)
        draft = _sibling(path)
        try:
            with draft.open("xb") as file:
                for piece in data:
                    file.write(piece)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        if durable:
            _sync_directory(path.parent)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Fill a folder beside ``path``; at the end it is flushed to disk, and takes the name ``path`` as a whole.

    A folder of that name is replaced, with all that is in it. Files and folders get the permissions that the umask
    asks for, whatever the library that wrote them chose. After a failure, or an exception of the caller, nothing is
    left behind and ``path`` is as it was.

    Raises:
        GanzooError: it cannot be written, also when the body met the ``OSError``.
    """
    with _said(path):
        path = _ready(path)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "is a file", str(path))
        draft = _sibling(path)
        draft.mkdir()
        try:
            yield draft
            _settle(draft)
            _take_place(draft, path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _sync_directory(path.parent)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        GanzooError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        raise GanzooError(f"Cannot read {path}: {err.strerror or err}.") from None


def json_digest(value: Any) -> str:
    """The SHA-256 of plain JSON values, in hexadecimal; the order of names in a table changes nothing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def cause_of(err: OSError) -> str:
    """Why something cannot be written, and what to do."""
    return _CAUSES.get(err.errno or 0) or f"{err.strerror or err}; choose another folder"


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        raise GanzooError(f"Cannot write {path}: {cause_of(err)}.") from err


def _ready(path: Path) -> Path:
    """The path in full, within a folder that exists."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _sibling(path: Path) -> Path:
    # The name is cut so that a file with the longest possible name still has room for its draft's.
    return path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.tmp")


def _settle(root: Path) -> None:
    """Permissions by umask, and everything on the disk."""
    # The kernel applied the umask to this folder. Asking the process for it would mean changing it for a moment,
    # which another thread's new file could meet.
    mode = root.stat().st_mode & 0o777
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            file.chmod(mode & 0o666)
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        Path(folder).chmod(mode)
        _sync_directory(Path(folder))


def _take_place(draft: Path, path: Path) -> None:
    """Rename ``draft`` to ``path``; a folder cannot be renamed onto a full one, so the old one steps aside."""
    old = _sibling(path)
    moved = path.exists()
    if moved:
        path.rename(old)
    try:
        draft.rename(path)
    except OSError:
        if moved:
            old.rename(path)
        raise
    if moved:
        shutil.rmtree(old, ignore_errors=True)


def _sync_directory(path: Path) -> None:
    if os.name == "nt":  # Windows has no handle of a folder to flush
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as err:
        if err.errno not in _NO_DIRECTORY_SYNC:  # some network file systems cannot
            raise
    finally:
        os.close(handle)
