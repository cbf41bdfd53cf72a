"""Everything that can go wrong in words: each error is one sentence and one exit code."""

from __future__ import annotations

import difflib
import errno
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 2000
_OFFERED: Final = 12
_COMPARED: Final = 60
_JOINERS: Final = "\u200c\u200d"
_NO_MEMORY: Final = re.compile(r"out of memory|allocate memory|unable to allocate|alloc_failed", re.IGNORECASE)
_AMOUNT: Final = re.compile(r"allocate ([\d.]+ ?\w+)")
_INEXACT: Final = re.compile(r"(\w+) does not have a deterministic implementation")

_RIGHTS: Final = "permission is denied; ask its owner for the right, or choose another path"
_OF_PATHS: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.ELOOP: "links lead in a circle; mend them, or choose another path",
    errno.EIO: "the disk reports an error; check its health, or choose another path",
    errno.ESTALE: "its server has lost it; look whether it is still there",
    errno.EROFS: "the file system is read-only; choose another path",
    errno.ENOSPC: "the disk is full; free some space, or choose another path",
    errno.EDQUOT: "your disk quota is used up; free some space, or choose another path",
}


class GanzooError(Exception):
    """An expected failure. Its message says what is wrong, where, and what to do; it needs no traceback."""

    exit_code = 1

    def __str__(self) -> str:
        """One line of sane length: parts of it may come from files of strangers."""
        text = printable(super().__str__())
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


class UsageError(GanzooError):
    """The request itself is wrong: an unknown name, a value out of range, a pair that a rule refuses."""

    exit_code = 2


class DivergedError(GanzooError):
    """Training produced non-finite numbers and stopped, keeping the last good state."""

    exit_code = 3


class MissingError(GanzooError):
    """Something the request needs is not on this machine: a device, a data set, weights, a package."""

    exit_code = 4


class Interrupted(GanzooError):
    """A signal arrived; the run saved its state and left. ``exit_code`` is 128 plus the signal's number."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


def of_the_machine(err: BaseException) -> str | None:
    """A sentence for an error that may happen in any code, whoever wrote it; None for every other one.

    Memory that is not enough has many types and spellings, one for each library and device; so have operations that
    have no deterministic form.
    """
    if not isinstance(err, (MemoryError, RuntimeError)):
        return None
    text = str(err)
    if isinstance(err, MemoryError) or _NO_MEMORY.search(text):
        amount = _AMOUNT.search(text)
        asked = f" when {amount[1]} more were asked for" if amount else ""
        return f"Memory ran out{asked}; take a smaller batch or smaller networks, or end other programs."
    inexact = _INEXACT.search(text)
    if inexact:
        return (
            f"{inexact[1]} has no deterministic form on this device; "
            "leave --deterministic away, or choose networks without it."
        )
    return None


def of_a_path(err: BaseException) -> str | None:
    """A sentence for a path that the system does not let us use; None for every other error."""
    if not isinstance(err, OSError) or err.filename is None or err.errno not in _OF_PATHS:
        return None
    return f"{err.filename} cannot be used: {_OF_PATHS[err.errno]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the names closest to ``word``, or else what ``known`` holds; starts with a blank."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word[:_COMPARED], names, n=3, cutoff=0.6)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    more = f" and {len(names) - _OFFERED} more" if len(names) > _OFFERED + 1 else ""
    return f" There is {', '.join(names[:_OFFERED] if more else names)}{more}." if names else ""


def printable(text: str, *, keep: str = "") -> str:
    """``text`` without what a terminal obeys or a reader cannot see, which names from a stranger's file may hold.

    White space becomes a blank, all else that is not printed its escape: ``\\x1b``, ``\\u202e``.

    Args:
        text: any text, with lone surrogates too.
        keep: characters to leave as they are.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _escaped(char) for char in text)


def quoted(word: str) -> str:
    """A word of a command that is printed for the user's shell: that of Windows knows no single quotes."""
    if sys.platform == "win32":
        from subprocess import list2cmdline

        return list2cmdline([word])
    from shlex import quote

    return quote(word)


def _escaped(char: str) -> str:
    if char in "\t\n\r\v\f" or unicodedata.category(char) == "Zs":
        return " "
    return char if char in _JOINERS else char.encode("unicode_escape").decode("ascii")
