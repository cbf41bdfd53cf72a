"""Decoding by other processes, in pieces, in the order that was asked for. Free of torch, so that they start quickly.

The processes are spawned, not forked, on every system. They end with the process that started them, however that
ends. Where one of them is killed, its work goes on in threads of this process: the pixels are the same.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import types
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, suppress
from math import prod
from typing import Final, NamedTuple

import numpy as np

from ganzoo import processes
from ganzoo.data.files import Fit, ImageFiles
from ganzoo.data.picture import Pixels, Reason, decode, reason_of, strict_pillow
from ganzoo.errors import GanzooError

_LOG: Final = logging.getLogger("ganzoo")
_PIECE: Final = 32
"""Images that are decoded together, at most."""
_PIECE_BYTES: Final = 4 * 2**20
"""What they take, unless it is a single one."""
_PATIENCE: Final = 5.0
"""Seconds without a piece after which it is looked whether there is still somebody to send it."""
_MOST: Final = 8
_IGNORED: Final = ("SIGINT", "SIGHUP", "SIGUSR1")
"""Signals that a terminal or a scheduler sends to all processes, and that the one that trains answers."""

Shape = tuple[int, int, int]


class Piece(NamedTuple):
    """Images that were decoded together: those that could be, where they stand in the piece, and why not the others."""

    pixels: Pixels
    good: list[int]
    bad: dict[int, Reason]


def workers_wanted(asked: int | None) -> int:
    """How many processes decode for each process of a run: a fair part of the processor unless asked otherwise."""
    if multiprocessing.current_process().daemon:  # such a process may not start others
        return 0
    if asked is not None:
        return asked
    return min(_MOST, processes.cores() // processes.place().local_world)


class Decoders:
    """Processes that decode images of one folder or zip, or threads of this one.

    Args:
        files: the images of the folder or zip.
        shape: what the images are brought to.
        fit: how other proportions are made to fit.
        workers: how many processes; 0 for threads.
    """

    _awake: Future[None]
    """Done when the first process has started; there is one when there is a pool."""

    def __init__(self, files: ImageFiles, shape: Shape, fit: Fit, workers: int) -> None:
        self.files, self.shape, self.fit, self.workers = files, shape, fit, workers
        self.piece = max(1, min(_PIECE, _PIECE_BYTES // prod(shape)))
        """How many images are decoded together."""
        self._threads: Executor | None = None
        self._pool: Executor | None = None

    def __getstate__(self) -> dict[str, object]:
        left = {name: value for name, value in self.__dict__.items() if name != "_awake"}
        return {**left, "_threads": None, "_pool": None}

    @property
    def width(self) -> int:
        """How many pieces are decoded at the same time."""
        return self.workers or min(_MOST, os.cpu_count() or 1)

    def begin(self, numbers: Sequence[int]) -> Decoding:
        """Begin to decode some images, by their numbers."""
        return Decoding(self, numbers)

    def close(self) -> None:
        """End the processes; they are started again when they are wanted."""
        for pool in (self._pool, self._threads):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        self._pool = self._threads = None

    def submit(self, files: ImageFiles) -> Future[Piece]:
        """A piece in the hands of a process; of a thread while the first process starts, which takes a second."""
        if not self.workers:
            return self.submit_here(files)
        try:
            with _without_main():
                if self._pool is None:
                    with _without_here():
                        pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _settle_in)
                        weakref.finalize(self, pool.shutdown, wait=False, cancel_futures=True)
                        with _held_signals():
                            starts = [pool.submit(_nothing) for _ in range(self.workers)]
                    self._pool, self._awake = pool, starts[0]
                if self._awake.done():
                    return self._pool.submit(_decode_piece, files, self.shape, self.fit)
        except (BrokenProcessPool, OSError, RuntimeError) as err:
            self.give_up(err)
        return self.submit_here(files)

    def submit_here(self, files: ImageFiles) -> Future[Piece]:
        """A piece in the hands of a thread."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(min(_MOST, os.cpu_count() or 1))
            weakref.finalize(self, self._threads.shutdown, wait=False, cancel_futures=True)
        return self._threads.submit(_decode_piece, files, self.shape, self.fit)

    def give_up(self, err: BaseException) -> None:
        """Go on without processes, and say so once."""
        if self.workers:
            self.workers = 0
            _LOG.warning(
                "A process that decodes images was killed or cannot be started (%s), perhaps for lack of memory; "
                "training goes on and decodes by itself, more slowly. Fewer of them may do: --data.workers.",
                " ".join(str(err).split()) or type(err).__name__,
            )

    def look_after(self) -> None:
        """End the pool if one of its processes is gone.

        The pool sees to that by itself, but where the process was killed while it sent a piece: then the pool waits for
        the rest of that piece, and would do so for ever.
        """
        with suppress(AttributeError, OSError):  # other versions of Python may keep these elsewhere
            workers = list(self._pool._processes.values())  # type: ignore[union-attr]
            if any(worker.exitcode is not None for worker in workers):
                for worker in workers:
                    worker.kill()
                self._pool._result_queue._writer.close()  # type: ignore[union-attr]


class Decoding:
    """Images that are being decoded."""

    def __init__(self, by: Decoders, numbers: Sequence[int]) -> None:
        self._by = by
        self._parts = [by.files.part(numbers[at : at + by.piece]) for at in range(0, len(numbers), by.piece)]
        self._pieces = [by.submit(part) for part in self._parts]

    def result(self) -> Iterator[Piece]:
        """The pieces in their order, as they come."""
        for part, piece in zip(self._parts, self._pieces, strict=True):
            try:
                yield self._await(piece)
            except (BrokenProcessPool, CancelledError) as err:  # the other one's end may cancel it
                self._by.give_up(err)
                yield self._by.submit_here(part).result()

    def _await(self, piece: Future[Piece]) -> Piece:
        while True:
            try:
                return piece.result(_PATIENCE)
            except TimeoutError:
                self._by.look_after()

    def cancel(self) -> None:
        """It is not wanted any more."""
        for piece in self._pieces:
            piece.cancel()


def _decode_piece(files: ImageFiles, shape: Shape, fit: Fit) -> Piece:
    """The images of a piece; whatever is wrong with one of them is told, and raises nothing."""
    pixels = np.empty((len(files), *shape), np.uint8)
    good, bad = [], {}
    with ExitStack() as stack:
        try:
            read = stack.enter_context(files.open())
        except OSError as err:
            raise GanzooError(
                f"The images in {files.path} are not there any more ({err.strerror or err}); put them back, then go "
                "on from what was saved."
            ) from None
        stack.enter_context(strict_pillow())
        for at in range(len(files)):
            try:
                pixels[at] = decode(read(at), shape, fit)
            except Exception as err:  # Pillow raises almost anything for a broken file
                bad[at] = reason_of(err)
            else:
                good.append(at)
    return Piece(pixels[good] if bad else pixels, good, bad)


def _nothing() -> None:
    """The first thing that a new process is asked to do."""


@contextmanager
def _held_signals() -> Iterator[None]:
    """New processes inherit that these signals wait, so that none ends them before they can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ignored())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignored() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _IGNORED if hasattr(signal, name)]


def _settle_in() -> None:
    """What a new process does first."""
    for number in _ignored():
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ignored())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _without_here() -> Iterator[None]:
    """Within, new processes take none of the modules with which they begin from the current folder.

    Python starts them with ``-c``, which looks there before all else; then they look where this process does.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def _without_main() -> Iterator[None]:
    """Within, new processes do not run the user's script again: they need nothing of it, and it may have no guard."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before
