"""Options such as ``--gen.width`` made from the configuration classes of the chosen components."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import click

from ganzoo.cli.shared import ComponentName
from ganzoo.config import BUILTIN, DEFAULTS, FAN_OUT, SECTIONS, SHORTHAND, STATIC, RunConfig
from ganzoo.errors import UsageError
from ganzoo.options import Option, options_of, show

Given = Callable[[str, Any], None]
"""Called with a path and the text that the user gave for it."""

_FIRST: Final = ("run", "optim", "gen_optim", "disc_optim")
_TITLES: Final = {"run": "Run", "optim": "Optimisers", "gen_optim": "Optimisers", "disc_optim": "Optimisers"}
_ALSO: Final = {path: "--" + word.replace("_", "-") for word, path in SHORTHAND.items()}


class Sectioned(click.Option):
    """An option that stands under a heading of the help page."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class Value(click.ParamType):  # type: ignore[type-arg]  # generic in new click only
    """Text that an :class:`~ganzoo.options.Option` accepts. It stays text, which the configuration parses again."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.bare = dataclasses.replace(option, min=None, max=None, above=None).type_name
        self.bounds = option.type_name.removeprefix(self.bare).strip()
        self.name = self.bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value != "auto":
            try:
                self.option.parse(value, textual=True)
            except UsageError as err:
                self.fail(f"{err}.", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        words = self.bare.split("|") if "|" in self.bare else []
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def flag_of(path: str) -> str:
    """How a path is written on the command line: ``gen.latent_dim`` is ``--gen.latent-dim``."""
    return "--" + path.removeprefix("run.").replace("_", "-")


def component_options(sections: tuple[str, ...], config: RunConfig | None) -> Iterator[click.Option]:
    """``--gen``, ``--disc`` and so on; with a configuration, their help tells what is chosen unless they are given."""
    for section in sections:
        kind = SECTIONS[section]
        text = f"{kind.capitalize()}; see 'ganzoo list {kind}'"
        if section == "reg":
            text += " (may be repeated; 'none' for none at all)"
        if section == "data":
            text += ", or a folder, a .zip or an .npz file"
        yield Sectioned(
            [f"--{section}", section],
            type=ComponentName(kind),
            metavar="NAME",
            multiple=section == "reg",
            expose_value=False,
            help=f"{text}. {_chosen(section, config)}",
            section="Components",
        )


@dataclasses.dataclass(frozen=True)
class Described:
    """A setting as help pages need it: its path, its option, its help, and the heading that it stands under."""

    path: str
    option: Option
    help: str
    title: str

    @property
    def flags(self) -> list[str]:
        """How it is written, the usual way first."""
        return [flag_of(self.path), *filter(None, [_ALSO.get(self.path)])]

    @property
    def parameter(self) -> str:
        """Its name as a parameter of click, another for every path: ``gen.optim_lr`` is not ``gen_optim.lr``."""
        return re.sub(r"[^A-Za-z0-9]", lambda found: f"_{ord(found[0]):x}_", self.path)


def described(config: RunConfig, sections: tuple[str, ...]) -> Iterator[Described]:
    """The settings of what ``config`` chose."""
    settings = [
        (section, _title(section, choice.component.name if choice else ""), type(options))
        for section, choice, options in config.sections()
        if section.partition(".")[0] in sections
    ]
    settings += [(name, _TITLES[name], STATIC[both[0]]) for name, both in FAN_OUT.items() if name in sections]
    settings.sort(key=lambda setting: _FIRST.index(setting[0]) if setting[0] in _FIRST else len(_FIRST))
    values = config.flat()
    for section, title, schema in settings:
        for option in options_of(schema):
            path = f"{section}.{option.name}"
            if section in FAN_OUT:
                hint = " Sets both sides."
            else:
                hint = f" {_bracket(option, values[path], config.origins.get(path, BUILTIN))}"
            yield Described(path, option, option.help + hint, title)


def typed_options(config: RunConfig, given: Given, sections: tuple[str, ...]) -> Iterator[click.Option]:
    """One option for each setting of what ``config`` chose; ``given`` hears of those that the user sets."""
    for setting in described(config, sections):
        yield _typed(setting, given)


def write_sections(params: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """The options of a help page, each under its heading."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if record is not None:
            sections.setdefault(getattr(param, "section", "Options"), []).append(record)
    for title, records in sections.items():
        with formatter.section(title):
            formatter.write_dl(records)


def option_for(path: str, option: Option, title: str, given: Given) -> click.Option:
    """One option by itself, with its default in its help; ``given`` hears of the option's name and the user's text."""

    def keep(_path: str, text: Any) -> None:
        given(option.name, text)

    return _typed(Described(path, option, f"{option.help} {_bracket(option, option.default, BUILTIN)}", title), keep)


def _typed(setting: Described, given: Given) -> click.Option:
    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        assert param.name is not None
        if ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE:
            given(setting.path, show(value))

    name, section, text = setting.parameter, setting.title, setting.help
    if setting.option.type is bool:
        flags = [f"{each}/--no-{each.removeprefix('--')}" for each in setting.flags]
        return Sectioned([*flags, name], default=None, expose_value=False, callback=keep, help=text, section=section)
    value = Value(setting.option)
    return Sectioned(
        [*setting.flags, name],
        type=value,
        metavar=value.bare if "|" in value.bare else value.bare.upper(),
        expose_value=False,
        callback=keep,
        help=text,
        section=section,
    )


def _title(section: str, name: str) -> str:
    if section in _TITLES:
        return _TITLES[section]
    return f"{SECTIONS[section.partition('.')[0]].capitalize()} {name}"


def _bracket(option: Option, value: Any, origin: str) -> str:
    bounds = "" if option.type is bool else Value(option).bounds
    default = f"default: {show(value) or 'empty'}" + ("" if origin == BUILTIN else f" ({origin})")
    return f"[{'; '.join(filter(None, (bounds, default)))}]"


def _chosen(section: str, config: RunConfig | None) -> str:
    if config is None:
        return f"[default: {show(DEFAULTS[section]) or 'none'}]"
    origin = config.origins[section]
    names = [reg.name for reg in config.regs] if section == "reg" else [getattr(config, section).name]
    return f"[{'default' if origin == BUILTIN else origin}: {', '.join(names) or 'none'}]"
