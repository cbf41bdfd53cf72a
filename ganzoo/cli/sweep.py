"""``ganzoo sweep``: train every combination of some settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from ganzoo import options
from ganzoo.cli import terminal
from ganzoo.cli.axes import SOURCES, Axes, SweepCommand, grid_of
from ganzoo.cli.shared import json_option
from ganzoo.cli.typed import Sectioned, flag_of
from ganzoo.config import FAN_OUT, SECTIONS, STATIC
from ganzoo.data.files import at_home
from ganzoo.data.naming import reference_settings
from ganzoo.errors import GanzooError, Interrupted, UsageError, quoted
from ganzoo.evaluation.cell import check_request
from ganzoo.evaluation.result import names_in
from ganzoo.registry import build, registry
from ganzoo.sweep import grid as grids
from ganzoo.sweep.grid import Cell, Place
from ganzoo.sweep.work import (
    FILE,
    Plan,
    Sweep,
    Tally,
    place_known,
    read_sweep,
    refuse_run,
    seen_from,
    write_sweep,
)
from ganzoo.training.places import in_full, refuse_bytes

_source: Final = partial(click.option, cls=Sectioned, section="Components", expose_value=False, multiple=True)
_eval: Final = partial(click.option, cls=Sectioned, section="Evaluation", default=None)


@click.command("sweep", cls=SweepCommand, components=tuple(SECTIONS), settings=(*SECTIONS, *STATIC, *FAN_OUT))
@_source("--config", metavar="FILE,...", help="Settings file: TOML, or a run's config.json.")
@_source("--preset", metavar="NAME,...", help="Settings by name; see 'ganzoo list presets'.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of the sweep.")
@click.option("--shard", metavar="I/N", help="Work on part I of N alone, counted from 1, as one job of an array.")
@click.option("--retry", is_flag=True, default=False, help="Run those again that failed before.")
@click.option("--dry-run", is_flag=True, default=False, help="List the runs, and what is refused and why; do nothing.")
@click.option(
    "--allow-incompatible", is_flag=True, default=False, help="Run combinations although a rule refuses them."
)
@_eval("--eval", "evaluate", is_flag=True, default=False, help="Evaluate each run when it is trained.")
@_eval("--metric", "metrics", metavar="NAME,...", multiple=True, help="Scores to compute; goes with --eval.")
@_eval("--eval.features", "features", metavar="NAME", help="Feature network of the scores.")
@_eval("--eval.samples", "samples", type=click.IntRange(min=2), help="Samples that the scores are computed from.")
@_eval("--eval.against", "against", metavar="DATASET[:SPLIT]", help="Data that the samples are held against.")
@click.option("--quiet", "-q", is_flag=True, default=False, help="Say nothing while the runs go on.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    out: Path | None,
    shard: str | None,
    retry: bool,
    dry_run: bool,
    allow_incompatible: bool,
    evaluate: bool,
    quiet: bool,
    as_json: bool,
    **scores: Any,
) -> None:
    """Train every combination of some settings, and compare the runs.

    \b
    ganzoo sweep --out studies/losses --loss ns,wgan-gp --seed 0,1,2
    ganzoo sweep --out studies/r1 --reg none,r1,r1+r2 --reg.r1.gamma 0.1,1 --jobs 2
    ganzoo sweep --out studies/losses                go on where it was left

    Options are those of 'ganzoo run', and each may have several values, separated by commas or given by repeating the
    option. A value that holds commas itself is one value: --optim.betas 0,0.9 --optim.betas 0.5,0.999. Regularizers
    that belong together are joined by +.
    """
    axes = ctx.obj
    assert isinstance(axes, Axes)
    request = _request(scores) if evaluate or any(scores.values()) else None
    texts, saved = axes.texts, None
    here = asked_in = Path.cwd()
    if out is not None:
        out = at_home(out)
        refuse_bytes(out, "--out")
        refuse_run(out)
    if not texts and out is not None:
        saved = read_sweep(out)
        texts = {**saved["axes"], **saved["base"]}
        asked_in = place_known(out, "folder")
        allow_incompatible = allow_incompatible or bool(saved.get("allow_incompatible"))
    for path, values in texts.items():
        for text in values:
            refuse_bytes(text, flag_of(path))
    names = Place(here if out is None else place_known(out, "start"))
    with _telling(out, saved), chdir(asked_in):
        every = grids.cells(grid_of(texts), allow_incompatible=allow_incompatible, place=names)
    anew = saved is None or request is not None
    with _telling(out, None if anew else saved), chdir(here if anew else names.start):
        request = saved.get("evaluate") if saved and not anew else request
        check_request(request, [cell.config for cell in every if cell.config and not cell.is_refused])
        request, against = _real_data(request, names.start)
    mine = every if shard is None else grids.shard(every, *_shard(shard))
    if dry_run:
        _list(mine, texts, as_json=as_json)
        return
    if out is None:
        raise UsageError("Say in which folder the sweep is to be kept: --out DIR.")
    sweep = _Sweeping(axes, out, texts, asked_in, names, quiet=quiet)
    plan = Plan([], request, retry=retry, allow_incompatible=allow_incompatible, against=against)
    sweep.run(every, mine, plan, as_json=as_json)


@contextmanager
def _telling(out: Path | None, saved: dict[str, Any] | None) -> Iterator[None]:
    """An error in what a folder says names its file, and the unpackaged plugins that it was begun with and lacks now.

    They are not loaded by themselves: a folder's file would then say which code runs.
    """
    try:
        yield
    except UsageError as err:
        if out is None or saved is None:
            raise
        here = os.environ.get("GANZOO_PLUGINS", "").split(",")
        missing = " ".join(f"-p {quoted(name)}" for name in _plugins(saved) if name not in here)
        hint = f" The sweep was begun with {missing}: say so again." if missing else ""
        raise UsageError(f"{out / FILE}: {err}{hint}") from None


def _plugins(saved: dict[str, Any]) -> list[str]:
    """The unpackaged plugins that a sweep was begun with."""
    begun = saved.get("plugins")
    return [str(name) for name in begun] if isinstance(begun, list) else []


class _Sweeping:
    """One call of the command."""

    def __init__(
        self, axes: Axes, out: Path, texts: dict[str, list[str]], asked_in: Path, names: Place, *, quiet: bool
    ) -> None:
        self.axes, self.out, self.texts, self.asked_in, self.names = axes, out, texts, asked_in, names
        self.say = (lambda _: None) if quiet else terminal.status

    def run(self, every: list[Cell], mine: list[Cell], plan: Plan, *, as_json: bool) -> None:
        from ganzoo.training.signals import StopSignals

        launcher = build(registry().choose("launcher", self.axes.launcher, self._launcher_options()), None)
        refused = [cell for cell in mine if cell.is_refused]
        for cell in refused:
            self.say(f"{cell.name}: refused: {' '.join(cell.sentences)}")
        if len(refused) == len(mine):
            raise UsageError(f"Each of the {len(mine)} runs is refused." if mine else "This shard has no runs.")
        self._warn_of_forgotten(every)
        write_sweep(self.out, self._saved(every, plan))
        kept = replace(plan, cells=[cell for cell in mine if not cell.is_refused])
        sweep = Sweep(self.out, kept, self.say)
        before = sweep.tally()
        self.say(f"{_runs(len(kept.cells))} in {self.out}, {len(before.done)} done before, {len(refused)} refused.")
        for name, (taken, asked) in sweep.longer().items():
            self.say(f"{name}: has {taken} steps, more than the {asked} asked for, and stays as it is.")
        with StopSignals() as stop:
            stop.defer()
            tally = sweep.run(launcher, lambda: stop.received)
        self._report(tally, refused, as_json=as_json)
        if stop.received and tally.left:
            raise Interrupted(
                f"Stopped with {_runs(len(tally.left))} left; the same command goes on with them.", stop.received
            )
        if tally.failed:
            raise GanzooError(
                f"{_runs(len(tally.failed))} failed; {self.out}/*/failed.json says why, and --retry tries again."
            )

    def _warn_of_forgotten(self, every: list[Cell]) -> None:
        """Say which runs the folder was asked for before and will not go on with by itself any more."""
        if not (self.out / FILE).is_file():
            return
        try:
            saved = read_sweep(self.out)
            texts, asked_in = {**saved["axes"], **saved["base"]}, place_known(self.out, "folder")
            if (texts, asked_in) == (self.texts, self.asked_in):
                return
            with chdir(self.names.start):
                check_request(saved.get("evaluate"), [])
                request, _ = _real_data(saved.get("evaluate"), self.names.start)
            with chdir(asked_in):
                allowed = bool(saved.get("allow_incompatible"))
                before = grids.cells(grid_of(texts), allow_incompatible=allowed, place=self.names)
        except GanzooError as err:
            self.say(f"What {self.out} was asked for before is unknown here, and is not gone on with: {err}")
            return
        kept = Plan([cell for cell in before if not cell.is_refused], request)
        left = set(Sweep(self.out, kept, self.say).tally().left)
        steps = {cell.name: cell.config.run.steps for cell in every if cell.config and not cell.is_refused}
        lost = [cell for cell in kept.cells if cell.config and steps.get(cell.name, 0) < cell.config.run.steps]
        count = sum(cell.name in left for cell in lost)
        if count:
            self.say(
                f"{_runs(count)} that {self.out} was asked for before {'are' if count > 1 else 'is'} not finished, and "
                f"'ganzoo sweep --out {quoted(str(self.out))}' will not go on with that any more; say it anew: "
                f"{_command(self.out, texts, saved, asked_in)}"
            )

    def _launcher_options(self) -> dict[str, Any]:
        entry = registry().get("launcher", self.axes.launcher)
        known = {option.name: option for option in entry.options}
        return {name: known[name].parse(text, textual=True) for name, text in self.axes.launching.items()}

    def _saved(self, every: list[Cell], plan: Plan) -> dict[str, Any]:
        local = [name for name in os.environ.get("GANZOO_PLUGINS", "").split(",") if name]
        return {
            "folder": seen_from(self.out, self.asked_in),
            "start": seen_from(self.out, self.names.start),
            "axes": {path: texts for path, texts in self.texts.items() if len(texts) > 1},
            "base": {path: texts for path, texts in self.texts.items() if len(texts) == 1},
            "plugins": local,
            "evaluate": plan.request,
            "allow_incompatible": plan.allow_incompatible,
            "cells": {cell.name: list(cell.sentences) for cell in every},
        }

    def _report(self, tally: Tally, refused: list[Cell], *, as_json: bool) -> None:
        counts = [(len(tally.done), "done"), (len(tally.failed), "failed"), (len(tally.left), "left")]
        words = ", ".join(f"{count} {word}" for count, word in [*counts, (len(refused), "refused")] if count)
        self.say(f"{words[:1].upper()}{words[1:]}.")
        if not (as_json or tally.done):
            return
        from ganzoo.cli.compare import show, to_dict
        from ganzoo.evaluation.compare import compare

        found = compare([self.out])
        if not as_json:
            show(found)
            return
        terminal.dump(
            {
                "format": "ganzoo-sweep-report/1",
                "sweep": str(self.out),
                "done": tally.done,
                "failed": tally.failed,
                "left": tally.left,
                "refused": {cell.name: list(cell.sentences) for cell in refused},
                "comparison": to_dict(found),
            }
        )


def _command(out: Path, texts: dict[str, list[str]], saved: dict[str, Any], asked_in: Path) -> str:
    """What a user would type for the sweep that a folder was asked for, in the folder where that was."""
    enter = [] if asked_in == Path.cwd() else [f"cd {quoted(str(asked_in))} &&"]
    out = out.resolve() if enter else out
    said = [("--out", str(out)), *(("-p", name) for name in _plugins(saved))]
    said += [(flag_of(path), text) for path, values in texts.items() for text in values]
    switches = {"true": "--", "false": "--no-"}
    words = [
        switches[text] + flag.removeprefix("--") if text in switches else f"{flag} {quoted(text)}"
        for flag, text in said
    ]
    if saved.get("allow_incompatible"):
        words.append("--allow-incompatible")
    request = dict(saved.get("evaluate") or {})
    words += ["--eval"] if saved.get("evaluate") is not None else []
    words += [f"--metric {quoted(str(name))}" for name in request.pop("metrics", ())]
    words += [f"--eval.{name} {quoted(str(value))}" for name, value in request.items()]
    return " ".join([*enter, "ganzoo sweep", *words])


def _request(scores: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the evaluation that were given."""
    names = names_in(scores.pop("metrics"))
    return {name: value for name, value in {"metrics": names or None, **scores}.items() if value is not None}


