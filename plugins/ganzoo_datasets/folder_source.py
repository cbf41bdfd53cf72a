"""What a folder or zip of images holds, found out without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ganzoo.api import Spec, UsageError
from ganzoo.data import ImageFiles, choose_shape, list_images
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
    """Look at the folder or zip; once until :func:`take`, unless it changes.

    Raises:
        UsageError: there is none, it holds no images, or one cannot be read.
    """
    if config.path is None:
        raise UsageError("The data set 'folder' needs the option path: --data.path FOLDER_OR_ZIP.")
    path = config.path.expanduser().absolute()
    return _look(config, path, path.stat().st_mtime_ns if path.exists() else 0)


def take(config: FolderConfig) -> FolderSource:
    """What was found, for a data set; the next one is of what is there then.

    That files in it were replaced, the folder's own time of change would not tell.
    """
    found = folder_source(config)
    _look.cache_clear()
    return found


@lru_cache(maxsize=8)
def _look(config: FolderConfig, path: Path, _modified: int) -> FolderSource:
    files = list_images(path, labels=config.labels)
    shape = choose_shape(files, size=config.size, channels=config.channels, on_bad_image=config.on_bad_image)
    return FolderSource(files, shape)
