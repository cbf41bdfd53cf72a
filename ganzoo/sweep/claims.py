"""Claims: which process works on a cell, told by files in a folder that all of them see.

A claim is ``NAME.claim.N``, made so that only one process can make it, and kept fresh while its owner lives. Of several
the highest N counts. Whoever finds that the owner of N is gone makes N + 1: of those who try at once, one succeeds.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from ganzoo.alive import lives, started
from ganzoo.errors import GanzooError

BEAT: Final = 10.0
"""Seconds between two signs of life."""
SILENCE: Final = 120.0
"""Seconds without one after which a process of another machine counts as gone."""

Busy = Callable[[str], bool]
"""Whether a process of this machine, other than the owner of its claim, still works on the cell of this name."""


class Claims:
    """The claims of one process; enter it to keep them fresh.

    Args:
        folder: where the files are; made if missing.
        busy: asked before the claim of a dead process of this machine is taken over.
    """

    def __init__(self, folder: Path, busy: Busy = lambda _: False) -> None:
        self.folder = folder
        self._busy = busy
        self._mine: dict[str, Path] = {}
        self._began = started(os.getpid())
        self._token = secrets.token_hex(8)
        self._over = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="claims", daemon=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise GanzooError(f"The sweep cannot be kept in {folder}: {err.strerror or err}.") from None

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._beating.join()
        for name in list(self._mine):
            self.release(name)
        with suppress(OSError):
            self._probe.unlink(missing_ok=True)

    def take(self, name: str) -> bool:
        """Claim a cell; False if another process works on it.

        Raises:
            GanzooError: the folder cannot be written.
        """
        number, text = self._newest(name)
        if number and not self._is_stale(name, number, text):
            return False
        path = self._path(name, number + 1)
        note = {"pid": os.getpid(), "started": self._began, "host": platform.node(), "token": self._token}
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(note, file)
        except FileExistsError:
            return False
        except OSError as err:
            raise GanzooError(f"The claim {path} cannot be written: {err.strerror or err}.") from None
        # Somebody else may have taken over the same claim, worked and left since we looked at it.
        if number and _text(self._path(name, number)) != text:
            path.unlink(missing_ok=True)
            return False
        self._mine[name] = path
        return True

    def release(self, name: str) -> None:
        """Give a cell back, and clear away the claims of the dead below ours."""
        path = self._mine.pop(name, None)
        if path is None:
            return
        for number in range(1, _number(path) + 1):
            with suppress(OSError):
                self._path(name, number).unlink(missing_ok=True)

    def is_taken(self, name: str) -> bool:
        """Whether a living process, this one or another, has claimed the cell."""
        number, text = self._newest(name)
        return bool(number) and not self._is_stale(name, number, text)

    @property
    def _probe(self) -> Path:
        return self.folder / f".now-{self._token}"

    def _path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}.claim.{number}"

    def _newest(self, name: str) -> tuple[int, str]:
        """Number and text of the claim that counts; 0 if there is none."""
        number = max((_number(path) for path in self.folder.glob(f"{name}.claim.*")), default=0)
        return number, _text(self._path(name, number)) if number else ""

    def _is_stale(self, name: str, number: int, text: str) -> bool:
        path = self._path(name, number)
        try:
            silent = self._now() - path.stat().st_mtime
        except FileNotFoundError:
            return False  # given back a moment ago; the next look will see that
        try:
            note = json.loads(text)
            host, pid = note["host"], int(note["pid"])
        except (ValueError, KeyError, TypeError):
            return silent > SILENCE  # being written, or torn by a crash
        if host != platform.node():
            return silent > SILENCE
        if note.get("token") == self._token:
            return False
        return not lives(pid, note.get("started")) and not self._busy(name)

    def _now(self) -> float:
        """The time by the clock of the file system, which all machines that share it agree on."""
        try:
            self._probe.touch()
            return self._probe.stat().st_mtime
        except OSError:
            return time.time()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for path in list(self._mine.values()):
                with suppress(OSError):
                    os.utime(path)


def _number(path: Path) -> int:
    tail = path.name.rpartition(".")[2]
    return int(tail) if tail.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
