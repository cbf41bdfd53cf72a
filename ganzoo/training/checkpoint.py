"""Checkpoints: a directory per step, complete or absent, verified before it is believed. Nothing is a pickle.

``checkpoints/step-00001000/`` holds ``model.safetensors`` (keys ``gen. disc. loss. reg0. ema.``),
``optimizer.safetensors`` (keys ``gen.<parameter>.<moment>``), ``state.json`` and, written last, ``manifest.json`` with
the size and SHA-256 of the others. ``checkpoints/best.json`` names the best one, if somebody chose one.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

from ganzoo.errors import DivergedError, GanzooError, MissingError
from ganzoo.files import atomic_dir, sha256, write_text
from ganzoo.nn.weights import load_tensors, save_tensors
from ganzoo.versions import versions

FORMAT: Final = "ganzoo-checkpoint/1"
MANIFEST: Final = "manifest.json"
SEAL: Final = "sha256"
MODEL: Final = "model.safetensors"
OPTIMIZER: Final = "optimizer.safetensors"
STATE: Final = "state.json"
BEST: Final = "best.json"
_PREFIX = "step-"


@dataclass
class Snapshot:
    """Everything a checkpoint holds.

    Attributes:
        model: tensors of all modules, by prefixed name.
        optimizer: tensors of both optimisers and of the trainer, by prefixed name.
        state: the rest, as JSON: step, position in the data, seconds, parameter groups.
    """

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        tensors = (*self.model.values(), *self.optimizer.values())
        return sum(value.numel() * value.element_size() for value in tensors)


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay, beside the best one.

    Attributes:
        last: how many of the newest.
        every: those of every so many steps, for good; 0: none.
        pinned: steps that are needed still.
    """

    last: int
    every: int = 0
    pinned: Collection[int] = ()

    def keeps(self, step: int) -> bool:
        """Whether the checkpoint of a step stays, however old."""
        return step in self.pinned or (self.every > 0 and step % self.every == 0)


def save(folder: Path, step: int, snapshot: Snapshot, retention: Retention) -> Path:
    """Write the checkpoint of ``step`` and, once it is complete, remove those that nothing asks to keep.

    Raises:
        DivergedError: it holds numbers that are not finite, with which it would not be read.
        GanzooError: it cannot be written (disk full, no permission); what was there before stays.
    """
    path = folder / name_of(step)
    held = {**snapshot.model, **snapshot.optimizer}
    broken = [name for name, value in held.items() if _is_broken(value)]
    if broken:
        raise DivergedError(
            f"The state after step {step} is not saved, because no run could go on from it: {', '.join(broken[:3])} "
            f"{'holds' if len(broken) == 1 else 'hold'} numbers that are not finite (NaN or infinity); what was saved "
            "before stays."
        )
    with atomic_dir(path) as draft:
        save_tensors(draft / MODEL, snapshot.model, {"format": FORMAT})
        save_tensors(draft / OPTIMIZER, snapshot.optimizer, {"format": FORMAT})
        write_text(draft / STATE, json.dumps({"format": FORMAT, **snapshot.state}) + "\n")
        files = {
            name: {"size": (draft / name).stat().st_size, "sha256": sha256(draft / name)}
            for name in (MODEL, OPTIMIZER, STATE)
        }
        manifest = {"format": FORMAT, "step": step, "versions": dict(versions()), "files": files}
        write_text(draft / MANIFEST, sealed(manifest))
    retire(folder, step, retention)
    return path


def _is_broken(value: Tensor) -> bool:
    return (value.is_floating_point() or value.is_complex()) and not torch.isfinite(value).all()


def sealed(manifest: Mapping[str, Any]) -> str:
    """A manifest as text, with the SHA-256 of its other entries as its last: every byte of the file counts."""
    told = {name: value for name, value in manifest.items() if name != SEAL}
    # Spelt otherwise than json_digest does, since there are checkpoints that carry it.
    seal = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return json.dumps({**told, SEAL: seal}, indent=2) + "\n"


def retire(folder: Path, step: int, retention: Retention) -> None:
    """Remove the checkpoints until ``step`` that nothing asks to keep.

    Later ones are left: the run went back behind them, because they are damaged, and will write them anew.
    """
    past = [path for path in list_all(folder) if step_of(path) <= step]
    chosen = best(folder)
    for old in past[retention.last :]:
        if old != chosen and not retention.keeps(step_of(old)):
            # Renamed first, so that a crash in between leaves no half of a checkpoint.
            aside = old.with_name(f".{old.name}.{secrets.token_hex(4)}.tmp")
            with suppress(OSError):
                old.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)


def mark_best(folder: Path, step: int, **about: Any) -> None:
    """Let ``best.json`` name the checkpoint of ``step``, which is kept from now on; ``about`` (a score) is noted too.

    Raises:
        GanzooError: that checkpoint is not whole, or the file cannot be written.
    """
    path = folder / name_of(step)
    wrong = problem(path)
    if wrong is not None:
        raise GanzooError(f"The checkpoint {path} cannot be the best one: {wrong}.")
    write_text(folder / BEST, json.dumps({"format": FORMAT, "step": step, **about}) + "\n")


