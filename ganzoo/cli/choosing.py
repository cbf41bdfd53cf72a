"""Commands whose options depend on their options: ``--gen dcgan`` brings ``--gen.width``.

The command line is read twice. The first pass knows only the options that choose components and settings files, and
passes over the rest; what it learns decides which options the second, real pass has.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from ganzoo.cli.shared import PLUGIN_HELP
from ganzoo.cli.typed import Sectioned, component_options, typed_options, write_sections
from ganzoo.config import COMMAND_LINE, SECTIONS, SHORTHAND, Layer, RunConfig, read_file, resolve
from ganzoo.data.naming import data_settings
from ganzoo.errors import GanzooError
from ganzoo.options import options_of
from ganzoo.plugins import add_local
from ganzoo.registry import registry
from ganzoo.training.places import with_data

ARGUMENTS: Final = "ganzoo.arguments"
"""Where a context keeps the command line as it was given."""
_PARAMETERS: Final = "ganzoo.parameters"


@dataclass
class Choosing:
    """What a command line chose.

    Attributes:
        base: the saved configuration of the run that is resumed; shown, but said by nobody on this command line.
        layers: preset and file.
        given: path -> text, of everything that the command line sets.
        config: what the choices resolve to, before any other setting.
    """

    base: list[Layer] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    config: RunConfig | None = None

    def all_layers(self) -> list[Layer]:
        """The preset, the file and the command line."""
        return [*self.layers, Layer(COMMAND_LINE, self.given, textual=True)]

    def resolve(self) -> RunConfig:
        """The configuration that everything together makes."""
        return resolve([*self.base, *self.all_layers()])


class ChoosingCommand(click.Command):
    """A command with typed options for the components that its command line chooses; puts a Choosing in ``ctx.obj``."""

    choosing: type[Choosing] = Choosing

    def __init__(self, *args: Any, components: tuple[str, ...], settings: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.components = components
        self.settings = settings
        self.params.append(
            Sectioned(
                ["-p", "--plugin", "plugin"],
                metavar="MODULE_OR_FILE",
                multiple=True,
                expose_value=False,
                help=PLUGIN_HELP,
                section="Components",
            )
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = self.choosing()
        ctx.meta[ARGUMENTS] = tuple(args)
        try:
            self._choose(ctx.obj, args)
        except GanzooError:
            if not ctx.resilient_parsing:
                raise
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as err:
            sentence = ctx.obj.config and _elsewhere(err.option_name, ctx.obj.config)
            if sentence:
                raise click.UsageError(sentence, ctx) from None
            raise

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        choosing = ctx.obj if isinstance(ctx.obj, Choosing) else Choosing()
        made: tuple[RunConfig | None, list[click.Parameter]] | None = ctx.meta.get(_PARAMETERS)
        if made is None or made[0] is not choosing.config:  # click asks several times, and they are a hundred
            params: list[click.Parameter] = list(component_options(self.components, choosing.config))
            if choosing.config is not None:
                params += typed_options(choosing.config, choosing.given.__setitem__, self.settings)
            made = ctx.meta[_PARAMETERS] = (choosing.config, params)
        return made[1] + super().get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_sections(self.get_params(ctx), ctx, formatter)

    def _first_pass(self, args: list[str], more: Iterable[click.Option]) -> dict[str, Any]:
        """What the command line says to the command's own options and to ``more``; the rest is passed over."""
        params = [copy.copy(param) for param in (*more, *self.params)]
        for param in params:
            param.expose_value = True
        passing = {"ignore_unknown_options": True, "allow_extra_args": True}
        first = click.Command(self.name, params=params, context_settings=passing, add_help_option=False)
        return first.make_context(self.name, list(args), resilient_parsing=True).params

    def _choose(self, into: Choosing, args: list[str]) -> None:
        cond = [click.Option(["--cond"])] if "run" in self.settings else []  # it chooses components too
        found = self._first_pass(args, [*component_options(self.components, None), *cond])
        add_local(found.get("plugin") or ())
        resume = found.get("resume")
        if resume and resume != "auto":
            into.base.append(_saved(Path(resume)))
        if found.get("preset"):
            preset = registry().preset(found["preset"])
            into.layers.append(Layer(f"preset {preset.name}", preset.settings, optional=True))
        if found.get("config"):
            into.layers.append(with_data(read_file(Path(found["config"]))))
        for section in self.components:
            if found.get(section):
                into.given |= settings_said(section, found[section])
        if found.get("cond"):
            into.given["run.cond"] = found["cond"]
        into.config = into.resolve()


def _saved(run: Path) -> Layer:
    from ganzoo.training.run import read_config

    read_config(run)  # says what is wrong with it
    # Of another component that is chosen now, what was saved does not apply.
    return replace(read_file(run / "config.json"), optional=True)


def settings_said(section: str, value: Any) -> dict[str, Any]:
    """The settings that a choice of component stands for."""
    if section == "reg":
        return {"reg": tuple(name for text in value for name in text.split(",") if name != "none")}
    return data_settings(value) if section == "data" else {section: value}


def _elsewhere(flag: str, config: RunConfig) -> str | None:
    """A sentence about an option that exists, but for a component which was not chosen."""
    word = flag.lstrip("-").removeprefix("no-")
    path = SHORTHAND.get(word.replace("-", "_"), "")
    if path:
        flag = flag.removesuffix(word) + path.replace("_", "-")
    section, _, rest = (path.replace("_", "-") or word).partition(".")
    name, _, option = rest.rpartition(".")
    if section not in SECTIONS:
        return None
    if section == "reg":
        if not name or name in {reg.name for reg in config.regs}:
            return None
        registry().get("regularizer", name)
        return f"{flag} sets an option of the regularizer {name!r}, which is not used; add --reg {name}."
    wanted = option.replace("-", "_")
    owners = [e.component.name for e in registry().entries(section) if wanted in {opt.name for opt in e.options}]
    chosen = getattr(config, section).component
    if owners and chosen.name not in owners:
        return f"The {chosen.kind} {chosen.name!r} has no option {flag}; {_one_of(owners)}."
    known = [opt.name.replace("_", "-") for opt in options_of(chosen.config)]
    if not known:
        return f"The {chosen.kind} {chosen.name!r} has no options, so there is no {flag}."
    close = difflib.get_close_matches(option, known)
    flags = [f"--{section}.{name}" for name in close or known]
    return f"No such option '{flag}'. {'Did you mean ' + ' or '.join(flags) + '?' if close else _there_is(flags)}"


def _there_is(flags: list[str]) -> str:
    return f"There is {', '.join(flags)}."


def _one_of(owners: Iterable[str]) -> str:
    names = sorted(set(owners))
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} it"


def choosing_of(ctx: click.Context) -> Choosing:
    """What the command line of this context chose."""
    assert isinstance(ctx.obj, Choosing)
    return ctx.obj


choosing_command: Final = partial(click.command, cls=ChoosingCommand)
