"""``ganzoo run``: train a GAN."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ganzoo import decisions, options, processes
from ganzoo.cli import many, terminal
from ganzoo.cli.choosing import ARGUMENTS, Choosing, choosing_command, choosing_of
from ganzoo.cli.loading import importing_torch
from ganzoo.cli.shared import json_option
from ganzoo.cli.typed import Sectioned
from ganzoo.config import FAN_OUT, SECTIONS, STATIC, RunConfig
from ganzoo.errors import UsageError, printable, quoted
from ganzoo.local import local_words
from ganzoo.plugins import loaded

if TYPE_CHECKING:
    from ganzoo.training.run import Run
    from ganzoo.training.signals import StopSignals


# Read by the first pass of the command line, which puts what they name in the Choosing.
_source: Final = partial(click.option, cls=Sectioned, section="Components", expose_value=False)


@choosing_command("run", components=tuple(SECTIONS), settings=(*SECTIONS, *STATIC, *FAN_OUT))
@_source("--config", metavar="FILE", help="Settings file: TOML, or a run's config.json.")
@_source("--preset", metavar="NAME", help="Settings by name; see 'ganzoo list presets'.")
@click.option(
    "--resume",
    metavar="RUN|auto",
    help="Continue the run in this folder; auto: the newest run with these settings, or a new one.",
)
@click.option(
    "--devices",
    metavar="N|auto",
    help="Train with so many processes on this machine, one for each GPU or share of the cores; auto: as many as GPUs.",
)
@click.option("--dry-run", is_flag=True, default=False, help="Show every setting and where it comes from; do nothing.")
@click.option("--allow-incompatible", is_flag=True, default=False, help="Try a combination although a rule refuses it.")
@click.option("--quiet", "-q", is_flag=True, default=False, help="Say nothing while training.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    resume: str | None,
    devices: str | None,
    dry_run: bool,
    allow_incompatible: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a GAN.

    \b
    ganzoo run                                       handwritten digits, DCGAN, a few minutes
    ganzoo run --data ./photos --loss wgan-gp        your own images
    ganzoo run --gen dcgan --gen.width 32 --help     what can be set for these components

    Settings come from, each over the one before: the component's defaults, the recipe of its paper, --preset, --config,
    the command line.
    """
    choosing = choosing_of(ctx)
    start_here = _plan_processes(ctx, choosing, devices)
    if dry_run:
        _dry_run(choosing, resume, as_json=as_json, allow_incompatible=allow_incompatible)
        return
    if start_here:
        ctx.exit(_launch(choosing, resume, ctx, allow_incompatible=allow_incompatible))
    run = many.as_one(lambda: _train(choosing, resume, allow_incompatible=allow_incompatible, quiet=quiet))
    if processes.place().rank == 0:
        _report(run, as_json=as_json, quiet=quiet)


def _plan_processes(ctx: click.Context, choosing: Choosing, devices: str | None) -> bool:
    """Whether ``--devices`` asks for processes that are still to be started."""
    wanted = many.to_start(devices, lambda: choosing.resolve().run.device)
    if wanted:
        ctx.with_resource(processes.planned(wanted))
    return wanted > 1


def _launch(choosing: Choosing, resume: str | None, ctx: click.Context, *, allow_incompatible: bool) -> int:
    """Start the processes, once the configuration is known to be right: what is wrong with it is said once, here."""
    from ganzoo.training.launch import launch
    from ganzoo.training.signals import StopSignals
    from ganzoo.training.start import resume_config

    with StopSignals():
        config = choosing.resolve()
        if resume is not None:
            config, _ = resume_config(resume, choosing.all_layers(), config.run.out)
        processes.share(config.run.batch_size, processes.count())
        broken = config.plan().broken_rules()
    if broken and not allow_incompatible:
        raise UsageError(" ".join(broken))
    return launch(processes.count(), ["run", *ctx.meta[ARGUMENTS]], config.run.device)


