"""What ``--data`` and ``--against`` take: the name of a data set, or a path to the user's own data. Free of torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ganzoo.data.files import SUFFIXES, is_copy, one_image
from ganzoo.errors import UsageError
from ganzoo.registry import registry

_ARCHIVES: Final = {".zip": "folder", ".npz": "npz"}


def data_settings(value: str, flag: str = "--data") -> dict[str, str]:
    """The settings that ``value`` stands for: ``data``, and ``data.path`` where nothing has that name.

    Raises:
        UsageError: there is no such data set, folder or file, or one that holds no data set.
    """
    path = _path_of(value)
    has_separator = os.sep in value or "/" in value
    if value == "auto":
        return {"data": value}
    if not (has_separator or path.exists() or path.suffix.lower() in _ARCHIVES):
        try:
            registry().get("dataset", value)
        except UsageError as err:
            raise UsageError(f"{err} A folder or file of that name is not here either.") from None
        return {"data": value}
    if _is_name(value) and not (_needs_path(value) and path.exists()):
        return {"data": value}
    if not path.exists():
        raise UsageError(f"There is no data set, folder or file {value!r}.")
    kind = "prepared" if is_copy(path) else "folder"
    name = kind if path.is_dir() else _ARCHIVES.get(path.suffix.lower())
    if name is None and path.suffix.lower() in SUFFIXES:
        raise UsageError(one_image(value))
    if name is None:
        raise UsageError(f"{flag} takes a name, a folder, a .zip or an .npz file, not {value!r}.")
    return {"data": name, "data.path": str(path.absolute()) if str(path).startswith("~") else value}


def _path_of(value: str) -> Path:
    """The path that is meant; ``~name`` of a user who is not here may be the name of a file."""
    try:
        return Path(value).expanduser()
    except RuntimeError:
        return Path(value)


def _is_name(value: str) -> bool:
    """Whether a data set has this name."""
    try:
        registry().get("dataset", value)
    except UsageError:
        return False
    return True


def _needs_path(name: str) -> bool:
    """Whether a data set is nothing without a path, as ``folder`` is: who has a folder of that name means that."""
    options = registry().get("dataset", name).options
    return any(option.name == "path" and option.default is None for option in options)


def reference_settings(value: str, flag: str) -> tuple[str, dict[str, str]]:
    """Data set and options that ``value`` stands for: ``mnist:test``, or a path (which may have a colon of its own).

    Raises:
        UsageError: there is no such data set, folder, file or split.
    """
    name, colon, split = value.rpartition(":")
    if colon and not _path_of(value).exists():
        entry = registry().get("dataset", name)
        if "split" not in {option.name for option in entry.options}:
            raise UsageError(f"The data set {name!r} has no splits; leave ':{split}' out.")
        return name, {"split": split}
    settings = data_settings(value, flag)
    return settings["data"], {"path": settings["data.path"]} if "data.path" in settings else {}
