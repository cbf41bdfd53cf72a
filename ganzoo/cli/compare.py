"""``ganzoo compare``: runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from ganzoo import options
from ganzoo.cli import terminal
from ganzoo.cli.loading import hearing_signals, importing_torch
from ganzoo.cli.shared import json_option, plugin_option
from ganzoo.config import SECTIONS
from ganzoo.errors import quoted
from ganzoo.evaluation.compare import FORMAT, SORTS, Comparison, Group, Mean, Row, compare
from ganzoo.evaluation.result import FILE, names_in, plain
from ganzoo.local import local_words
from ganzoo.plugins import loaded

_WRAPPED: Final = ("run", "settings")
_ASKED: Final = 3
"""Commands for runs without results that are written out."""


@click.command("compare")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--metric", "metrics", metavar="NAME", multiple=True, help="Score to show; may be repeated. [default: all]"
)
@click.option("--sort", metavar="NAME", help=f"Order by a score, best first, or by {', '.join(SORTS)}.")
@click.option("--markdown", is_flag=True, default=False, help="Print Markdown, for a report.")
@click.option(
    "--grid", type=click.Path(path_type=Path), metavar="FILE.png", help="Draw samples of all runs side by side."
)
@plugin_option
@json_option
def command(
    *,
    runs: tuple[Path, ...],
    metrics: tuple[str, ...],
    sort: str | None,
    markdown: bool,
    grid: Path | None,
    as_json: bool,
) -> None:
    """Compare runs: their scores, settings, speed and size.

    \b
    ganzoo compare runs/*
    ganzoo compare studies/losses --metric fid --markdown

    The folder of a sweep stands for all its runs. Runs that differ in the seed alone are one row: the mean, and the
    standard deviation over the seeds. Scores that were computed in different ways are shown apart.
    """
    if grid is not None:
        with hearing_signals(), importing_torch():
            from ganzoo.outputs.grids import check_ending
            from ganzoo.outputs.sheet import save_sheet
        check_ending(grid)  # before the tables, which may be long
    found = compare(runs, metrics=names_in(metrics), sort=sort)
    if as_json:
        terminal.dump(to_dict(found))
    else:
        show(found, markdown=markdown)
    if grid is not None:
        save_sheet(panels(found), grid, say=terminal.status)
        terminal.status(f"Samples  {grid}")


def show(found: Comparison, *, markdown: bool = False) -> None:
    """Print a comparison: a table for each protocol, and what is to be said about the rest."""
    head = _markdown_table if markdown else _plain_table
    common = {key: text for key, text in found.common().items() if (key, text) != ("reg", "none")}
    lines = (
        [f"All runs: {', '.join(f'{key} {text}' for key, text in common.items())}."] if common and found.rows else []
    )
    if len(found.groups) > 1:
        names = list(found.groups[0].apart)
        lines.append(
            f"The scores were computed in {len(found.groups)} ways, which differ in {', '.join(names)}: "
            "compare within a table only."
        )
    for line in lines:
        _say(line, markdown=markdown)
    for group in found.groups:
        if group.apart:
            words = "; ".join(f"{name}: {_words(value)}" for name, value in group.apart.items())
            _say(f"**{words}**" if markdown else words, markdown=markdown)
        head(*_table(found, group.rows, group))
        terminal.say()
    if found.unevaluated:
        if found.groups:
            _say("Without scores:", markdown=markdown)
        head(*_table(found, found.unevaluated, None))
        terminal.say()
        _ask(found)
    for note in found.notes:
        terminal.status(f"Note: {note}")


def _say(line: str, *, markdown: bool) -> None:
    terminal.say(line)
    if markdown:
        terminal.say()


def _ask(found: Comparison) -> None:
    bare = [run for row in found.unevaluated for run in row.runs if run.scorable]
    plugins = local_words(loaded())
    for run in bare[:_ASKED]:
        command = f"ganzoo eval {quoted(str(run.path))} --update{plugins}"
        terminal.status(f"{run.path.name} has no scores; compute some: {command}")
    if len(bare) > _ASKED:
        terminal.status(f"So it is with {len(bare) - _ASKED} more: a run keeps its scores in {FILE}.")


def panels(found: Comparison) -> list[tuple[str, Path]]:
    """Label and folder of the first run of every row, once, whatever the number of ways in which it was evaluated."""
    rows = {row.runs[0].path: row for row in found.rows}
    labels = [label_of(found, row) for row in rows.values()]
    return [
        (label if labels.count(label) == 1 else f"{label}, seed {row.seeds[0]}", path)
        for label, (path, row) in zip(labels, rows.items(), strict=True)
    ]


def label_of(found: Comparison, row: Row) -> str:
    """What sets a row apart, in words."""
    parts = [text for section, text in row.parts.items() if section in _varying(found)]
    settings = [f"{path} {text}" for path, text in found.differing(row).items()]
    return ", ".join([*parts, *settings]) or row.name


def _varying(found: Comparison) -> list[str]:
    return [section for section in SECTIONS if len({row.parts[section] for row in found.rows}) > 1]


def _table(found: Comparison, rows: Sequence[Row], group: Group | None) -> tuple[list[str], list[list[str]]]:
    """Columns and cells; what is the same of all runs has no column."""
    columns: dict[str, Callable[[Row], str]] = {"run": lambda row: row.name}
    for section in _varying(found):
        columns[section] = lambda row, section=section: row.parts[section]  # type: ignore[misc]
    columns["settings"] = lambda row: ", ".join(f"{path} {text}" for path, text in found.differing(row).items())
    columns["seeds"] = lambda row: ",".join(map(str, row.seeds))
    for name in found.metrics if group else ():
        label = next((row.scores[name].label for row in rows if name in row.scores), None)
        if label is not None:
            columns[_arrow(label, rows, name)] = lambda row, name=name: _score(row, name)  # type: ignore[misc]
    if group and group.protocol.get("best"):
        columns["checkpoint"] = lambda _: "best"
    if group and "samples" in group.protocol:
        columns["N"] = lambda _: _words(group.protocol["samples"])
    columns["steps"] = lambda row: f"{row.steps:,}" + ("!" if row.unfinished else "")
    columns["images/s"] = lambda row: "" if row.images_per_second is None else f"{row.images_per_second:,.0f}"
    columns["seconds"] = lambda row: f"{row.seconds:,.1f}" if row.seconds < 100 else f"{row.seconds:,.0f}"
    columns["G"] = lambda row: _count(row.parameters.get("gen"))
    columns["D"] = lambda row: _count(row.parameters.get("disc"))
    cells = [[tell(row) for tell in columns.values()] for row in rows]
    kept = [at for at, name in enumerate(columns) if name != "settings" or any(row[at] for row in cells)]
    return [name for at, name in enumerate(columns) if at in kept], [[row[at] for at in kept] for row in cells]


def _arrow(label: str, rows: Sequence[Row], name: str) -> str:
    """The label with the good direction: an arrow where the terminal can show one."""
    better = next(row.scores[name].better for row in rows if name in row.scores)
    return f"{label} {'↓' if better == 'lower' else '↑'}" if better else label


def _score(row: Row, name: str) -> str:
    score = row.scores.get(name)
    if score is None:
        return ""
    text = f"{score.mean:.4g}" + ("" if score.std is None else f" ± {score.std:.2g}")
    return text + (f" ({len(score.values)} of {row.of})" if len(score.values) != row.of else "")


def _count(parameters: int | None) -> str:
    if parameters is None:
        return ""
    return f"{parameters / 1e6:.2f} M" if parameters >= 100_000 else f"{parameters:,}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    return options.show(value)


def _plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    terminal.table(columns, rows, wrap=_WRAPPED)


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for cells in (columns, ["---"] * len(columns), *rows):
        terminal.say(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")


def to_dict(found: Comparison) -> dict[str, Any]:
    """As plain JSON values."""
    return {
        "format": FORMAT,
        "common": found.common(),
        "metrics": list(found.metrics),
        "groups": [
            {
                "protocol": dict(group.protocol),
                "apart": dict(group.apart),
                "rows": [_row(found, row) for row in group.rows],
            }
            for group in found.groups
        ],
        "unevaluated": [_row(found, row) for row in found.unevaluated],
        "notes": list(found.notes),
    }


def _row(found: Comparison, row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "runs": [str(run.path) for run in row.runs],
        "seeds": list(row.seeds),
        "of": row.of,
        **row.parts,
        "settings": found.differing(row),
        "scores": {name: _mean(score) for name, score in row.scores.items()},
        "steps": row.steps,
        "seconds": row.seconds,
        "images_per_second": row.images_per_second,
        "parameters": dict(row.parameters),
    }


def _mean(score: Mean) -> dict[str, Any]:
    return {
        "label": score.label,
        "mean": plain(score.mean),
        "std": score.std,
        "n": len(score.values),
        "values": [plain(value) for value in score.values],
        "better": score.better,
        "notes": list(score.notes),
    }
