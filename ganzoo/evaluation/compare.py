"""Comparing runs by what they keep: settings, metrics, checkpoints and results. Free of torch.

Runs that differ in the seed alone are one row, with mean and standard deviation. Scores of unlike protocols never stand
in one table: there is a group for each protocol, which says in what it differs.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from ganzoo import options
from ganzoo.config import SECTIONS
from ganzoo.errors import MissingError, UsageError, did_you_mean
from ganzoo.evaluation.facts import FAILED, Facts, facts_of
from ganzoo.evaluation.result import Better, Result
from ganzoo.training.run import folder_of

SWEEP: Final = "sweep.json"
FORMAT: Final = "ganzoo-compare/1"


@dataclass(frozen=True)
class Mean:
    """A score over runs.

    Attributes:
        label: what people read.
        values: of each run, in the order of the seeds.
        better: which direction is good.
        notes: caveats.
    """

    label: str
    values: tuple[float, ...]
    better: Better | None = None
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Over the runs."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Over the runs, with n - 1; None of one run, and where a value is infinite."""
        spread = len(self.values) > 1 and all(map(math.isfinite, self.values))
        return statistics.stdev(self.values) if spread else None


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone, in the order of their seeds.

    Attributes:
        runs: those that have some of the scores.
        scores: name -> score over the runs that have it.
        of: how many runs there are with these settings, with scores or without.
    """

    runs: tuple[Facts, ...]
    scores: Mapping[str, Mean] = field(default_factory=dict)
    of: int = 1

    @property
    def name(self) -> str:
        """The name of the run, or how the names of the runs begin."""
        names = [run.path.name for run in self.runs]
        if len(names) == 1:
            return names[0]
        short = min(len(name) for name in names)
        same = next((at for at in range(short) if len({name[at] for name in names}) > 1), short)
        return f"{names[0][:same]}*"

    @property
    def parts(self) -> dict[str, str]:
        """Section -> name of the component, those of the plugins that ship with ganzoo by their short names."""
        settings = self.runs[0].settings
        return {section: _short(settings.get(section)) for section in SECTIONS}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(run.seed for run in self.runs)

    @property
    def steps(self) -> int:
        """Steps taken, of the run that took the fewest."""
        return min(run.steps for run in self.runs)

    @property
    def unfinished(self) -> bool:
        """Whether a run took fewer steps than were asked for, and not by its own rule."""
        return any(run.unfinished for run in self.runs)

    @property
    def seconds(self) -> float:
        """Of training, the mean over the runs."""
        return statistics.fmean(run.seconds for run in self.runs)

    @property
    def images_per_second(self) -> float | None:
        """Of training, the mean over the runs."""
        rates = [run.images / run.seconds for run in self.runs if run.seconds > 0 and run.images]
        return statistics.fmean(rates) if rates else None

    @property
    def parameters(self) -> Mapping[str, int]:
        """``gen`` and ``disc`` -> how many numbers they learn, of the first run that knows."""
        return next((run.parameters for run in self.runs if run.parameters), {})


@dataclass(frozen=True)
class Group:
    """Rows whose scores may be compared.

    Attributes:
        protocol: what the scores depend on.
        apart: the parts of it that other groups have otherwise.
        rows: best first, or as asked for.
    """

    protocol: Mapping[str, Any]
    apart: Mapping[str, Any]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """Everything that is known of some runs, side by side.

    Attributes:
        groups: a group for each protocol.
        unevaluated: runs without a result.
        metrics: names of the scores, in the order in which they first came up.
        notes: sentences on runs that are left out or not what they seem.
    """

    groups: tuple[Group, ...]
    unevaluated: tuple[Row, ...]
    metrics: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> list[Row]:
        """All rows."""
        return [*(row for group in self.groups for row in group.rows), *self.unevaluated]

    def common(self) -> dict[str, str]:
        """What all runs have alike: sections with the names of components, then settings."""
        return dict(self._common)

    def differing(self, row: Row) -> dict[str, str]:
        """The settings of a row that not all rows have."""
        return {path: text for path, text in self._settings(row).items() if path not in self._common}

    @cached_property
    def _common(self) -> dict[str, str]:
        every = [{**row.parts, **self._settings(row)} for row in self.rows]
        first = every[0] if every else {}
        return {key: text for key, text in first.items() if all(each.get(key) == text for each in every)}

    @cached_property
    def _unusual(self) -> tuple[str, ...]:
        """The settings that in any row are unusual."""
        return tuple(dict.fromkeys(path for row in self.rows for path in row.runs[0].unusual))

    def _settings(self, row: Row) -> dict[str, str]:
        """Those settings of a row in words that in any row are unusual."""
        settings = row.runs[0].settings
        return _shown({path: settings[path] for path in self._unusual if path in settings})


def compare(paths: Iterable[Path], *, metrics: Sequence[str] = (), sort: str | None = None) -> Comparison:
    """Compare runs.

    Args:
        paths: folders of runs, or of sweeps, which stand for all their runs.
        metrics: names of the scores to show; all unless given.
        sort: a score (best first), or one of :data:`SORTS`; the first score unless given.

    Raises:
        UsageError: a folder is neither; or a score or order that there is not.
    """
    runs, notes = _collect(paths)
    known = tuple(dict.fromkeys(score.name for run in runs for result in run.results for score in result.scores))
    for name in metrics:
        if name not in known:
            raise UsageError(f"None of these runs has the score {name!r}.{did_you_mean(name, known)}")
    shown = tuple(metrics) or known
    if sort is not None and sort not in (*known, *SORTS):
        raise UsageError(f"--sort takes a score or a column, not {sort!r}.{did_you_mean(sort, (*known, *SORTS))}")
    by_protocol: dict[str, list[Facts]] = {}
    protocols: dict[str, dict[str, Any]] = {}
    for run in runs:
        last = {_key(result): result for result in run.results}
        newest = {key: last[key] for key in dict.fromkeys(_key(each) for each in run.results if _has(each, shown))}
        for protocol, result in newest.items():
            by_protocol.setdefault(protocol, []).append(run)
            protocols.setdefault(protocol, _protocol(result))
        notes += _of_other_steps(run, newest)
    alike = Counter(run.key for run in runs)
    order = sort or next(iter(shown), None)
    groups = tuple(
        Group(
            protocols[key],
            _apart(protocols[key], list(protocols.values())),
            _only(_sorted(_rows(of, key, sorted({*shown, *([order] if order in known else [])}), alike), order), shown),
        )
        for key, of in by_protocol.items()
    )
    bare = [run for run in runs if not any(_has(result, shown) for result in run.results)]
    unevaluated = _sorted(_rows(bare, None, (), alike), sort)
    return Comparison(groups, unevaluated, shown, tuple(notes))


def _of_other_steps(run: Facts, newest: Mapping[str, Result]) -> list[str]:
    """Sentences on scores of a run that are of another step than its last; ``newest`` has those of each protocol."""
    steps = dict.fromkeys(result.subject.get("step") for result in newest.values())
    which = "The scores" if len(steps) == 1 else "Some scores"
    return [
        f"{which} of {run.path.name} are of step {step:,}; it has taken {run.steps:,}."
        for step in steps
        if isinstance(step, int) and step != run.steps
    ]


def _only(rows: tuple[Row, ...], shown: Sequence[str]) -> tuple[Row, ...]:
    """The rows with those scores alone; they may be sorted by another one."""
    return tuple(replace(row, scores={name: row.scores[name] for name in shown if name in row.scores}) for row in rows)


SORTS: Final = {
    "run": lambda row: row.name,
    "steps": lambda row: row.steps,
    "seconds": lambda row: row.seconds,
    "images/s": lambda row: -(row.images_per_second or 0.0),
    "parameters": lambda row: sum(row.parameters.values()),
}
"""Columns to sort by, beside the scores."""


def _collect(paths: Iterable[Path]) -> tuple[list[Facts], list[str]]:
    notes: list[str] = []
    found: dict[Path, Path] = {}
    for path in map(folder_of, paths):
        if path.name == SWEEP and path.is_file():
            continue  # a shell's glob over a sweep names it beside the runs
        if (path / SWEEP).is_file():
            for inner in sorted(path.iterdir()):
                if (inner / "config.json").is_file():
                    found.setdefault(inner.resolve(), inner)
                if (inner / FAILED).is_file():
                    notes.append(f"{inner.name} failed: {_failure(inner / FAILED)}")
        else:
            found.setdefault(path.resolve(), path)
    newest: dict[tuple[str, int], Facts] = {}
    for path in found.values():
        run = _facts(path)
        other = newest.get((run.key, run.seed))
        if other is not None:
            older, run = sorted((other, run), key=lambda each: (each.path / "config.json").stat().st_mtime)
            notes.append(f"{older.path} has the settings and the seed of {run.path}; the newer one counts.")
        newest[run.key, run.seed] = run
    for run in newest.values():
        if run.unfinished:
            notes.append(f"{run.path.name} has taken {run.steps:,} of {run.asked:,} steps.")
        elif run.steps < run.asked:
            why = "since its score got no better (--eval-patience)"
            notes.append(f"{run.path.name} ended after {run.steps:,} of {run.asked:,} steps, {why}.")
    return list(newest.values()), notes


def _facts(path: Path) -> Facts:
    """What a run says of itself; of a folder of runs, how they are named is said."""
    try:
        return facts_of(path)
    except MissingError as err:
        if not any(path.glob("*/config.json")):
            raise
        raise MissingError(f"{err} There are runs in it: name them as {path / '*'}.") from None


def _failure(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["sentence"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "its failed.json cannot be read."


def _rows(runs: Sequence[Facts], protocol: str | None, shown: Sequence[str], alike: Mapping[str, int]) -> list[Row]:
    """A row for each configuration; ``alike`` knows how many runs have it, here or elsewhere."""
    same: dict[str, list[Facts]] = {}
    for run in runs:
        same.setdefault(run.key, []).append(run)
    rows = []
    for group in same.values():
        group.sort(key=lambda run: run.seed)
        found = [_newest(run, protocol) for run in group]
        scores = {}
        for name in shown:
            having = [score[name] for score in found if name in score]
            if having:
                notes = tuple(dict.fromkeys(score.note for score in having if score.note))
                scores[name] = Mean(having[0].label, tuple(score.value for score in having), having[0].better, notes)
        rows.append(Row(tuple(group), scores, alike[group[0].key]))
    return rows


def _newest(run: Facts, protocol: str | None) -> dict[str, Any]:
    """Name -> newest score of a run under a protocol; older ones count if they are of the same weights."""
    results = [result for result in run.results if protocol is not None and _key(result) == protocol]
    scores: dict[str, Any] = {}
    for result in results:
        if _weights(result) == _weights(results[-1]):
            scores |= {score.name: score for score in result.scores}
    return scores


def _weights(result: Result) -> tuple[Any, Any]:
    return result.subject.get("step"), result.subject.get("weights")


def _protocol(result: Result) -> dict[str, Any]:
    """Everything that scores depend on but for the training itself: the protocol, and which weights were scored."""
    return {
        **result.protocol,
        "weights": result.subject.get("weights"),
        "best": bool(result.subject.get("best")),
    }


def _key(result: Result) -> str:
    """Equal for scores that may be compared: by which name or path real data were asked for makes no difference."""
    protocol = _protocol(result)
    if protocol.get("real_digest"):
        protocol.pop("reference", None)
    return json.dumps(protocol, sort_keys=True, default=str)


def _has(result: Result, shown: Sequence[str]) -> bool:
    return any(score.name in shown for score in result.scores)


def _apart(protocol: Mapping[str, Any], every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for each in every for name in each)
    found = {name: protocol.get(name) for name in names if any(each.get(name) != protocol.get(name) for each in every)}
    if protocol.get("real_digest") and "real_digest" not in found:
        found.pop("reference", None)  # another name for the same data
    return found


def _sorted(rows: list[Row], order: str | None) -> tuple[Row, ...]:
    if order is None:
        return tuple(rows)
    if order in SORTS:
        return tuple(sorted(rows, key=SORTS[order]))

    def rank(row: Row) -> tuple[bool, float]:
        score = row.scores.get(order)
        if score is None:
            return (True, 0.0)
        return (score.mean != score.mean, -score.mean if score.better == "higher" else score.mean)

    return tuple(sorted(rows, key=rank))


def _shown(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings in words; what both optimisers have alike once."""
    found = {}
    for path, value in settings.items():
        section, _, name = path.rpartition(".")
        if section == "disc_optim" and settings.get(f"gen_optim.{name}", ...) == value:
            continue
        both = section == "gen_optim" and settings.get(f"disc_optim.{name}", ...) == value
        found[f"optim.{name}" if both else path.removeprefix("run.")] = options.show(value)
    return found


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(_short(item) for item in value) or "none"
    return str(value).removeprefix("ganzoo/")
