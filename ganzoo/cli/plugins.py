"""``ganzoo plugins``: where components come from, and a package to start one's own from."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click

from ganzoo.api import Component
from ganzoo.cli import Group, terminal
from ganzoo.cli.loading import hearing_signals
from ganzoo.cli.shared import json_option, plugin_option
from ganzoo.config import FAN_OUT, SECTIONS, SHORTHAND, STATIC
from ganzoo.errors import did_you_mean, quoted
from ganzoo.hooks import REGISTRATION
from ganzoo.options import options_of
from ganzoo.plugins import Plugin, loaded
from ganzoo.settings import RunSettings


@click.group("plugins", cls=Group, invoke_without_command=True, subcommand_metavar="[new NAME]")
@click.option(
    "--check", is_flag=True, default=False, help="Import every component too, and exit with 1 if anything is broken."
)
@plugin_option
@json_option
@click.pass_context
def command(ctx: click.Context, check: bool, as_json: bool) -> None:
    """Show which plugins there are, and which are broken; or write one.

    A plugin is a Python package, and its code runs with your rights: install only what you trust. To leave plugins out,
    set GANZOO_DISABLE_PLUGINS to their names (or * for all that do not ship with ganzoo), or say ganzoo --no-plugins.
    """
    if ctx.invoked_subcommand is None:
        _show(check, as_json)
    elif check or as_json:
        raise click.UsageError(f"--check and --json do not go with {ctx.invoked_subcommand!r}.", ctx)


@command.command("new")
@click.argument("name")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder to write ganzoo-NAME into; this one unless given.",
)
def new(name: str, parent: Path) -> None:
    """Write a package to start from: a generator and a loss called NAME, their options, tests and README.

    It installs, passes its tests, and trains as it is.
    """
    from ganzoo.cli.skeleton import write_package

    folder = write_package(name, parent)
    terminal.say(str(folder))
    terminal.status(
        f"Next: cd {quoted(str(folder))}, then pip install -e . pytest, then pytest; its README tells more."
    )


def _show(check: bool, as_json: bool) -> None:
    taken = _taken_twice(loaded()) if check else ()
    with hearing_signals() if check else nullcontext():
        found = [_checked(plugin, taken) if check else plugin for plugin in loaded()]
    if as_json:
        terminal.dump(
            [
                {
                    "name": plugin.name,
                    "distribution": plugin.dist,
                    "version": plugin.version,
                    "status": plugin.status,
                    "reason": plugin.reason,
                    "components": _names(plugin),
                    "hooks": _observed(plugin),
                }
                for plugin in found
            ]
        )
    else:
        brings = [[*_names(plugin), *(f"hook/{hook}" for hook in _observed(plugin))] for plugin in found]
        rows = [
            (p.name, p.dist, p.version, p.status, p.reason or ", ".join(names))
            for p, names in zip(found, brings, strict=True)
        ]
        columns = ("plugin", "distribution", "version", "status", "what it brings, or why not")
        terminal.table(columns, rows, wrap=columns[-1:])
    if check:
        for doubt in (doubt for plugin in found for doubt in _doubts(plugin)):
            terminal.status(f"Warning: {doubt}")
    broken = [plugin for plugin in found if plugin.status == "broken"]
    for plugin in broken:
        terminal.status(_next_step(plugin))
    if check:
        terminal.status(_checked_what(found))
    if check and broken:
        terminal.status(f"{len(broken)} of {len(found)} plugins {'is' if len(broken) == 1 else 'are'} broken.")
        raise click.exceptions.Exit(1)


def _checked_what(found: Collection[Plugin]) -> str:
    """What was looked at, for those who wonder what silence means."""
    active = [plugin for plugin in found if plugin.status == "active"]
    return (
        f"Checked {len(found)} plugins, {len(active)} of which work: hooks and records, whether the classes of "
        f"{sum(len(plugin.components) for plugin in found)} components import, whether an id is brought twice, and "
        "whether the settings of recipes and presets exist. Training is tried by the checks of ganzoo.testing."
    )


def _next_step(plugin: Plugin) -> str:
    """What to do about a broken plugin: one without a version was named with -p, or half uninstalled."""
    whose = f" of {plugin.dist} {plugin.version}" if plugin.version else ""
    mend = f"update it (pip install -U {plugin.dist}), tell its author" if whose else f"edit {plugin.source}"
    return (
        f"The plugin {plugin.name}{whose} is broken: {mend}, or leave it out with "
        f"GANZOO_DISABLE_PLUGINS={plugin.name}; GANZOO_STRICT_PLUGINS=1 GANZOO_DEBUG=1 shows where it fails."
    )


def _names(plugin: Plugin) -> list[str]:
    parts = [f"{part.kind}/{part.name}" for part in plugin.components]
    return parts + [f"preset/{preset.name}" for preset in plugin.presets]


def _observed(plugin: Plugin) -> list[str]:
    return [hook for hook in plugin.hooks if hook not in REGISTRATION]


def _ids(plugin: Plugin) -> list[str]:
    return [f"{part.kind} {plugin.namespace}/{part.name}" for part in plugin.components]


def _taken_twice(plugins: Collection[Plugin]) -> Collection[str]:
    """Ids that nobody can choose, because two components have them."""
    counted = Counter(name for plugin in plugins for name in _ids(plugin))
    return [name for name, count in counted.items() if count > 1]


def _checked(plugin: Plugin, taken: Collection[str]) -> Plugin:
    """The plugin, called broken if one of its classes does not import or one of its ids is another's too."""
    reasons = [reason for part in plugin.components if (reason := _import_error(part))]
    reasons += [f"{name} is brought twice, so nobody can choose it" for name in sorted({*_ids(plugin)} & {*taken})]
    return replace(plugin, status="broken", reason="; ".join(reasons)) if reasons else plugin


def _doubts(plugin: Plugin) -> Iterator[str]:
    """Settings of its recipes and presets that nothing has; such a setting is passed over, so nobody would notice.

    Only what belongs to the run and the optimisers can be judged: a component may be another plugin's.
    """
    heads = {**STATIC, **{head: STATIC[targets[0]] for head, targets in FAN_OUT.items()}}
    paths = {f"{head}.{opt.name}" for head, schema in heads.items() for opt in options_of(schema)}
    bare = {*SECTIONS, *SHORTHAND, *(opt.name for opt in options_of(RunSettings))}
    records = [(f"the recipe of {part.kind} {part.name}", part.recipe) for part in plugin.components]
    records += [(f"the preset {preset.name}", preset.settings) for preset in plugin.presets]
    for where, settings in records:
        for path in settings:
            head, dot, _ = path.rpartition(".")
            known = paths if head in heads else bare if not dot else None
            if known is not None and path not in known:
                hint = did_you_mean(path, known)
                yield f"{where} ({plugin.dist}) sets {path!r}, which does not exist and is passed over.{hint}"


def _import_error(part: Component) -> str:
    module, _, attribute = part.target.partition(":")
    try:
        getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as err:
        return f"{part.kind}/{part.name}: {type(err).__name__}: {' '.join(str(err).split())}"
    return ""
