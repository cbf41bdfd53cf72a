"""A run's configuration: one schema, several layers, and where each value came from. Free of torch.

Every setting has a path: ``gen`` names the generator, ``gen.width`` is its option, ``gen_optim.lr`` an optimiser's,
``run.steps`` the run's own. Layers are flat mappings from path to value; the last layer that says something wins:
component defaults < recipes (generator < discriminator < trainer < data < loss < regularizers) < preset < file <
command line. The value ``auto`` says nothing, so that the layer below decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ganzoo import options
from ganzoo.api import CONDITIONAL, Choice, Plan, Spec
from ganzoo.errors import UsageError, did_you_mean
from ganzoo.labels import label_rules, users_of_labels
from ganzoo.options import Option, options_of
from ganzoo.reading import read_table, settings_in
from ganzoo.registry import Registry, registry
from ganzoo.settings import OptimConfig, RunSettings, joint_batch

SECTIONS: Final = {
    "data": "dataset",
    "gen": "generator",
    "disc": "discriminator",
    "trainer": "trainer",
    "loss": "loss",
    "reg": "regularizer",
}
"""Section of the configuration -> kind of component, in the order in which they are chosen."""
DEFAULTS: Final[Mapping[str, Any]] = {
    "data": "digits",
    "gen": "dcgan",
    "disc": "dcgan",
    "trainer": "alternating",
    "loss": "ns",
    "reg": (),
}
CONDITIONAL_PAIR: Final = {"gen": "cgan", "disc": "cgan"}
"""What ``cond = "on"`` chooses where nothing else names a generator."""
_STRENGTH: Final = ("gen", "disc", "trainer", "data", "loss", "reg")
"""Sections by how much their recipes weigh, the least first."""
BUILTIN: Final = "default"
COMMAND_LINE: Final = "command line"

STATIC: Final[Mapping[str, type[Any]]] = {"gen_optim": OptimConfig, "disc_optim": OptimConfig, "run": RunSettings}
FAN_OUT: Final = {"optim": ("gen_optim", "disc_optim")}
"""Sections that stand for several others: ``optim.lr`` sets both sides'."""
SHORTHAND: Final = {
    "data_root": "data.root",
    **{name: f"data.{name}" for name in ("size", "channels", "fit", "flip", "crop", "on_bad_image")},
}
"""Names that stand for an option of the data set: ``size`` is ``data.size``."""


@dataclass(frozen=True)
class Layer:
    """What one source says.

    Attributes:
        origin: the source in words, shown by ``--dry-run``.
        values: path -> value.
        textual: whether values are text that stands for numbers (a command line).
        optional: whether paths that do not exist are passed over (recipes) or are errors.
    """

    origin: str
    values: Mapping[str, Any]
    textual: bool = False
    optional: bool = False


