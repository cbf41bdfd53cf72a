"""Where data sets are looked for, and where downloads go. Free of torch."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "GANZOO_DATA"
CACHE_VARIABLE = "GANZOO_CACHE"


def search_roots(root: Path | None = None) -> list[Path]:
    """Folders to look in, in this order: ``root``, the environment's ``GANZOO_DATA``, the user's cache."""
    named = os.environ.get(VARIABLE, "")
    roots = [root, Path(named) if named else None, cache_root()]
    return list(dict.fromkeys(path.expanduser().absolute() for path in roots if path is not None))


def download_root(root: Path | None = None) -> Path:
    """The folder a download goes to: ``root`` where given, else the first of the others that can be written."""
    roots = search_roots(root)
    return roots[0] if root is not None else next((path for path in roots if _writable(path)), roots[-1])


def cache_root() -> Path:
    """The folder for data sets in ganzoo's cache."""
    return cache_home() / "data"


def cache_home() -> Path:
    """Ganzoo's cache: the environment's ``GANZOO_CACHE``, else a folder by the custom of the operating system."""
    chosen = os.environ.get(CACHE_VARIABLE, "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home, as in containers
        home = Path(tempfile.gettempdir())
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = named if named.is_absolute() else home / ".cache"
    return base / "ganzoo"


def _writable(path: Path) -> bool:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK)
