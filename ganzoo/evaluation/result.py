"""What an evaluation says, and how two of them are told apart. Free of torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args

from ganzoo.errors import GanzooError, Interrupted

FORMAT: Final = "ganzoo-eval/1"
FILE: Final = "evaluations.jsonl"
"""Where a run keeps its results, one :meth:`Result.to_dict` a line, the newest last."""

_FOREIGN: Final = f"This is no result of an evaluation of ours (format {FORMAT!r})."

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        name: key that programs use, such as ``"fid"``, ``"kid"``, ``"precision"``, ``"modes"``.
        label: what people read; it names the extractor unless it is the customary one: ``"FID[digit-cnn]"``.
        value: the number.
        better: which direction is good; None if neither is.
        std: its standard deviation where the metric has one (KID over subsets, IS over splits); not an error bar of
            the training.
        note: a caveat in words, such as that the count is small; empty if there is none.
    """

    name: str
    label: str
    value: float
    better: Better | None = None
    std: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Result:
    """The scores of one evaluation and everything that they depend on.

    Attributes:
        subject: what was evaluated: ``path``, ``kind`` (run, export, images), ``step``, ``weights`` (ema or last), and
            ``best`` if it was a run's best checkpoint and not its newest.
        scores: in the order in which they were asked for.
        protocol: name -> plain value: counts, reference, split, extractor and its digest, seed, size, versions. Scores
            are comparable only if these are equal.
        details: what does not fit in a number: class histogram, accuracy per class, hits per mode.
        seconds: how long it took.
    """

    subject: Mapping[str, Any]
    scores: tuple[Score, ...]
    protocol: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __getitem__(self, name: str) -> float:
        """The value of the score called ``name``.

        Raises:
            KeyError: it was not computed.
        """
        for score in self.scores:
            if score.name == name:
                return score.value
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; a score or a deviation that is infinite is null there."""
        scores = [
            asdict(score) | {"value": plain(score.value), "std": None if score.std is None else plain(score.std)}
            for score in self.scores
        ]
        return {"format": FORMAT, **asdict(self), "scores": scores}

    @classmethod
    def from_dict(cls, saved: Any) -> Self:
        """Take back what :meth:`to_dict` gave.

        Raises:
            GanzooError: it is not that.
        """
        try:
            if saved["format"] != FORMAT:
                raise GanzooError(_FOREIGN)
            scores = tuple(_score(score) for score in saved["scores"])
            rest = {name: dict(saved[name]) for name in ("subject", "protocol", "details")}
            return cls(scores=scores, seconds=float(saved["seconds"]), **rest)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise GanzooError(_FOREIGN) from None


def _score(saved: Any) -> Score:
    """A score out of a file that anybody may have written."""
    value, std = (None if saved[name] is None else float(saved[name]) for name in ("value", "std"))
    texts = {name: str(saved[name]) for name in ("name", "label", "note")}
    better = saved["better"] if saved["better"] in get_args(Better) else None
    worst = -math.inf if better == "higher" else math.inf
    return Score(value=worst if value is None else value, better=better, std=std, **texts)


def plain(value: float) -> float | None:
    """A number as JSON has it, which knows no infinity."""
    return value if math.isfinite(value) else None


def names_in(texts: Iterable[str]) -> list[str]:
    """The names of scores in the values of an option, of which each may have several with commas between them."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def differences(one: Result, other: Result) -> list[str]:
    """Names of the parts of the protocol in which two results differ; their scores are comparable if there are none."""
    keys = dict.fromkeys((*one.protocol, *other.protocol))
    return [key for key in keys if one.protocol.get(key) != other.protocol.get(key)]


def append_result(run: Path, result: Result) -> None:
    """Add a result to a run's ``evaluations.jsonl``.

    Raises:
        GanzooError: it cannot be written.
    """
    file = run / FILE
    line = json.dumps(result.to_dict()).encode() + b"\n"
    try:
        with file.open("ab+") as opened:
            end = opened.seek(0, os.SEEK_END)
            opened.seek(max(end - 1, 0))
            if end and opened.read(1) != b"\n":  # a line that a full disk has torn
                line = b"\n" + line
            try:
                opened.write(line)
                opened.flush()
            except OSError:
                with suppress(OSError):
                    opened.truncate(end)
                raise
    except OSError as err:
        raise GanzooError(f"{file} cannot be written: {err.strerror or err}.") from None


def read_results(run: Path) -> list[Result]:
    """The results kept by a run, oldest first; lines that are torn or damaged are left out."""
    file = run / FILE
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(Result.from_dict(json.loads(line)))
        except Interrupted:
            raise
        except (ValueError, RecursionError, GanzooError):
            continue
    return found