@dataclass(frozen=True)
class RunConfig:
    """A complete, checked configuration."""

    data: Choice
    gen: Choice
    disc: Choice
    trainer: Choice
    loss: Choice
    regs: tuple[Choice, ...]
    gen_optim: OptimConfig
    disc_optim: OptimConfig
    run: RunSettings
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def sections(self) -> Iterator[tuple[str, Choice | None, Any]]:
        """``(section, component or None, configuration)`` of everything that has options."""
        for name in ("data", "gen", "disc", "trainer", "loss"):
            yield name, getattr(self, name), getattr(self, name).config
        for reg in self.regs:
            yield f"reg.{reg.name}", reg, reg.config
        for name in STATIC:
            yield name, None, getattr(self, name)

    def flat(self, *, live: bool = True) -> dict[str, Any]:
        """Every path with its value; without those that may change when a run is resumed unless ``live``."""
        flat: dict[str, Any] = {}
        for section, choice, config in self.sections():
            if choice is not None and not section.startswith("reg."):
                flat[section] = choice.id
            for opt in options_of(type(config)):
                if live or not opt.live:
                    flat[f"{section}.{opt.name}"] = getattr(config, opt.name)
        flat["reg"] = tuple(reg.id for reg in self.regs)
        return flat

    def to_dict(self) -> dict[str, Any]:
        """The nested form that ``config.json`` holds and ``--config`` reads."""
        nested: dict[str, Any] = {"reg": {}}
        for section, choice, config in self.sections():
            table = {} if choice is None else {"name": choice.id}
            table |= {opt.name: options.jsonable(getattr(config, opt.name)) for opt in options_of(type(config))}
            if section.startswith("reg."):
                nested["reg"][table.pop("name")] = table
            else:
                nested[section] = table
        return nested

    def plan(self, spec: Spec | None = None) -> Plan:
        """The plan that rules look at; ``spec`` is the data set's own unless given. Refuses what ``cond`` cannot do."""
        plan = Plan(spec or self.spec(), self.gen, self.disc, self.loss, self.regs, self.trainer, self.data)
        if self.run.cond == "on" and not plan.has(CONDITIONAL, "gen"):
            offered = ", ".join([*users_of_labels(plan, "gen"), "or --cond off"])
            raise UsageError(f"cond is on, but the generator {self.gen.name} does not use labels: choose {offered}.")
        return dataclasses.replace(plan, rules=label_rules(plan))

    def spec(self) -> Spec:
        """The task, as the data set tells it without importing torch. Refuses what ``cond`` cannot do."""
        assert self.data.component.spec is not None
        spec = self.data.component.spec(self.data.config)
        if self.run.cond == "on" and spec.num_classes is None:
            raise UsageError(
                f"cond is on, but the data set {self.data.name} has no labels: choose labelled data (your own images: "
                "put those of each class into a folder of its own), or --cond off."
            )
        return Spec(spec.shape) if self.run.cond == "off" else spec

    def replace(self, **run: Any) -> RunConfig:
        """The same configuration with other settings of the run itself."""
        return dataclasses.replace(self, run=dataclasses.replace(self.run, **run))


def resolve(layers: Iterable[Layer] = (), *, known: Registry | None = None) -> RunConfig:
    """Make one configuration out of layers, the later over the earlier.

    Raises:
        UsageError: an unknown component, path or option, or a value that does not fit; the sentence names its layer.
    """
    return _Resolver(list(layers), known or registry()).resolve()


