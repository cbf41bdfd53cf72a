"""Where the data of a run are, so that all who look at it mean the same. Free of torch."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ganzoo.config import Layer, RunConfig, flatten
from ganzoo.data.naming import data_settings
from ganzoo.errors import UsageError, printable
from ganzoo.options import options_of
from ganzoo.reading import is_unicode
from ganzoo.registry import registry

_ID: Final = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[\w-]+")
"""What may be the name of a component, with that of its plugin."""


def with_data(layer: Layer) -> Layer:
    """The layer with the data set that a path in it stands for: ``data = "./photos"`` is what ``--data ./photos`` is.

    Raises:
        UsageError: there is no such folder or file, or one that holds no data set.
    """
    given: object = layer.values
    if not isinstance(given, Mapping) or not all(isinstance(path, str) for path in given):
        return layer  # who resolves it says what is wrong
    values = flatten(layer.values, layer.origin)
    data = values.get("data")
    if "data.path" in values or not _may_be_path(data):
        return layer
    if isinstance(data, str):
        with suppress(UsageError):  # nothing has that name
            registry().get("dataset", data)
            return layer
    return dataclasses.replace(layer, values={**values, **data_settings(str(data), "data")})


def _may_be_path(value: object) -> bool:
    """Whether it is a path, or text that is one: it looks like no name, or is there."""
    try:
        return isinstance(value, Path) or (
            isinstance(value, str) and (_ID.fullmatch(value) is None or Path(value).exists())
        )
    except (OSError, ValueError):  # no path that this system takes
        return False


def located(config: RunConfig) -> RunConfig:
    """The same with the paths of the data in full, so that a run is the same one from whatever folder it is seen.

    Raises:
        UsageError: a setting is no Unicode, as names of files may be: what is trained with it could never be read.
    """
    full = {name: in_full(path) for name, path in paths_of_data(config).items()}
    if full != paths_of_data(config):
        choice = dataclasses.replace(config.data, config=dataclasses.replace(config.data.config, **full))
        config = dataclasses.replace(config, data=choice)
    for path, value in config.flat().items():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, (str, Path)):
                refuse_bytes(each, path.removeprefix("run."))
    return config


def paths_of_data(config: RunConfig) -> dict[str, Path]:
    """The options of the data that are paths, by name."""
    data = config.data.config
    paths = {opt.name: getattr(data, opt.name) for opt in options_of(type(data))}
    return {name: path for name, path in paths.items() if isinstance(path, Path)}


def refuse_bytes(value: str | Path, what: str) -> None:
    """Refuse text or a path that is no Unicode, which no JSON and no other system could give back.

    Raises:
        UsageError: it is none; ``what`` names it.
    """
    if not is_unicode(value):
        raise UsageError(f"{what} must be Unicode, not {printable(str(value))}: give it, or its folder, another name.")


def in_full(path: Path) -> Path:
    """The path from the root of the file system."""
    if str(path).startswith("~"):  # it is the same from everywhere
        return path
    return path.resolve() if ".." in path.parts else path.absolute()