def best(folder: Path) -> Path | None:
    """The checkpoint that ``best.json`` names, if it is there."""
    try:
        path = folder / name_of(json.loads((folder / BEST).read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return path if (path / MANIFEST).is_file() else None


def name_of(step: int) -> str:
    """Name of the directory of a step's checkpoint."""
    return f"{_PREFIX}{step:08d}"


def step_of(path: Path) -> int:
    """The step that the name of a checkpoint says."""
    return int(path.name.removeprefix(_PREFIX))


def sweep(folder: Path) -> None:
    """Clean up after a killed process: a draft that is whole takes its place, if that is free; others are removed."""
    for draft in folder.glob(f".{_PREFIX}*.tmp"):
        path = folder / draft.name.split(".")[1]
        if not path.exists() and problem(draft, path.name) is None:
            with suppress(OSError):
                draft.rename(path)
        shutil.rmtree(draft, ignore_errors=True)
    for draft in folder.glob(f".{BEST}.*.tmp"):
        draft.unlink(missing_ok=True)


def list_all(folder: Path) -> list[Path]:
    """Checkpoint directories, newest first; whether they are good is for :func:`problem` to say."""
    found = [path for path in folder.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdigit() and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def problem(path: Path, name: str | None = None) -> str | None:
    """What is wrong with a checkpoint, in half a sentence; None if every file is as its manifest says.

    Args:
        path: its folder.
        name: what the folder should be called, if it has another name so far.
    """
    try:
        raw = (path / MANIFEST).read_bytes()
        manifest = json.loads(raw.decode("utf-8"))
        if manifest["format"] != FORMAT:
            return f"its format is {manifest['format']!r}, not {FORMAT!r}"
        if sealed(manifest).encode() != raw:
            return f"{MANIFEST} was altered: its own checksum differs"
        if name_of(manifest["step"]) != (name or path.name):
            return "its manifest is of another step"
        for file in (MODEL, OPTIMIZER, STATE):
            entry = manifest["files"][file]
            if (path / file).stat().st_size != entry["size"]:
                return f"{file} has another size than its manifest says"
            if sha256(path / file) != entry["sha256"]:
                return f"{file} was altered: its checksum differs from the manifest's"
    except FileNotFoundError as err:
        return f"{Path(err.filename).name} is missing"
    except (OSError, GanzooError) as err:
        return f"it cannot be read ({err})"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{MANIFEST} is damaged"
    return None


def newest_good(run_path: Path, say: Callable[[str], None] = lambda _: None) -> Path:
    """The newest checkpoint of a run that is whole and finite; ``say`` hears what is wrong with each passed over.

    Raises:
        MissingError: the run has none.
    """
    reason = "it has no checkpoint yet"
    for path in list_all(run_path / "checkpoints"):
        wrong = problem(path) or _unreadable(path)
        if wrong is None:
            return path
        say(f"Checkpoint {path.name} is passed over: {wrong}.")
        if reason.startswith("it"):
            reason = f"none of its checkpoints is whole ({path.name}: {wrong})"
    raise MissingError(f"The run {run_path} cannot be loaded: {reason}.")


def _unreadable(path: Path) -> str | None:
    """Why a checkpoint that is as it was written cannot be used all the same; None if it can."""
    try:
        for file in (MODEL, OPTIMIZER):
            load_tensors(path / file, None, file)
    except GanzooError as err:
        return str(err).rstrip(".")
    return None


def best_good(run_path: Path) -> Path:
    """The best checkpoint of a run, as its scores tell.

    Raises:
        MissingError: none was chosen, or it is not whole.
    """
    path = best(run_path / "checkpoints")
    if path is None:
        raise MissingError(
            f"The run {run_path} has no best checkpoint: it was not scored while it trained (--eval-every)."
        )
    wrong = problem(path)
    if wrong is not None:
        raise MissingError(f"The best checkpoint of the run {run_path}, {path.name}, cannot be loaded: {wrong}.")
    return path


def load(path: Path) -> Snapshot:
    """Read a checkpoint that :func:`newest_good` returned."""
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    return Snapshot(load_tensors(path / MODEL, None), load_tensors(path / OPTIMIZER, None), state)


def flatten_optimizer(optimizer: Optimizer, prefix: str) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as named tensors, and its parameter groups as JSON values."""
    packed = optimizer.state_dict()
    tensors = {
        f"{prefix}.{index}.{key}": value
        for index, moments in packed["state"].items()
        for key, value in moments.items()
        if isinstance(value, Tensor)
    }
    return tensors, packed["param_groups"]


def restore_optimizer(
    optimizer: Optimizer, prefix: str, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Take back what :func:`flatten_optimizer` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        head, _, rest = name.partition(".")
        if head == prefix:
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = value.clone()
    for group in groups:
        group["betas"] = tuple(group["betas"]) if "betas" in group else None
        if group["betas"] is None:
            del group["betas"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            # Fused optimisers take for granted that moments lie in memory as their parameters do.
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                moments[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@torch.no_grad()
def restore_module(module: torch.nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors under ``prefix.`` into a module, every one of them; all without a prefix.

    Raises:
        GanzooError: names or shapes differ.
    """
    begin = f"{prefix}." if prefix else ""
    mine = {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}
    try:
        module.load_state_dict(mine)
    except RuntimeError as err:
        what = prefix or "discriminator, loss and regularizers"
        raise GanzooError(f"The checkpoint does not fit the {what} of this configuration: {err}") from None
