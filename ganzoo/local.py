"""Plugins of the user's own that are no packages: files and modules named by ``-p`` and ``GANZOO_PLUGINS``."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

from ganzoo.errors import GanzooError


def local_words() -> str:
    """What a command must say to have the unpackaged plugins of this process: `` -p my_gan.py``, or nothing."""
    return "".join(f" -p {shlex.quote(name)}" for name in words("GANZOO_PLUGINS"))


def words(variable: str) -> list[str]:
    """The words that an environment variable holds, separated by commas."""
    return [word.strip() for word in os.environ.get(variable, "").split(",") if word.strip()]


def import_file(path: Path) -> ModuleType:
    """Import a file, under the name that it has without its ending.

    Raises:
        GanzooError: there is no such file, or its name cannot be a module's.
    """
    if not path.stem.isidentifier() or path.stem in sys.stdlib_module_names:
        why = "is that of a module of Python" if path.stem.isidentifier() else "has more than letters, digits and _"
        raise GanzooError(f"the name of the file {path.name} {why}; rename it")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise GanzooError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # targets such as "my_gan:Net" are imported by this name
    spec.loader.exec_module(module)
    return module


def plain_id(full: str) -> str:
    """An id, the same for a module named by ``-p`` and for the package that it becomes: ``tiny/x``."""
    namespace, _, name = full.rpartition("/")
    return f"{re.sub(r'[-_.]+', '-', namespace).lower().removeprefix('ganzoo-')}/{name}"
