"""What a run says of itself, from the files that it keeps. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from ganzoo import options
from ganzoo.config import SECTIONS, Layer, flatten, resolve
from ganzoo.errors import GanzooError, MissingError
from ganzoo.evaluation.result import Result, read_results
from ganzoo.training.run import read_config, read_record

SEED: Final = "run.seed"
STEPS: Final = "run.steps"
PATIENCE: Final = "run.eval_patience"
FAILED: Final = "failed.json"
_BUFFERS: Final = ("running_mean", "running_var", "num_batches_tracked", "_u", "_v")
"""How the tensors end that a network keeps and does not learn."""
_LARGEST_HEADER: Final = 100_000_000
_LARGEST_NUMBER: Final = 2**63


@dataclass(frozen=True)
class Facts:
    """What one run says of itself.

    Attributes:
        path: its directory.
        settings: path -> value of everything that results depend on, as its ``config.json`` has it.
        unusual: those that are not what its components would choose by themselves.
        asked, steps: steps that were asked for, and taken.
        ended: whether it left before the last step by its own rule, since its scores got no better.
        scorable: whether it can be evaluated: it has a checkpoint and has not failed.
        seconds, images: of training.
        parameters: ``gen`` and ``disc`` -> how many numbers they learn, from the newest checkpoint.
        results: its evaluations, oldest first.
    """

    path: Path
    settings: Mapping[str, Any]
    unusual: Mapping[str, Any]
    asked: int
    steps: int
    seconds: float
    images: int
    parameters: Mapping[str, int]
    results: tuple[Result, ...] = ()
    ended: bool = False
    scorable: bool = True

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(_number(self.settings.get(SEED)))

    @property
    def unfinished(self) -> bool:
        """Whether it took fewer steps than were asked for, and not by its own rule."""
        return self.steps < self.asked and not self.ended

    @property
    def key(self) -> str:
        """Equal for runs that differ in the seed alone, or in what no result depends on."""
        rest = {path: value for path, value in self.settings.items() if path != SEED}
        return json.dumps([rest, self.asked], sort_keys=True, default=str)


def facts_of(path: Path) -> Facts:
    """What a run says of itself.

    Raises:
        UsageError: there is no run.
    """
    try:
        saved = read_config(path)
    except MissingError:
        saved = read_record(path, "run")  # of a plugin that is not here; what it keeps can be compared all the same
    flat = {name: options.jsonable(value) for name, value in flatten(saved["config"], path.name).items()}
    usual, live = _usual(json.dumps({section: flat.get(section) for section in SECTIONS}))
    settings = {name: value for name, value in flat.items() if name not in live}
    unusual = {
        name: value
        for name, value in settings.items()
        if name not in (*SECTIONS, SEED) and not (name in usual and usual[name] == value)
    }
    last = _last_metrics(path / "metrics.jsonl")
    return Facts(
        path,
        settings,
        unusual,
        int(_number(flat.get(STEPS))),
        int(_number(last.get("step"))),
        _number(last.get("seconds")),
        int(_number(last.get("images"))),
        count_parameters(path),
        tuple(read_results(path)),
        _has_ended(path, flat.get(PATIENCE)),
        bool(_checkpoints(path)) and not (path / FAILED).is_file(),
    )


def count_parameters(run: Path) -> dict[str, int]:
    """``gen`` and ``disc`` -> how many numbers they learn, read from the head of the newest checkpoint's file."""
    found = _checkpoints(run)
    if not found:
        return {}
    try:
        with (found[-1] / "model.safetensors").open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(min(size, _LARGEST_HEADER)))
        counts: dict[str, int] = {}
        for name, tensor in head.items():
            side = name.partition(".")[0]
            if side in ("gen", "disc") and not name.endswith(_BUFFERS):
                numel = 1
                for length in tensor["shape"]:
                    numel *= length
                counts[side] = counts.get(side, 0) + numel
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return counts


def _checkpoints(run: Path) -> list[Path]:
    """Folders of the checkpoints, oldest first."""
    return [file.parent for file in sorted(run.glob("checkpoints/step-*/model.safetensors"))]


def _has_ended(run: Path, patience: Any) -> bool:
    """Whether by its newest checkpoint a run has waited for a better score for as long as it was to."""
    found = _checkpoints(run)
    if not patience or not found:
        return False
    try:
        waited = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))["best"]["waited"]
        return bool(waited >= patience)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


@cache
def _usual(chosen: str) -> tuple[dict[str, Any], frozenset[str]]:
    """The settings that components choose by themselves, and which settings no result depends on."""
    try:
        config = resolve(
            [Layer("components", {name: value for name, value in json.loads(chosen).items() if value is not None})]
        )
    except GanzooError:  # a component of a plugin that is not here: everything is shown
        config = resolve()
        return {}, frozenset(config.flat().keys() - config.flat(live=False).keys())
    every, lasting = config.flat(), config.flat(live=False)
    return {name: options.jsonable(value) for name, value in lasting.items()}, frozenset(every.keys() - lasting.keys())


def _number(value: Any) -> float:
    """A number out of a file that anybody may have written; 0 if it is none, or no seed, step or second."""
    return value if isinstance(value, (int, float)) and abs(value) < _LARGEST_NUMBER else 0


def _last_metrics(file: Path) -> dict[str, Any]:
    """The last line of metrics of a run."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    for text in reversed(lines):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and not {"event", "scores"} & line.keys() and isinstance(line.get("step"), int):
            return line
    return {}
