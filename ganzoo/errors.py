"""Everything that can go wrong in words: each error is one sentence and one exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GanzooError(Exception):
    """An expected failure. Its message says what is wrong, where, and what to do; it needs no traceback."""

    exit_code = 1


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that offers the names closest to ``word``, or else all that ``known`` holds; starts with a blank."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.6)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" There is {', '.join(names)}." if names else ""
