"""The command line: ``ganzoo COMMAND``, one module a command, each imported only when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

import ganzoo
from ganzoo.errors import GanzooError, did_you_mean, printable

COMMANDS: Final = {
    "run": ("ganzoo.cli.run", "Train a GAN."),
    "sweep": ("ganzoo.cli.sweep", "Train every combination of some settings, and compare the runs."),
    "compare": ("ganzoo.cli.compare", "Compare runs: their scores, settings, speed and size."),
    "sample": ("ganzoo.cli.sample", "Draw samples from a run or an export."),
    "export": ("ganzoo.cli.export", "Write a folder that anyone can sample from."),
    "eval": ("ganzoo.cli.eval", "Score a run, an export, or images from anything else."),
    "list": ("ganzoo.cli.list", "List components and presets."),
    "show": ("ganzoo.cli.show", "Show all about one component: its options, paper and recipe."),
    "plugins": ("ganzoo.cli.plugins", "Show which plugins there are, and which are broken; or write one."),
    "data": ("ganzoo.cli.data", "Prepare copies of images that open at once, and check them."),
    "doctor": ("ganzoo.cli.doctor", "Check this machine: versions, devices, plugins and arithmetic."),
}
"""Name -> (module that holds its ``command``, help in one line). The help stands here so that it costs no import."""
_LAST_STANDARD: Final = 2
"""The number of the last standard stream."""
_WRITERS: Final = (__name__, "click.utils", "rich.console")
"""The modules that write to it, or flush it."""


class Group(click.Group):
    """A group that knows close names."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            whose = f" of {ctx.command_path!r}" if ctx.parent else ""
            raise click.UsageError(f"There is no command {args[0]!r}{whose}.{did_you_mean(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group that imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # once ganzoo.cli.list is imported, "list" is that module here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


@click.command(cls=LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(ganzoo.__version__, message="%(prog)s %(version)s")
@click.option("--no-plugins", is_flag=True, default=False, help="Leave out all plugins that do not ship with ganzoo.")
@click.pass_context
def cli(ctx: click.Context, no_plugins: bool) -> None:
    """Train, sample and compare GANs: any generator with any discriminator, loss and trainer.

    Try this first: ganzoo run
    """
    if no_plugins:
        os.environ["GANZOO_DISABLE_PLUGINS"] = ",".join(filter(None, (os.environ.get("GANZOO_DISABLE_PLUGINS"), "*")))
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        return
    from ganzoo.cli import terminal

    ctx.with_resource(terminal.log_to(terminal.remark))


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; what goes wrong is one sentence on standard error."""
    _have_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = cli.main(args, prog_name="ganzoo", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()  # whoever read our output has enough of it
        return 1
    except (Exception, KeyboardInterrupt) as err:
        return _report(_of_output(err) or err)
    return code if isinstance(code, int) else 0


def _have_streams() -> None:
    """Give a process whose standard streams are closed, such as a daemon, some that lead nowhere.

    Their numbers are taken as well: else the next file that is opened would have one, and whatever a library or another
    program prints to it would go into that file.
    """
    missing = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    if not missing:
        return
    while (number := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(number, True)  # so that other programs have it too
    os.close(number)
    for name in missing:
        nowhere = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115  # to the end
        setattr(sys, name, nowhere)


def _of_output(err: BaseException) -> GanzooError | None:
    """What to say if standard output cannot be written to, as where its disk is full; None if it is something else."""
    trace = err.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = trace.tb_frame.f_globals.get("__name__") if trace is not None else None
    if not isinstance(err, OSError) or err.filename is not None or where not in _WRITERS:
        return None
    _drop_output()
    return GanzooError(f"Standard output cannot be written to ({err.strerror or err}); send it somewhere else.")


def _drop_output() -> None:
    """Let the rest of the output lead nowhere: Python flushes once more at exit, which must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(err: BaseException) -> int:
    """Say what went wrong and return the exit code that stands for it."""
    from ganzoo.cli import terminal

    terminal.trace(err)
    if isinstance(err, (click.Abort, KeyboardInterrupt)):
        click.echo("Interrupted.", err=True)
        return 130
    if isinstance(err, click.ClickException):
        click.echo(f"Error: {printable(err.format_message())}", err=True)
        if isinstance(err, click.UsageError) and err.ctx is not None:
            click.echo(f"Try '{err.ctx.command_path} --help'.", err=True)
        return err.exit_code
    terminal.status(f"Error: {terminal.sentence(err)}")
    return err.exit_code if isinstance(err, GanzooError) else 1
