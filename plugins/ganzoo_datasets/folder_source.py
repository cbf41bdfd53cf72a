"""What a folder or zip of images holds, found out without torch."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ganzoo.api import Spec, UsageError
from ganzoo.data import ImageFiles, choose_shape, list_images
from ganzoo.data.files import at_home
from ganzoo_datasets import FolderConfig


@dataclass(frozen=True)
class FolderSource:
    """The list of images, and the shape that they will be given."""

    files: ImageFiles
    shape: tuple[int, int, int]

    @property
    def spec(self) -> Spec:
        """The task."""
        return Spec(self.shape, len(self.files.classes) or None)


def folder_source(config: FolderConfig) -> FolderSource:
    """Look at the folder or zip; for one request once until :func:`take`, unless it changes.

    Raises:
        UsageError: there is none, it holds no images, or one cannot be read.
    """
    if config.path is None:
        raise UsageError("The data set 'folder' needs the option path: --data.path FOLDER_OR_ZIP.")
    path = at_home(config.path).absolute()
    changed = path.stat().st_mtime_ns if path.exists() else 0
    known = _FOUND.get(id(config))
    if known is not None and known.config() is config and known.changed == changed:
        return known.source
    source = _look(config, path)
    key = id(config)
    _FOUND[key] = _Found(weakref.ref(config, lambda _: _FOUND.pop(key, None)), changed, source)
    return source


def take(config: FolderConfig) -> FolderSource:
    """What was found, for a data set; the next one is of what is there then.

    That files in it were replaced, the folder's own time of change would not tell.
    """
    found = folder_source(config)
    _FOUND.pop(id(config), None)
    return found


class _Found(NamedTuple):
    """What was found for a request.

    Attributes:
        config: the request itself. Another one that asks for the same looks anew: there may be more images by then,
            of which the time of the folder above theirs tells nothing.
        changed: when the folder or zip had changed.
        source: what was found.
    """

    config: weakref.ref[FolderConfig]
    changed: int
    source: FolderSource


_FOUND: Final[dict[int, _Found]] = {}


def _look(config: FolderConfig, path: Path) -> FolderSource:
    files = list_images(path, labels=config.labels)
    shape = choose_shape(files, size=config.size, channels=config.channels, on_bad_image=config.on_bad_image)
    return FolderSource(files, shape)
