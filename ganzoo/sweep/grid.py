"""What a sweep asks for, and the cells that this makes. Free of torch.

An axis is a setting with several values. Components are chosen first; of the other axes those count in a cell that its
components have, so that ``--loss ns,wgan-gp --loss.gp-weight 1,10`` makes three cells and not four.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ganzoo import options
from ganzoo.config import COMMAND_LINE, FAN_OUT, SECTIONS, Layer, RunConfig, resolve
from ganzoo.errors import GanzooError, UsageError
from ganzoo.files import json_digest
from ganzoo.training.places import located, paths_of_data

CHOOSING: Final = (*SECTIONS, "run.cond")
"""Settings on which it depends which other settings there are."""
_LONGEST: Final = 80


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes in turn.

    Attributes:
        path: of the setting.
        texts: the values as they were given.
        settings: what each of them sets: mostly ``{path: text}``; a folder for ``data`` sets its path, too.
    """

    path: str
    texts: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Grid:
    """What a sweep asks for.

    Attributes:
        axes: every setting that was given, with one value or more.
        sources: presets and files, of which each cell has one combination, in layers.
    """

    axes: tuple[Axis, ...]
    sources: tuple[tuple[Layer, ...], ...] = ((),)

    def choices(self) -> Iterator[tuple[tuple[Layer, ...], dict[str, Any], RunConfig]]:
        """Every combination of components: layers, settings, and what these resolve to.

        Raises:
            UsageError: an unknown component, or a file that does not fit.
        """
        choosing = [axis.settings for axis in self.axes if axis.path in CHOOSING]
        for layers, *picked in itertools.product(self.sources, *choosing):
            settings = _merged(picked)
            yield layers, settings, resolve([*layers, Layer(COMMAND_LINE, settings, textual=True)])


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: of its directory: what it is in short words, and the hash of its settings.
        config: the settings, with the paths of the data in full; None if they do not fit together.
        settings: what the command line says in this cell.
        sentences: why it is refused; empty if it is not.
    """

    name: str
    config: RunConfig | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether it is not run."""
        return bool(self.sentences)


@dataclass(frozen=True)
class Place:
    """What names of cells depend on beside their settings: the same data have one name however their path is written.

    Attributes:
        start: the folder in which the sweep was begun: data in it are named as they are seen from there, so that a
            project has the same names wherever it lies.
    """

    start: Path

    def name(self, config: RunConfig, swept: set[str]) -> str:
        """The name of a cell whose paths of data are in full."""
        near = {
            name: path.relative_to(self.start)
            for name, path in paths_of_data(config).items()
            if path.is_relative_to(self.start)
        }
        seen = replace(config, data=replace(config.data, config=replace(config.data.config, **near)))
        return f"{_words(seen)}-{digest(seen, swept)}"


def cells(grid: Grid, *, allow_incompatible: bool = False, place: Place | None = None) -> list[Cell]:
    """All cells of a grid, in the order of its axes; those that come out equal once.

    Args:
        grid: what is asked for.
        allow_incompatible: whether cells that only rules refuse are run all the same.
        place: where the sweep was begun; here, unless given.

    Raises:
        UsageError: an unknown component, or a setting that no cell has.
    """
    place = place or Place(Path.cwd())
    swept = {axis.path for axis in grid.axes if len(axis.texts) > 1}
    found: dict[str, Cell] = {}
    idle = {axis.path for axis in grid.axes if axis.path not in CHOOSING}
    for layers, chosen, base in grid.choices():
        known = base.flat().keys()
        rest = [axis for axis in grid.axes if axis.path not in CHOOSING and _applies(axis.path, known)]
        idle -= {axis.path for axis in rest}
        for picked in itertools.product(*(axis.settings for axis in rest)):
            settings = chosen | _merged(picked)
            cell = _cell(layers, settings, swept, place, allow_incompatible=allow_incompatible)
            found.setdefault(cell.name, cell)
    if idle:
        raise UsageError(f"No run of this sweep has the setting {min(idle)!r}: leave it out, or mend its name.")
    return list(found.values())


def _cell(
    layers: Sequence[Layer], settings: dict[str, Any], swept: set[str], place: Place, *, allow_incompatible: bool
) -> Cell:
    try:
        config = located(resolve([*layers, Layer(COMMAND_LINE, settings, textual=True)]))
    except UsageError as err:
        words = "-".join(_word(value) for value in settings.values())
        return Cell(f"{words[:_LONGEST]}-{json_digest(settings)[:8]}", None, settings, (str(err),))
    name = place.name(config, swept)
    try:
        broken = tuple(config.plan().broken_rules())
    except GanzooError as err:
        return Cell(name, config, settings, (str(err),))
    return Cell(name, config, settings, () if allow_incompatible else broken)


def digest(config: RunConfig, swept: set[str] | None = None) -> str:
    """Eight hexadecimal digits of all settings that results depend on, and of the live ones that are ``swept``."""
    found = config.flat(live=False) | {path: value for path, value in config.flat().items() if path in (swept or ())}
    return json_digest({path: options.jsonable(value) for path, value in found.items()})[:8]


def shard(every: Sequence[Cell], part: int, parts: int) -> list[Cell]:
    """The cells of part ``part`` of ``parts``, counted from 1; all parts together are all cells, each once."""
    return list(every[part - 1 :: parts])


def _merged(picked: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {path: value for settings in picked for path, value in settings.items()}


def _applies(path: str, known: Any) -> bool:
    section, _, name = path.partition(".")
    return any(f"{target}.{name}" in known for target in FAN_OUT.get(section, (section,)))


def _words(config: RunConfig) -> str:
    """What a run is, from its settings alone, so that a cell has one name in whatever sweep it stands."""
    parts = [config.data, config.gen, config.loss, *config.regs]
    if config.disc.name != config.gen.name:
        parts.insert(2, config.disc)
    if config.trainer.name != "alternating":
        parts.append(config.trainer)
    return "-".join(part.name for part in parts)[:_LONGEST] + f"-s{config.run.seed}"


def _word(value: Any) -> str:
    return re.sub(r"[^\w.+]+", "-", options.show(value)).strip("-") or "none"
