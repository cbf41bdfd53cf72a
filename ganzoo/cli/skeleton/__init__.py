"""The package that ``ganzoo plugins new`` writes. The files ``*.in`` are its text, with ``@words@`` to fill in."""

from __future__ import annotations

import importlib.util
import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from ganzoo import __version__
from ganzoo.errors import UsageError
from ganzoo.files import write_text
from ganzoo.plugins import HOME
from ganzoo.registry import registry

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PREFIX: Final = "ganzoo-"
_FILES: Final = {
    "pyproject.toml.in": "pyproject.toml",
    "README.md.in": "README.md",
    "package.py.in": "@package@/__init__.py",
    "model.py.in": "@package@/model.py",
    "typed.in": "@package@/py.typed",
    "test.py.in": "tests/test_@module@.py",
    "ignore.in": ".gitignore",
}


def write_package(name: str, parent: Path) -> Path:
    """Write the package ``ganzoo-NAME`` into a new folder within ``parent``, and return that folder.

    Raises:
        UsageError: the name will not do, or the folder or a package of that name is there already.
        GanzooError: the files cannot be written.
    """
    name = name.removeprefix(_PREFIX)
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a plugin: use lower-case letters and digits, in words joined by dashes, such as "
            "tiny or my-critic."
        )
    if name == HOME:
        raise UsageError(f"{name!r} is the first half of the ids of ganzoo's own components; choose another name.")
    module = name.replace("-", "_")
    package = f"ganzoo_{module}"
    if importlib.util.find_spec(package) is not None:
        raise UsageError(f"There is a package {package} here already; choose another name than {name!r}.")
    for entry in registry().entries():
        part = entry.component
        if entry.plugin.builtin and part.kind in ("generator", "loss") and name in (part.name, *part.aliases):
            raise UsageError(f"{name!r} always means ganzoo's own {part.kind}; choose another name for the plugin.")
    folder = parent / f"{_PREFIX}{name}"
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"There is something at {folder} already, and nothing is overwritten; choose another --dir.")
    major, minor = __version__.split(".")[:2]
    words = {
        "name": name,
        "module": module,
        "package": package,
        "class": "".join(word.capitalize() for word in name.split("-")),
        "ganzoo": f"ganzoo>={major}.{minor},<{int(major) + 1}",
    }
    for template, target in _FILES.items():
        write_text(folder / fill(target, words), fill((files(__name__) / template).read_text(encoding="utf-8"), words))
    return folder


def fill(text: str, words: dict[str, str]) -> str:
    """``text`` with every ``@word@`` replaced."""
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)
