"""Plugins of the user's own that are no packages: files and modules named by ``-p`` and ``GANZOO_PLUGINS``."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from ganzoo.api import Component
from ganzoo.errors import GanzooError, quoted

if TYPE_CHECKING:
    from ganzoo.plugins import Plugin

_IMPORTED: Final[set[Path]] = set()
"""Files that were imported by their path; the folder of an earlier one may still be where Python looks."""


def local_words(plugins: Iterable[Plugin]) -> str:
    """What a command must say to have the unpackaged ones of these plugins: `` -p my_gan.py``, or nothing.

    One that ``GANZOO_PLUGINS`` names in vain is left out: ``-p`` would refuse it.
    """
    refused = {place_of(plugin.source) for plugin in plugins if plugin.reason and plugin.status != "disabled"}
    return "".join(f" -p {quoted(name)}" for name in words("GANZOO_PLUGINS") if place_of(name) not in refused)


def words(variable: str) -> list[str]:
    """The words that an environment variable holds, separated by commas."""
    return [word.strip() for word in os.environ.get(variable, "").split(",") if word.strip()]


def look_here() -> None:
    """Find modules in the current folder too, in this process: where a plugin is named, there it may lie."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # at the end: a file of ours must not stand in for a module of Python


def place_of(value: str) -> str:
    """What tells a plugin from others, however it is named: the file that it is, or its module."""
    return str(Path(value).expanduser().resolve()) if value.endswith(".py") else value


def import_plugin(value: str) -> object:
    """What ``value`` names: a file that ends in ``.py``, a module, or a thing in a module (``module:thing``).

    Raises:
        GanzooError: it is a folder, or what :func:`import_file` refuses.
    """
    if value.endswith(".py"):
        return import_file(Path(value))
    module, _, attribute = value.partition(":")
    if not all(part.isidentifier() for part in module.split(".")):
        raise GanzooError(f"{module!r} is neither the name of a module nor a file that ends in .py")
    loaded: object = importlib.import_module(module)
    if hasattr(loaded, "__path__") and getattr(loaded, "__file__", None) is None:
        raise GanzooError(f"{module!r} is a folder without __init__.py; name a file in it that ends in .py")
    for part in filter(None, attribute.split(".")):
        loaded = getattr(loaded, part)
    return loaded


def import_file(path: Path) -> ModuleType:
    """Import a file, under the name that it has without its ending.

    Raises:
        GanzooError: there is no such file, or its name cannot be a module's, or is another module's.
    """
    if why := _unfit(path):
        raise GanzooError(f"the name of the file {path.name} {why}; rename it")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise GanzooError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    _IMPORTED.add(path.resolve())
    sys.modules[path.stem] = module  # targets such as "my_gan:Net" are imported by this name
    spec.loader.exec_module(module)
    return module


def _unfit(path: Path) -> str:
    """Why a file cannot be imported by its name: it would stand in for another module, to all who import that."""
    if not path.stem.isidentifier():
        return "has more than letters, digits and _"
    if path.stem in sys.stdlib_module_names:
        return "is that of a module of Python"
    return "is that of a module that is installed" if path.stem == __package__ or _is_installed(path) else ""


def _is_installed(path: Path) -> bool:
    """Whether Python finds another module of this name elsewhere than beside the file and in the current directory.

    Those two places are left out because there one finds the file itself, or one that it is a copy of. The finders are
    asked one by one, since ``find_spec`` would tell of a module loaded from such a file earlier in this process.
    """
    near = {path.parent.resolve(), Path.cwd().resolve()}
    far = [entry for entry in sys.path if Path(entry).resolve() not in near]
    found = [finder.find_spec(path.stem, far) for finder in sys.meta_path if hasattr(finder, "find_spec")]
    origins = {Path(spec.origin).resolve() for spec in found if spec is not None and spec.origin is not None}
    return any(_holder(origin) not in near for origin in origins - _IMPORTED)


def _holder(origin: Path) -> Path:
    """The folder in which Python found a module: beside its file, or beside its own folder."""
    return origin.parent.parent if origin.stem == "__init__" else origin.parent


def check_targets(plugin: object, components: Iterable[Component]) -> None:
    """See that a module builds its own classes, not those of the file that it was copied from.

    Raises:
        GanzooError: a target is in another file nearby, although the module has a class of that name.
    """
    if not isinstance(plugin, ModuleType) or plugin.__file__ is None:
        return
    for part in components:
        module, _, name = part.target.partition(":")
        own = getattr(vars(plugin).get(name), "__module__", None) == plugin.__name__ != module
        if own and any((near / f"{module}.py").is_file() for near in (Path(plugin.__file__).parent, Path.cwd())):
            raise GanzooError(
                f"the target {part.target!r} of the {part.kind} {part.name} is in another file, and this one has a "
                f'class {name} of its own; say target="{plugin.__name__}:{name}"'
            )


def plain_id(full: str) -> str:
    """An id, the same for a module named by ``-p`` and for the package that it becomes: ``tiny/x``."""
    namespace, _, name = full.rpartition("/")
    return f"{re.sub(r'[-_.]+', '-', namespace).lower().removeprefix('ganzoo-')}/{name}"
