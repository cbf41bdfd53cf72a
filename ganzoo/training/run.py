"""A run's directory, which says everything about the run."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ganzoo.api import Spec
from ganzoo.config import SECTIONS, Layer, RunConfig, flatten, resolve
from ganzoo.data.files import at_home
from ganzoo.errors import GanzooError, MissingError, UsageError, quoted
from ganzoo.files import write_text
from ganzoo.reading import read_table
from ganzoo.registry import registry
from ganzoo.training.lock import RunLock, is_locked
from ganzoo.versions import versions, versions_of_plugins

FORMAT: Final = "ganzoo-run/1"
_DRAFT: Final = ".run.tmp"
_ABANDONED: Final = 60.0


class Run:
    """One training and its directory: ``config.json``, ``metrics.jsonl``, ``samples/``, ``checkpoints/``, ``export/``.

    Attributes:
        path: the directory.
        config: the configuration, as resolved.
        spec: the task.
        first_step: the step at which this session started.
        lock: the right to write to it, if this process has it.
    """

    def __init__(self, path: Path, config: RunConfig, spec: Spec) -> None:
        self.path = path
        self.config = config
        self.spec = spec
        self.first_step = 0
        self.lock: RunLock | None = None

    @property
    def name(self) -> str:
        """Name of the directory."""
        return self.path.name

    @property
    def samples(self) -> Path:
        """Folder of the sample grids."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @classmethod
    def create(cls, config: RunConfig, spec: Spec, notes: dict[str, Any]) -> Run:
        """Make the directory, locked; ``notes`` are added to its ``config.json``.

        It is made beside and takes its name when it is complete, so that a crash leaves no half of a run.

        Raises:
            UsageError: a run of that name is there already, or a file stands where the folder of runs should.
            GanzooError: the directory cannot be written.
        """
        out = config.run.out
        refuse_file(out)
        draft = out / f".{secrets.token_hex(8)}{_DRAFT}"
        try:
            out.mkdir(parents=True, exist_ok=True)
            _sweep(out)
            draft.mkdir()
            run = cls(draft, config, spec)
            run.lock = RunLock.take(draft)
            run.samples.mkdir()
            run.checkpoints.mkdir()
            run.write_config(notes)
            run.path = run.lock.folder = _claim(draft, config)
        except (OSError, ValueError) as err:  # the latter for names that no system takes
            other = "--name" if getattr(err, "errno", errno.EINVAL) in (errno.ENAMETOOLONG, errno.EINVAL) else "--out"
            raise GanzooError(
                f"The run cannot be made in {out}: {getattr(err, 'strerror', None) or err}; choose another {other}."
            ) from None
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        run.lock.keep_alive()
        return run

    def __repr__(self) -> str:
        """With its folder, as notebooks show it."""
        return f"Run({str(self.path)!r})"

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """The run in a directory.

        Raises:
            MissingError: there is none, or it needs a component that is not installed.
            GanzooError: its ``config.json`` is damaged.
        """
        path = folder_of(path)
        saved = read_config(path)
        config = resolve([Layer(f"run {path.name}", flatten(saved["config"], path.name))])
        spec = saved["spec"]
        return cls(path, config, Spec(tuple(spec["shape"]), spec["num_classes"]))

    def write_config(self, notes: dict[str, Any]) -> None:
        """Write ``config.json``."""
        saved = {
            "format": FORMAT,
            "config": self.config.to_dict(),
            "spec": {"shape": list(self.spec.shape), "num_classes": self.spec.num_classes},
            "versions": {**versions(), **versions_of_plugins(self.config)},
            **notes,
        }
        write_text(self.path / "config.json", json.dumps(saved, indent=2, ensure_ascii=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` that hold metrics."""
        return [line for line in self.lines() if "event" not in line and "scores" not in line]

    def scores(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` that hold scores: ``step`` and ``scores``, a mapping from name to value."""
        return [line for line in self.lines() if "scores" in line]

    def events(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl`` that hold warnings: ``step``, ``event`` and ``message``."""
        return [line for line in self.lines() if "event" in line]

    def lines(self) -> list[dict[str, Any]]:
        """All lines of ``metrics.jsonl``; one that is torn or damaged is left out."""
        lines = []
        if self.metrics_file.exists():
            for text in self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    line = json.loads(text)
                except (ValueError, RecursionError):
                    continue
                if isinstance(line, dict) and isinstance(line.get("step"), int):
                    lines.append(line)
        return lines

    def rewind_metrics(self, step: int) -> None:
        """Forget what was logged after ``step``, because the run goes on from there."""
        kept = [line for line in self.lines() if line["step"] <= step]
        write_text(self.metrics_file, "".join(json.dumps(line) + "\n" for line in kept))

    def append_metrics(self, line: dict[str, Any]) -> None:
        """Add a line to ``metrics.jsonl``, or nothing at all.

        Raises:
            GanzooError: it cannot be written.
        """
        data = (json.dumps(line) + "\n").encode()
        try:
            handle = os.open(
                self.metrics_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666
            )
            try:
                before = os.fstat(handle).st_size
                try:
                    while data:
                        data = data[os.write(handle, data) :]
                except OSError:
                    with suppress(OSError):
                        os.ftruncate(handle, before)
                    raise
            finally:
                os.close(handle)
        except OSError as err:
            raise GanzooError(f"{self.metrics_file} cannot be written: {err.strerror or err}.") from err

    def sweep(self) -> None:
        """Remove what a killed process left half done beside its files."""
        for folder in (self.path, self.samples):
            for draft in folder.glob(".*.tmp"):
                if draft.is_file():
                    draft.unlink(missing_ok=True)

    def last_grid(self) -> Path | None:
        """The newest grid of samples."""
        return max(self.samples.glob("*.png"), default=None)


def read_config(path: Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises:
        MissingError: it is not there, or needs a component that is not installed.
        UsageError: ``path`` is a file.
        GanzooError: it is damaged, or not one of ours.
    """
    path = folder_of(path)
    file = path / "config.json"
    saved = read_record(path, "run")
    if saved.get("format") != FORMAT:
        raise GanzooError(f"{file} is not the configuration of a run; that has the format {FORMAT!r}.")
    try:
        Spec(tuple(map(int, saved["spec"]["shape"])), saved["spec"]["num_classes"])
        layer = Layer(f"run {path.name}", flatten(saved["config"], file.name))
    except (KeyError, TypeError, ValueError, AttributeError, UsageError):
        raise GanzooError(f"{file} is damaged: its spec or config is not what a run writes.") from None
    try:
        resolve([layer])
    except UsageError as err:
        kind = MissingError if _lacks_component(layer) else GanzooError
        raise kind(f"{file} does not fit what is installed: {err}") from None
    return saved


def read_record(path: Path, what: str) -> dict[str, Any]:
    """What the ``config.json`` of a folder holds, be it a run's or an export's.

    Args:
        path: the folder.
        what: is not there, in words, if the file is not.

    Raises:
        MissingError: it is not there.
        UsageError: ``path`` is a file.
        GanzooError: it is damaged.
    """
    file = path / "config.json"
    try:
        return read_table(file)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_file():
            raise UsageError(f"{path} is a file; give the folder of a run or an export.") from None
        raise MissingError(f"There is no {what} in {path}: it has no {file.name}.") from None
    except OSError as err:
        raise GanzooError(f"{file} cannot be read: {err.strerror or err}.") from None
    except ValueError as err:
        raise GanzooError(f"{file} {err}.") from None


def folder_of(path: Path | str) -> Path:
    """``path`` as a path, with ``~`` written out.

    Raises:
        UsageError: it is no path at all, or there is no such user.
    """
    if not isinstance(path, (str, Path)):
        raise UsageError(f"The folder of a run or an export is a path, not {path!r:.80}.")
    return at_home(Path(path))


def refuse_file(path: Path) -> None:
    """Refuse a folder where the path, or a part of it, is a file.

    Raises:
        UsageError: it is.
    """
    for part in (path, *path.parents):
        if part.is_file():
            raise UsageError(f"{part} is a file, and a folder is needed there; choose another path.")


def _lacks_component(layer: Layer) -> bool:
    """Whether the layer names a component that is not installed."""
    try:
        for section, kind in SECTIONS.items():
            value = layer.values.get(section)
            for name in value if isinstance(value, tuple) else (value,):
                if isinstance(name, str):
                    registry().get(kind, name)
    except UsageError:
        return True
    return False


def _claim(draft: Path, config: RunConfig) -> Path:
    """Give a draft its name: the one asked for, or the next free number after the names of the parts."""
    out, name = config.run.out, config.run.name
    if name is not None:
        path = out / name
        if path.parent != out or name in (".", ".."):
            raise UsageError(f"The name of a run is one word without slashes, not {name!r}; see --out.")
        if is_draft(path):
            raise UsageError(f"Folders that are called like {name} are drafts, and removed; choose another --name.")
        if not _renamed(draft, path):
            raise UsageError(_what_is_at(path))
        return path
    parts = [config.data, config.gen, config.loss, *config.regs]
    if config.disc.name != config.gen.name:
        parts.insert(2, config.disc)
    if config.trainer.name != "alternating":
        parts.append(config.trainer)
    stem = "-".join(part.name for part in parts)
    number = 1 + sum(1 for _ in out.glob(f"{stem}-[0-9]*"))
    while not _renamed(draft, path := out / f"{stem}-{number:03d}"):
        number += 1
    return path


def is_draft(path: Path) -> bool:
    """Whether a folder has the name of a run that is being made."""
    return path.name.startswith(".") and path.name.endswith(_DRAFT)


def _what_is_at(path: Path) -> str:
    """The sentence about what has the name that a run should get."""
    if not path.is_dir():
        return f"There is a file {path} already, where the run's folder should be; choose another --name."
    try:
        saved = read_record(path, "run")
    except MissingError:
        return f"There is a folder {path} already, and no run in it; choose another --name."
    except GanzooError as err:
        return f"There is a folder {path} already, and what it is cannot be told: {err} Choose another --name."
    if saved.get("format") != FORMAT:
        return f"There is a folder {path} already, and it is no run; choose another --name."
    return f"There is a run {path} already; continue it with --resume {quoted(str(path))}, or choose another --name."


def _renamed(draft: Path, path: Path) -> bool:
    """Rename the folder, unless something of that name is there."""
    if path.exists():
        return False
    try:
        draft.rename(path)
    except OSError:
        if path.exists():
            return False
        raise
    return True


def _sweep(out: Path) -> None:
    """Remove runs that a killed process was about to make."""
    for draft in out.glob(f".*{_DRAFT}"):
        with suppress(OSError):
            if time.time() - draft.stat().st_mtime > _ABANDONED and not is_locked(draft):
                shutil.rmtree(draft, ignore_errors=True)
