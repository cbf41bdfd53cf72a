"""Options that take several values, for commands that run every combination of them.

The grammar: values are separated by commas, and an option may be repeated. A value that holds commas itself, such as
``--optim.betas 0.5,0.999``, is one value, so that such options are repeated. What stands together in one run, the
regularizers, is joined by ``+``. A switch and its ``--no-`` twin are two values.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

import click

from ganzoo.cli.choosing import Choosing, ChoosingCommand, settings_said
from ganzoo.cli.shared import ComponentName
from ganzoo.cli.typed import Described, Sectioned, Value, component_options, described
from ganzoo.config import SECTIONS, Layer, RunConfig, read_file
from ganzoo.errors import UsageError
from ganzoo.options import Option, options_of
from ganzoo.plugins import add_local
from ganzoo.registry import registry
from ganzoo.sweep.grid import Axis, Grid
from ganzoo.training.places import with_data

NOT_SWEPT: Final = ("run.out", "run.name")
"""Settings that a sweep gives to its runs itself."""
LAUNCHER: Final = "local"
SOURCES: Final = ("preset", "config")
_TOGETHER: Final = "'none' for none at all; r1+r2 for two in one run"


@dataclass
class Axes(Choosing):
    """What the command line of a sweep asks for.

    Attributes:
        texts: setting, or one of :data:`SOURCES` -> its values, as they were given.
        configs: what each combination of components resolves to, before any other setting.
        launcher: name of the launcher; its options that were given.
    """

    texts: dict[str, list[str]] = field(default_factory=dict)
    configs: list[RunConfig] = field(default_factory=list)
    launcher: str = LAUNCHER
    launching: dict[str, str] = field(default_factory=dict)

    def grid(self) -> Grid:
        """The grid that was given."""
        return grid_of(self.texts)


def grid_of(texts: dict[str, list[str]]) -> Grid:
    """The grid of settings and sources.

    Raises:
        UsageError: a preset, file or folder that there is not.
    """
    axes = tuple(_axis(path, tuple(values)) for path, values in texts.items() if path not in SOURCES)
    presets = [registry().preset(name) for name in texts.get("preset", ())]
    layers = [
        [Layer(f"preset {preset.name}", preset.settings, optional=True) for preset in presets],
        [with_data(read_file(Path(file))) for file in texts.get("config", ())],
    ]
    return Grid(axes, tuple(product(*filter(None, layers))))


def _axis(path: str, texts: tuple[str, ...]) -> Axis:
    if path == "reg":
        return Axis(path, texts, tuple(settings_said("reg", text.split("+")) for text in texts))
    if path in SECTIONS:
        return Axis(path, texts, tuple(settings_said(path, text) for text in texts))
    return Axis(path, texts, tuple({path: text} for text in texts))


def split(text: str, *, whole: bool = False) -> list[str]:
    """The values in one text: all of it if it is ``whole``, else what stands between commas.

    Raises:
        UsageError: nothing stands before, between or after the commas; half a sentence.
    """
    if whole or "," not in text:
        return [text]
    values = [part.strip() for part in text.split(",")]
    if not all(values):
        raise UsageError(f"has an empty value in {text!r}")
    return values


def holds_commas(option: Option) -> bool:
    """Whether one value of an option is a list itself."""
    kinds = (option.type, *typing.get_args(option.type))
    return any(typing.get_origin(kind) is tuple for kind in kinds)


class Values(click.ParamType):  # type: ignore[type-arg]  # generic in new click only
    """Several values, each of which at least one of some options accepts; they stay text."""

    name = "values"

    def __init__(self, options: Sequence[Option]) -> None:
        self.options = options
        self.whole = holds_commas(options[0])
        self.name = Value(options[0]).name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = split(value, whole=self.whole)
        except UsageError as err:
            self.fail(f"{err}.", param, ctx)
        for text in found:
            self._check(text, param, ctx)
        return found

    def _check(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> None:
        wrong = None
        for option in self.options:
            try:
                if text != "auto":
                    option.parse(text, textual=True)
            except UsageError as err:
                wrong = wrong or err
            else:
                return
        self.fail(f"{wrong}.", param, ctx)


class SweepCommand(ChoosingCommand):
    """A command whose options take lists; puts :class:`Axes` in ``ctx.obj``."""

    choosing = Axes

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        axes = ctx.obj if isinstance(ctx.obj, Axes) else Axes()
        params: list[click.Parameter] = list(_repeated(component_options(self.components, axes.config)))
        params += _listed(axes, self.settings)
        params += _launcher_options(axes)
        return params + click.Command.get_params(self, ctx)

    def _choose(self, into: Choosing, args: list[str]) -> None:
        assert isinstance(into, Axes)
        several = _repeated([*component_options(self.components, None), click.Option(["--cond"])])
        found = self._first_pass(args, [*several, click.Option(["--launcher"])])
        add_local(found.get("plugin") or ())
        into.launcher = found.get("launcher") or LAUNCHER
        for path in (*SOURCES, *SECTIONS, "cond"):
            texts = list(dict.fromkeys(value for text in found.get(path) or () for value in _split(path, text)))
            if texts:
                into.texts["run.cond" if path == "cond" else path] = texts
        into.configs = [config for _, _, config in into.grid().choices()]
        into.config = into.configs[0]


def _split(path: str, text: str) -> list[str]:
    try:
        return split(text)
    except UsageError as err:
        raise UsageError(f"--{path} {err}.") from None


def _repeated(options: Iterable[click.Option]) -> Iterator[click.Option]:
    for option in options:
        option.multiple = True
        option.default = None
        option.help = (option.help or "").replace("may be repeated; 'none' for none at all", _TOGETHER)
        yield option


def _listed(axes: Axes, sections: tuple[str, ...]) -> Iterator[click.Option]:
    """One option for each setting of any of the configurations."""
    settings: dict[str, list[Described]] = {}
    for config in axes.configs:
        for setting in described(config, sections):
            same = settings.setdefault(setting.path, [])
            if setting.option not in [known.option for known in same]:
                same.append(setting)
    for path, same in settings.items():
        if path not in NOT_SWEPT:
            yield from _typed(axes, same)


def _typed(axes: Axes, same: Sequence[Described]) -> Iterator[click.Option]:
    first = same[0]

    def keep(texts: list[str]) -> None:
        known = axes.texts.setdefault(first.path, [])
        known += [text for text in texts if text not in known]

    def keep_values(_ctx: click.Context, _param: click.Parameter, value: Any) -> None:
        if value:
            keep([text for texts in value for text in texts])

    def keep_switch(_ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value:
            assert param.name is not None
            keep(["false" if param.name.startswith("no_") else "true"])

    common: dict[str, Any] = {"expose_value": False, "section": first.title}
    if all(each.option.type is bool for each in same):
        no_flags = [f"--no-{flag.removeprefix('--')}" for flag in first.flags]
        common |= {"is_flag": True, "default": False, "callback": keep_switch}
        yield Sectioned([*first.flags, first.parameter], help=first.help, **common)
        yield Sectioned([*no_flags, f"no_{first.parameter}"], help="The opposite.", **common)
        return
    values = Values([each.option for each in same])
    words = Value(first.option)
    metavar = words.bare if "|" in words.bare else words.bare.upper()
    yield Sectioned(
        [*first.flags, first.parameter],
        type=values,
        metavar=metavar if values.whole else f"{metavar},...",
        multiple=True,
        callback=keep_values,
        help=first.help,
        **common,
    )


def _launcher_options(axes: Axes) -> Iterator[click.Option]:
    """``--launcher`` and the options of the one that is chosen."""
    yield Sectioned(
        ["--launcher", "launcher"],
        type=ComponentName("launcher"),
        metavar="NAME",
        default=LAUNCHER,
        expose_value=False,
        section="Launcher",
        help=f"Where the runs are computed; see 'ganzoo list launchers'. [default: {LAUNCHER}]",
    )

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        assert param.name is not None
        if ctx.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE:
            axes.launching[param.name.removeprefix("launcher_")] = value

    entry = registry().get("launcher", axes.launcher)
    for option in options_of(entry.component.config):
        also = ["--jobs"] if option.name == "jobs" else []
        value = Value(option)
        yield Sectioned(
            [f"--launcher.{option.name.replace('_', '-')}", *also, f"launcher_{option.name}"],
            type=value,
            metavar=value.bare.upper(),
            expose_value=False,
            callback=keep,
            section="Launcher",
            help=f"{option.help} [default: {option.default if option.default != '' else 'empty'}]",
        )
