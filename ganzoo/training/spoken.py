"""What processes of a run tell each other in words, through torchrun's store: tensors take another way.

It works where the other way is broken, so it is here that they find out why.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from ganzoo.errors import DivergedError, GanzooError, Interrupted, MissingError, UsageError, of_the_machine
from ganzoo.processes import Place
from ganzoo.training.alone import Alone, LostError
from ganzoo.training.signals import noted

_LAST_WORDS: Final = datetime.timedelta(seconds=60)
_FIRST_WORDS: Final = 10.0
"""Seconds that a process which misses another one waits for that to say why it left.

Less if a signal comes: torchrun sends one where a process ended without a word.
"""
BEAT: Final = 2.0
"""Seconds between two signs of life of a process."""
_HURRY: Final = 10.0
"""Seconds without one after which a process is given up when a signal asks to leave: who sent it may know why."""
_KINDS: Final = (GanzooError, UsageError, DivergedError, MissingError)
_numbers = itertools.count()
_stores: list[Store] = []  # the one of this process; it can be made once


class Spoken(Alone):
    """One process among several, as far as words go.

    Args:
        place: which process this is.
        timeout: seconds to wait for the others.
    """

    def __init__(self, place: Place, timeout: int) -> None:
        self.place, self._timeout = place, timeout
        self.rank, self.world = place.rank, place.world
        self._limit = datetime.timedelta(seconds=timeout)
        self._turns = 0
        self._silent = threading.Event()
        with self._found():
            if not _stores:
                _stores.append(next(rendezvous("env://", timeout=self._limit))[0])
        # torchrun may start all processes again, and keeps its store.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"ganzoo-{attempt}-{next(_numbers)}", _stores[0])
        threading.Thread(target=_beat, args=(self._store, self.rank, self._silent), daemon=True).start()

    def fall_silent(self) -> None:
        """Give no more signs of life."""
        self._silent.set()

    def from_first(self, function: Callable[[], str | None]) -> str:
        self._turns += 1
        key = f"first/{self._turns}"
        if self.rank:
            said = json.loads(self._wait(key, [0]))
            if "error" in said:
                raise told_error(said["error"], said["code"])
            return str(said["value"])
        try:
            value = function() or ""
        except BaseException as err:
            self._say(key, {"error": str(err), "code": code_of(err)})
            raise
        self._say(key, {"value": value})
        return value

    @contextmanager
    def first_ahead(self) -> Iterator[None]:
        self._turns += 1
        key = f"ahead/{self._turns}/{os.environ.get('GROUP_RANK', '0')}"
        everybody = f"everybody/{self._turns}"
        try:
            if self.place.local_rank:
                self._wait(key, [self.rank - self.place.local_rank])
            yield
        except BaseException:
            self._say(everybody)  # they will miss this process at their next meeting, as they should
            raise
        finally:
            if not self.place.local_rank:
                self._say(key)
        # What one of them opens may take longer than the others wait for an answer later.
        with self._answered():
            last = self._store.add(f"{everybody}/count", 1) == self.world
        if last:
            self._say(everybody)
        self._wait(everybody, range(self.world))

    def tells(self, error: BaseException) -> bool:
        try:
            if isinstance(error, LostError) and self._knows_why(error):
                return False
            self._store.set("told", str(code_of(error)))
            return self._store.add("told/lost" if isinstance(error, LostError) else f"told/{error}", 1) == 1
        except RuntimeError:
            return True

    def _knows_why(self, error: LostError) -> bool:
        """Whether the process that is missed says itself why it left; then its exit code is that of all."""
        begun = time.monotonic()
        while not self._store.check(["told"]):
            if noted() or time.monotonic() - begun > _FIRST_WORDS:
                return False
            time.sleep(0.05)
        error.exit_code = int(self._store.get("told"))
        return True

    def told(self) -> None:
        try:
            if self.rank:
                self._store.wait(["end"], _LAST_WORDS)
            else:
                self._store.set("end", "")
        except RuntimeError:
            return  # process 0 kept the store, and is gone

    def _say(self, key: str, value: Mapping[str, Any] | None = None) -> None:
        with self._answered():
            self._store.set(key, json.dumps(value or {}))

    def _wait(self, key: str, on: Sequence[int]) -> str:
        """What was said under a key, however long that takes, as long as those on whom it depends are alive.

        In turns with Python, which hears signals in between.
        """
        pause, lives = 0.001, self._lives(on)
        with self._answered():
            while not self._store.check([key]):
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
                if not lives.last():
                    raise self._lost()
            return self._store.get(key).decode()

    def _lives(self, ranks: Sequence[int]) -> Lives:
        return Lives(self._store, [rank for rank in ranks if rank != self.rank], self._timeout)

    def _lost(self) -> LostError:
        return LostError(
            f"Another process of this run is gone, or did not answer within {self._timeout} s; {self.go_on}"
        )

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as err:
            if of_the_machine(err):
                raise
            raise self._lost() from None

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Give no sign of life from an error on."""
        try:
            yield
        except BaseException:
            self.fall_silent()
            raise

    @contextmanager
    def _found(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as err:
            why = " ".join(str(err).split())
            raise LostError(f"The {self.world} processes do not find each other: {why}.") from None


class Lives:
    """Signs of life of other processes, from now on.

    Args:
        store: where they give them.
        ranks: theirs.
        timeout: seconds without one after which a process is given up; fewer if a signal asks to leave.
    """

    def __init__(self, store: Store, ranks: Sequence[int], timeout: int) -> None:
        self._store, self._patience = store, max(_HURRY, timeout)
        self._looked = time.monotonic()
        self._beats = dict.fromkeys(ranks, (b"", self._looked))

    def last(self) -> bool:
        """Whether none of them is given up. Ask as often as you like: it looks now and then.

        Raises:
            RuntimeError: whoever kept the store is gone.
        """
        now = time.monotonic()
        if now - self._looked < BEAT:
            return True
        self._looked = now
        for rank, (beat, heard) in self._beats.items():
            life = f"alive/{rank}"
            latest = self._store.get(life) if self._store.check([life]) else b""
            if latest != beat:
                self._beats[rank] = (latest, now)
            elif now - heard > (_HURRY if noted() else self._patience):
                return False
        return True


def _beat(store: Store, rank: int, silent: threading.Event) -> None:
    """Say now and then that this process lives, until it has left."""
    for number in itertools.count():
        try:
            store.set(f"alive/{rank}", str(number))
        except RuntimeError:
            return  # whoever kept the store is gone
        if silent.wait(BEAT):
            return


def code_of(error: BaseException) -> int:
    """The exit code that stands for an error."""
    return error.exit_code if isinstance(error, GanzooError) else 1


def told_error(message: str, code: int) -> GanzooError:
    """What another process raised, from its words and its exit code."""
    if code > 128:
        return Interrupted(message, code - 128)
    return _KINDS[code - 1 if code <= len(_KINDS) else 0](message)