class _Resolver:
    def __init__(self, layers: list[Layer], known: Registry) -> None:
        self.registry = known
        self.explicit = _with_conditional_pair([_expand(layer) for layer in layers])
        self.recipes: dict[str, Layer] = {}

    def resolve(self) -> RunConfig:
        chosen = self._choose()
        self.recipes = {key: _aimed(layer, chosen, self.registry) for key, layer in self.recipes.items()}
        self.explicit = [self._relevant(layer, chosen) for layer in self.explicit]
        self._refuse_unknown(chosen)
        origins: dict[str, str] = {}
        built: dict[str, Any] = {}
        for section, entry in chosen.items():
            config = self._fill(section, entry.component.config if entry else STATIC[section], origins)
            built[section] = Choice(entry.id, entry.component, config) if entry else config
        regs = tuple(built.pop(section) for section in list(built) if section.startswith("reg."))
        for section in SECTIONS:
            origins[section] = self._say(section, DEFAULTS[section])[1]
        return RunConfig(**built, regs=regs, origins=origins)

    def _choose(self) -> dict[str, Any]:
        """Which component each section uses; each brings its recipe, which later choices may follow."""
        chosen: dict[str, Any] = {}
        for section, kind in SECTIONS.items():
            names, origin = self._say(section, DEFAULTS[section])
            for name in _names(names, section):
                if not isinstance(name, str):
                    raise UsageError(f"{section} ({origin}) must be a name, not {options.given(name)}.")
                entry = self.registry.get(kind, name, asked_by=origin if origin.startswith("recipe of ") else "")
                part = entry.component
                key = f"reg.{part.name}" if section == "reg" else section
                if key in chosen and chosen[key] is not entry:
                    both = f"{chosen[key].id} and {entry.id}"
                    raise UsageError(f"The regularizers {both} have one name, {key}, for their options: choose one.")
                if key in chosen:
                    raise UsageError(f"The regularizer {part.name!r} is asked for twice.")
                chosen[key] = entry
                self.recipes[key] = _expand(Layer(f"recipe of {kind} {part.name}", part.recipe, optional=True))
        return {**chosen, **dict.fromkeys(STATIC)}

    def _relevant(self, layer: Layer, chosen: Mapping[str, Any]) -> Layer:
        """The layer without options of components that it names and a layer above it replaced by others."""
        gone = set()
        for section in layer.values.keys() & SECTIONS.keys():
            for name in _names(layer.values[section], section):
                if not isinstance(name, str) or name == "auto":
                    continue
                entry = self.registry.get(SECTIONS[section], name)
                head = f"reg.{entry.component.name}" if section == "reg" else section
                if chosen.get(head) != entry:
                    gone.add(head)
        kept = {path: value for path, value in layer.values.items() if path.rpartition(".")[0] not in gone}
        return dataclasses.replace(layer, values=kept)

    def _say(self, path: str, default: Any) -> tuple[Any, str]:
        """The value of a path and its origin."""
        layer = next(self._saying(path), None)
        return (default, BUILTIN) if layer is None else (layer.values[path], layer.origin)

    def _saying(self, path: str) -> Iterator[Layer]:
        """The layers that say something of a path, the one that counts first."""
        recipes = list(self.recipes.values())
        if path not in SECTIONS:
            # What suits a data set goes over what a network's paper says of all data sets. But which component to
            # use is best known to the one chosen last: a conditional generator on the ring wants its own critic.
            recipes = [self.recipes[key] for key in sorted(self.recipes, key=_strength)]
        for layer in reversed([*recipes, *self.explicit]):
            if path in layer.values and layer.values[path] != "auto":
                yield layer

    def _fill(self, section: str, config: type[Any], origins: dict[str, str]) -> Any:
        values = {}
        for opt in options_of(config):
            path = f"{section}.{opt.name}"
            values[opt.name], origins[path] = opt.default, BUILTIN
            for layer in self._saying(path):
                try:
                    values[opt.name] = _parse(opt, layer.values[path], path, layer.origin, textual=layer.textual)
                except UsageError:
                    if layer.optional:  # a recipe's value that this component does not know is passed over, too
                        continue
                    raise
                origins[path] = layer.origin
                break
        return config(**values)

    def _refuse_unknown(self, chosen: Mapping[str, Any]) -> None:
        paths = set(SECTIONS)
        for section, entry in chosen.items():
            config = entry.component.config if entry else STATIC[section]
            paths |= {f"{section}.{opt.name}" for opt in options_of(config)}
        for layer in self.explicit:
            for path in layer.values:
                if not layer.optional and path not in paths:
                    raise UsageError(_unknown(path, layer.origin, paths, chosen))


def _aimed(layer: Layer, chosen: Mapping[str, Any], known: Registry) -> Layer:
    """A recipe's layer where ``gen/dcgan.width``, which speaks of one component alone, counts if that is chosen."""
    values = {}
    for path, value in layer.values.items():
        head, _, option = path.rpartition(".")
        section, slash, name = head.partition("/")
        if not slash:
            values[path] = value
        elif section in SECTIONS.keys() & chosen.keys():
            with suppress(UsageError):  # nothing has that name
                if known.get(SECTIONS[section], name) is chosen[section]:
                    values[f"{section}.{option}"] = value
    return dataclasses.replace(layer, values=values)


def _strength(section: str) -> int:
    return _STRENGTH.index(section.partition(".")[0])


def _unknown(path: str, origin: str, paths: set[str], chosen: Mapping[str, Any]) -> str:
    if path.startswith("reg.") and path.split(".")[1] not in {key.partition(".")[2] for key in chosen}:
        name = path.split(".")[1]
        return f"{path!r} ({origin}) sets an option of a regularizer that is not used; add --reg {name}."
    section, _, name = path.rpartition(".")
    of_section = {known for known in paths if known.rpartition(".")[0] == section} or paths
    entry = chosen.get(section)
    if entry is not None and not options_of(entry.component.config):
        return f"{path!r} ({origin}) is unknown: {entry.component.kind} {entry.component.name} has no options."
    if path.startswith("run.") or "." not in path:
        hint = did_you_mean(path.removeprefix("run."), {p.removeprefix("run.") for p in of_section | paths})
        return f"There is no setting {path.removeprefix('run.')!r} ({origin}).{hint}"
    return f"There is no setting {path!r} ({origin}).{did_you_mean(path, of_section)}"


