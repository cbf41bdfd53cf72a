"""How Sphinx builds the pages; ``nox -s docs`` does. Nothing is fetched."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

import ganzoo

project = "ganzoo"
author = "The ganzoo authors"
project_copyright = author
version = release = ganzoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"ganzoo {release}"
html_copy_source = False

# The reference: as the source has it, without what other libraries document.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
# Names of other libraries, and names in signatures that are not public, lead nowhere.
nitpick_ignore_regex = [
    (r"py:.*", r"(abc|collections|contextlib|numpy|np|pathlib|torch|types|typing)\b.*"),
    (r"py:.*", r"(Any|Callable|Iterable|Iterator|Literal|Mapping|Module|Optimizer|Path|Sequence|Tensor)"),
    (r"py:.*", r"ganzoo\.(config|errors|options|registry|settings|training)\b.*"),
    (r"py:.*", r"ganzoo\.(data|nn|testing)\.\w+\.\w+"),
    (r"py:.*", r"(Array|DownloadError|Spec\.pyramid|ganzoo\.testing\.SPECS)"),
]
_OUTSIDE = ("CHANGELOG", "CONTRIBUTING", "SECURITY")
_TWO_NAMES = re.compile(r"^(\s+)(\w+), (\w+)(: .*)$")


def take_in(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Pages link to the files beside ``docs`` as they lie in the repository; here these are pages that include them."""
    for name in _OUTSIDE:
        source[0] = source[0].replace(f"](../{name}.md", f"](/{name.lower()}.md")


def prepare(*given: Any) -> None:
    """Docstrings as Napoleon wants them: an attribute's sentence has no type in front, a line describes one name."""
    _app, what, _name, _obj, _options, lines = given
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]
    lines[:] = [part for line in lines for part in _one_name_each(line)]


def _one_name_each(line: str) -> list[str]:
    found = _TWO_NAMES.match(line)
    return [f"{found[1]}{found[2]}{found[4]}", f"{found[1]}{found[3]}{found[4]}"] if found else [line]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", take_in)
    app.connect("autodoc-process-docstring", prepare, priority=400)