def _dry_run(choosing: Choosing, resume: str | None, *, as_json: bool, allow_incompatible: bool) -> None:
    config = choosing.resolve()
    if resume is not None:
        from ganzoo.training.run import read_config
        from ganzoo.training.start import resume_config

        run = resume_config(resume, choosing.all_layers(), config.run.out)[1]
        allowed = read_config(run).get("incompatible") if run is not None else None
        allow_incompatible = allow_incompatible or bool(allowed)  # who began the run has allowed it
    world = processes.count()
    each = processes.share(config.run.batch_size, world)
    chosen = decisions.expected(config, decisions.guessed(config.run.device))
    if as_json:
        several = {"processes": {"world": world, "batch_per_process": each}} if world > 1 else {}
        decided = {"decisions": [each.to_dict() for each in chosen]}
        terminal.dump(
            {"format": "ganzoo-config/1", "config": config.to_dict(), "origins": dict(config.origins)}
            | decided
            | several
        )
    else:
        rows = _rows(config)
        if world > 1:
            rows += [("processes", str(world), "--devices"), ("batch of each process", str(each), "batch_size")]
        terminal.table(("setting", "value", "origin"), rows, wrap=("value",))
        terminal.table(("chosen", "value", "why"), [tuple(each.to_dict().values()) for each in chosen], wrap=("why",))
    broken = config.plan().broken_rules()
    if broken and not allow_incompatible:
        raise UsageError(" ".join(broken))
    for sentence in broken:
        terminal.status(f"Warning: {sentence}")


def _rows(config: RunConfig) -> list[tuple[str, str, str]]:
    values = config.flat()
    rows = [("reg", options.show(values["reg"]) or "none", config.origins["reg"])]
    for section, choice, settings in config.sections():
        if choice is not None and not section.startswith("reg."):
            rows.append((section, choice.id, config.origins[section]))
        paths = [f"{section}.{option.name}" for option in options.options_of(type(settings))]
        rows += [(path, options.show(values[path]), config.origins[path]) for path in paths]
    return rows


def _train(choosing: Choosing, resume: str | None, *, allow_incompatible: bool, quiet: bool) -> Run:
    from ganzoo.training.signals import StopSignals

    with StopSignals() as stop:  # before torch is imported, which takes seconds
        return _train_until(stop, choosing, resume, allow_incompatible=allow_incompatible, quiet=quiet)


def _train_until(
    stop: StopSignals, choosing: Choosing, resume: str | None, *, allow_incompatible: bool, quiet: bool
) -> Run:
    from ganzoo.cli.display import display_for

    with importing_torch():
        from ganzoo.training.start import resume_config, start

    screen = terminal.console(stderr=True)

    def say(text: str) -> None:
        screen.print(printable(text), soft_wrap=True)

    if processes.place().rank:
        quiet = True  # process 0 speaks for all
    with terminal.log_to((lambda _: None) if processes.place().rank else say):
        config, path = choosing.resolve(), None
        if resume is not None:
            config, path = resume_config(resume, choosing.all_layers(), config.run.out)
        else:
            path = _offered(config, quiet=quiet)
        display = display_for(screen)
        try:
            return start(
                config,
                resume=path,
                observers=() if quiet else (display,),
                allow_incompatible=allow_incompatible,
                say=(lambda _: None) if quiet else say,
                stop=stop,
            )
        finally:
            display.close()


def _offered(config: RunConfig, *, quiet: bool) -> Path | None:
    """The unfinished run of the same settings, if there is one and the user wants to continue it."""
    from ganzoo.training.start import unfinished

    found = unfinished(config)
    if found is None:
        return None
    path, step = found
    words = f"The run {path} has the same settings and stopped after step {step} of {config.run.steps}."
    alone = processes.place().world == 1  # several processes cannot all ask
    if alone and sys.stdin.isatty() and sys.stderr.isatty() and not quiet:
        return path if click.confirm(f"{words} Continue it?", default=True, err=True) else None
    if not quiet:
        terminal.status(f"{words} To continue it, add --resume auto.")
    return None


def _report(run: Run, *, as_json: bool, quiet: bool) -> None:
    grid = run.last_grid()
    if as_json:
        metrics: dict[str, Any] = next(reversed(run.metrics()), {})
        terminal.dump({"run": str(run.path), "grid": str(grid) if grid else None, "metrics": metrics})
        return
    if quiet:
        terminal.say(str(run.path))
        return
    where: Path = run.path
    whole = f"{quoted(str(where))}{local_words(loaded())}"
    terminal.say(f"Run      {where}")
    if grid is not None:
        terminal.say(f"Samples  {grid}")
    terminal.say(f"Next     ganzoo sample {whole}")
    terminal.say(f"         ganzoo eval {whole}")
    terminal.say(f"         ganzoo export {whole}")
