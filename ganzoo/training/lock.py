"""One process at a time writes to a run: a file ``lock`` in its folder names the process that does.

The lock is a file and not a kernel's lock, so that it works on every system and file system. It is there as a whole or
not at all. A dead holder on this machine is recognised by its process, number and start time; one on another machine by
its heartbeat, the file's time of change, which the holder renews. Readers need no lock. Free of torch.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ganzoo.alive import lives, started
from ganzoo.errors import GanzooError

NAME: Final = "lock"
BEAT: Final = 15.0
"""Seconds between two signs of life."""
PATIENCE: Final = 60.0
"""Seconds without a sign of life after which a holder on another machine counts as dead."""
_TRIES, _PAUSE = 40, 0.025
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES}


class RunLock:
    """The right to write to a run's folder, from :meth:`take` until :meth:`release`."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder
        self._token = token
        self._done = threading.Event()
        self._beat: threading.Thread | None = None

    @classmethod
    def take(cls, folder: Path, say: Callable[[str], None] = lambda _: None) -> RunLock:
        """Lock ``folder``, also when the process that had locked it is dead; ``say`` hears of that.

        Raises:
            GanzooError: another process has it; the sentence names it.
        """
        path, token = folder / NAME, secrets.token_hex(8)
        text = json.dumps(
            {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": started(os.getpid()),
                "since": datetime.now().astimezone().isoformat(timespec="seconds"),
                "token": token,
            }
        )
        draft = folder / f".{NAME}.{token}.tmp"
        try:
            draft.write_text(text + "\n", encoding="utf-8")
            for _ in range(_TRIES):
                if _placed(draft, path):
                    return cls(folder, token)
                holder = _read(path)
                if holder is None:
                    continue
                if _alive(holder, path, draft, say):
                    raise GanzooError(
                        f"The run {folder} is being trained by {_named(holder)}; "
                        "wait for it, stop it, or start a run of another name."
                    )
                if _seized(path, holder, draft, say):
                    say(f"Took {folder} over from {_named(holder)}, which is gone.")
                    return cls(folder, token)
                time.sleep(_PAUSE)
        except OSError as err:
            raise GanzooError(f"The run {folder} cannot be locked: {err.strerror or err}.") from err
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
        raise GanzooError(f"The run {folder} cannot be locked: other processes are taking it at this moment.")

    @property
    def held(self) -> bool:
        """Whether the lock is still this process's: one that stood still for long may have lost it."""
        found = _read(self.folder / NAME)
        return found is not None and found.get("token") == self._token

    def keep_alive(self) -> None:
        """Show signs of life from now on, for processes on other machines."""
        self._beat = threading.Thread(target=self._pulse, name="ganzoo-lock", daemon=True)
        self._beat.start()

    def release(self) -> None:
        """Unlock; nothing if the lock is another's by now."""
        self._done.set()
        if self.held:
            with suppress(OSError):
                (self.folder / NAME).unlink()

    def _pulse(self) -> None:
        while not self._done.wait(BEAT):
            if self.held:
                with suppress(OSError):
                    os.utime(self.folder / NAME)


def is_locked(folder: Path) -> bool:
    """Whether a process seems to write to a run, as far as can be told at once."""
    path = folder / NAME
    holder = _read(path)
    if holder is None:
        return False
    if _is_here(holder):
        return lives(holder.get("pid"), holder.get("started"))
    try:
        return time.time() - path.stat().st_mtime < PATIENCE
    except OSError:
        return False


def _placed(draft: Path, path: Path) -> bool:
    """Give the draft the lock's name unless that is taken; its whole content appears at once."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as err:
        if err.errno not in _NO_LINKS and os.name != "nt":
            raise
        try:  # a file system without links: the content comes a moment after the name
            with path.open("x", encoding="utf-8") as file:
                file.write(draft.read_text(encoding="utf-8"))
        except FileExistsError:
            return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """What the lock says; an empty answer for one that says nothing readable, None if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seized(path: Path, holder: dict[str, Any], draft: Path, say: Callable[[str], None]) -> bool:
    """Put our lock in the place of a dead holder's; False if another process is about to, or has.

    Who wants to claims that very lock by a file named after it, which only one process can make. So the lock is never
    absent while it changes hands, and a lock that is new by now is never touched. A claim whose process died is seized
    in the same way.
    """
    claim = path.with_name(f".{NAME}.{_plain(holder.get('token'), 32)}.claim.tmp")
    if not _placed(draft, claim):
        other = _read(claim)
        if claim == path or (other or {}).get("token") == holder.get("token"):
            claim.unlink(missing_ok=True)  # no process of ours wrote this
            return False
        if other is None or _alive(other, claim, draft, say) or not _seized(claim, other, draft, say):
            return False
    try:
        if _read(path) != holder:
            return False
        ours = path.with_name(f".{NAME}.{secrets.token_hex(8)}.tmp")
        note = draft.read_text(encoding="utf-8")
        ours.write_text(note, encoding="utf-8")
        ours.replace(path)
    finally:
        claim.unlink(missing_ok=True)
    return True


def _plain(value: object, length: int) -> str:
    return "".join(sign for sign in str(value)[:length] if sign.isprintable() and sign not in "/\\:")


def _named(holder: dict[str, Any]) -> str:
    if not isinstance(holder.get("pid"), int):
        return "a process that left no name"
    since = "".join(sign for sign in str(holder.get("since"))[:32] if sign.isprintable())
    return f"process {holder['pid']} on {_plain(holder.get('host'), 64)}, since {since}"


def _is_here(holder: dict[str, Any]) -> bool:
    return holder.get("host") == socket.gethostname()


def _alive(holder: dict[str, Any], path: Path, draft: Path, say: Callable[[str], None]) -> bool:
    if _is_here(holder):
        return lives(holder.get("pid"), holder.get("started"))
    # The file system's clock, not ours, on both sides of the difference.
    try:
        last = path.stat().st_mtime
        draft.touch()
        left = PATIENCE - (draft.stat().st_mtime - last)
        if left > 0:
            say(f"Waiting for a sign of life of {_named(holder)}, for {left:.0f} s at most.")
        until = time.monotonic() + left
        while time.monotonic() < until:
            time.sleep(min(1.0, PATIENCE / 20))
            if path.stat().st_mtime != last:
                return True
    except FileNotFoundError:  # it was given back
        pass
    return False
