"""Runs one training in a child of this process, with a disk that fails or a process that dies where it is told to.

The parent imports torch once and forks; so that a run costs no start-up. Only for POSIX. The faults wrap functions of
``os`` and ``pathlib`` in the child, and nothing of ganzoo knows about them.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import running
import torch

from ganzoo.config import Layer, resolve
from ganzoo.errors import GanzooError
from ganzoo.training.start import resume_config, start

TINY: dict[str, Any] = {
    **running.TINY,
    "run.log_every": 5,
    "run.checkpoint_every": 5,
    "run.keep_last": 2,
    "run.name": "r",
}


@dataclass
class Fault:
    """Where the disk fails, or the process dies.

    Attributes:
        kind: ``ENOSPC``, ``EIO``, ``EACCES``, ``short`` (half a write, then ENOSPC), ``before`` or ``after`` (SIGKILL
            around the call).
        at: at which call, from 0; later ones fail too, up to ``until``.
        until: the first call that works again.
        calls: which calls were made, for a run that looks for them.
    """

    kind: str = "none"
    at: int = -1
    until: int = 10**9
    calls: list[str] = field(default_factory=list)

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with the fault."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            index = len(self.calls)
            self.calls.append(name)
            due = self.at <= index < self.until if self.at >= 0 else False
            if due and self.kind == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            if due and self.kind == "short" and name == "write":
                function(args[0], bytes(args[1])[: len(args[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if due and self.kind in ("ENOSPC", "EIO", "EACCES"):
                number = getattr(errno, self.kind)
                raise OSError(number, os.strerror(number))
            result = function(*args, **kwargs)
            if due and self.kind == "after":
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return wrapped

    def install(self, under: Path) -> None:
        """Put the faults into this process, for files below ``under``."""
        os.fsync = self.wrap("fsync", os.fsync)
        os.rename = self.wrap("rename", os.rename)
        os.replace = self.wrap("replace", os.replace)
        os.link = self.wrap("link", os.link)
        os.write = self.wrap("write", os.write)
        os.mkdir = self.wrap("mkdir", os.mkdir)
        os.unlink = self.wrap("unlink", os.unlink)
        real, fault = io.open, self

        def opened(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if isinstance(file, int) or not str(file).startswith(str(under)) or not set(mode) & set("wxa+"):
                return real(file, mode, *args, **kwargs)
            stream: Any = fault.wrap("open", real)(file, mode, *args, **kwargs)
            if "x" in mode:
                stream = _Stream(stream, fault)
            return stream

        io.open = opened  # pathlib opens through it


class _Stream:
    """A file whose writes may fail."""

    def __init__(self, file: Any, fault: Fault) -> None:
        self._file = file
        self._write = fault.wrap("write", lambda _, data: file.write(data))

    def write(self, data: bytes) -> int:
        """Write, if the fault allows it."""
        written: int = self._write(None, data)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def train(out: Path, settings: dict[str, Any], fault: Fault | None = None, say: Callable[[str], None] = print) -> int:
    """Train, resuming what is there, and return the exit code that the command line would."""
    layer = Layer("test", {**TINY, **settings, "run.out": out})
    if fault is not None:
        fault.install(out)
    try:
        config, path = resume_config("auto", [layer])
        start(config, resume=path, say=say)
    except GanzooError as err:
        say(f"Error: {err}")
        return err.exit_code
    return 0


def fork(work: Callable[[], int], log: Path) -> int:
    """Call ``work`` in a child, whose process number is returned; what it prints goes to ``log``."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        torch.set_num_threads(1)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int:
    """The exit code of a child, minus the signal that ended it; one that takes longer is ended, and is a failure."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"a run took longer than {seconds} s")
        time.sleep(0.002)


def weights(out: Path, step: int) -> tuple[bytes, ...]:
    """The bytes of weights and moments after ``step``."""
    folder = out / "r" / "checkpoints" / f"step-{step:08d}"
    return tuple((folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors"))


def result(out: Path, step: int) -> tuple[bytes, ...]:
    """The bytes that must be equal: weights, moments and grid after ``step``."""
    return (*weights(out, step), (out / "r" / "samples" / f"step-{step:08d}.png").read_bytes())


def warm_up() -> None:
    """Import what a run needs, and build it once; a child then starts in milliseconds. Nothing is differentiated here:
    torch's threads for that would not survive the fork.
    """
    import tempfile

    from ganzoo.outputs.grids import save_grid
    from ganzoo.registry import build
    from ganzoo.training import keeping, loop
    from ganzoo.training.build import build_bundle

    config = resolve([Layer("test", TINY)])
    spec = config.spec()
    build(config.data, spec)
    build(config.trainer, spec)
    bundle = build_bundle(config, spec, torch.device("cpu"))
    bundle.disc_side.optimizer.zero_grad()
    bundle.begin(0)
    assert {keeping.__name__, loop.__name__} <= sys.modules.keys()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        save_grid(bundle.generate(4, None).x, Path(folder) / "a.png")