def _real_data(request: dict[str, Any] | None, start: Path) -> tuple[dict[str, Any] | None, str]:
    """The request with the path of the real data as it is seen from where the sweep was begun, and that path in full;
    the latter is empty if they have none."""
    flag = "--eval.against"
    path = reference_settings(request["against"], flag)[1].get("path") if request and "against" in request else None
    if not request or not path:
        return request, ""
    full = in_full(Path(path))
    near = str(full.relative_to(start) if full.is_relative_to(start) else full)
    with chdir(start):
        is_path = "path" in reference_settings(near, flag)[1]
    return {**request, "against": near if is_path else f"./{near}"}, str(full)


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise UsageError(f"--shard is I/N with I from 1 to N, such as 1/4, not {text!r}.")
    return int(found[1]), int(found[2])


def _list(every: list[Cell], texts: dict[str, list[str]], *, as_json: bool) -> None:
    if as_json:
        cells = [
            {
                "name": cell.name,
                "status": "refused" if cell.is_refused else "works",
                "sentences": list(cell.sentences),
                "settings": {path: options.show(value) for path, value in cell.settings.items()},
            }
            for cell in every
        ]
        terminal.dump({"format": "ganzoo-sweep-cells/1", "axes": texts, "cells": cells})
        return
    swept = [path for path, values in texts.items() if len(values) > 1 and path not in SOURCES]
    rows = [
        (
            cell.name,
            *(options.show(cell.settings[path]) or "none" if path in cell.settings else "" for path in swept),
            " ".join(["refused:", *cell.sentences]) if cell.is_refused else "works",
        )
        for cell in every
    ]
    terminal.table(("run", *(path.removeprefix("run.") for path in swept), "verdict"), rows, wrap=("verdict",))
    refused = sum(cell.is_refused for cell in every)
    terminal.status(f"{_runs(len(every))}, {refused} of them refused.")


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