def _parse(opt: Option, raw: Any, path: str, origin: str, *, textual: bool) -> Any:
    try:
        return opt.parse(raw, textual=textual)
    except UsageError as err:
        raise UsageError(f"{path.removeprefix('run.')} ({origin}) {err}.") from None


def _names(value: Any, section: str) -> tuple[Any, ...]:
    """The names in a value: one, or several regularizers, of which ``none`` and None mean none at all."""
    if section != "reg":
        return (value,)
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else (value,)
    return tuple(name for name in given if name not in (None, "none"))


def _expand(layer: Layer) -> Layer:
    """Shorthands written out: ``steps`` is ``run.steps``, ``optim.lr`` sets both sides' (below what names a side)."""
    run = {opt.name for opt in options_of(RunSettings)}
    given: object = layer.values
    if not isinstance(given, Mapping) or not all(isinstance(path, str) for path in given):
        raise UsageError(f"The settings ({layer.origin}) must be a mapping from path to value.")
    values: dict[str, Any] = {}
    flat = flatten(layer.values, layer.origin)
    for path, value in flat.items():
        section, _, name = path.partition(".")
        for target in FAN_OUT.get(section, ()):
            values.setdefault(f"{target}.{name}", value)
    for path, value in flat.items():
        if path.partition(".")[0] in FAN_OUT:
            continue
        values[f"run.{path}" if path in run else SHORTHAND.get(path, path)] = value
    joint_batch(values, layer.origin, textual=layer.textual)
    return dataclasses.replace(layer, values=values)


def _with_conditional_pair(layers: list[Layer]) -> list[Layer]:
    """Right below the layer that puts ``cond`` on, one that chooses networks which use labels, unless a generator is
    named there or above: then the discriminator is left to that generator's recipe."""
    saying = [at for at, layer in enumerate(layers) if layer.values.get("run.cond", "auto") != "auto"]
    at = saying[-1] if saying else len(layers)
    named = any(layer.values.get("gen", "auto") != "auto" for layer in layers[at:])
    if not saying or named or layers[at].values["run.cond"] != "on":
        return layers
    return [*layers[:at], Layer(f"cond ({layers[at].origin})", CONDITIONAL_PAIR), *layers[at:]]


def flatten(nested: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The flat form of a TOML or JSON configuration; what is flat stays as it is.

    Raises:
        UsageError: a table stands where a value belongs, or the other way round.
    """
    flat: dict[str, Any] = {}
    for section, table in nested.items():
        if not isinstance(table, Mapping) or "." in section:
            flat[section] = table
        elif section == "reg":
            flat["reg"] = tuple(table)
            for name, settings in table.items():
                if not isinstance(settings, Mapping) or not isinstance(name, str):
                    raise UsageError(f"reg.{name} ({origin}) must be a table of options.")
                short = name.rpartition("/")[2]
                flat |= {f"reg.{short}.{key}": value for key, value in settings.items()}
        else:
            flat |= {
                section if key == "name" and section in SECTIONS else f"{section}.{key}": value
                for key, value in table.items()
            }
    return flat


def read_file(path: Path) -> Layer:
    """A configuration file as a layer: TOML, or the ``config.json`` of a run or of an export of one.

    Raises:
        UsageError: it is not there, not readable, or not TOML or JSON; or it holds the settings of no run.
    """
    with suppress(RuntimeError):  # ~name of a user who is not here
        path = path.expanduser()
    try:
        nested = settings_in(read_table(path))
    except FileNotFoundError:
        raise UsageError(f"There is no configuration file {path}.") from None
    except OSError as err:
        raise UsageError(f"The configuration file {path} cannot be read: {err}.") from None
    except ValueError as err:
        raise UsageError(f"{path} {err}.") from None
    return Layer(f"file {path.name}", flatten(nested, path.name))


def changed(old: RunConfig, new: RunConfig) -> list[str]:
    """Paths in which two configurations differ and which may not change when a run is resumed."""
    before, after = old.flat(live=False), new.flat(live=False)
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


__all__ = [
    "DEFAULTS",
    "SECTIONS",
    "Layer",
    "OptimConfig",
    "RunConfig",
    "RunSettings",
    "changed",
    "flatten",
    "read_file",
    "resolve",
]
