"""Options of the data sets that are the user's own files. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ganzoo.api import option
from ganzoo.data.augment import CROP_HELP, FLIP_HELP
from ganzoo.data.files import Channels, Fit, OnBadImage
from ganzoo.data.memory import Memory


@dataclass(frozen=True)
class FolderConfig:
    """Options of ``folder``."""

    path: Path | None = option(None, help="Folder or zip of images.")
    size: int | None = option(
        None, min=4, help="Height and width; none: the images' own up to 128, if all agree, else at most 64."
    )
    channels: Channels = option("auto", help="One channel or three; auto: one if all images looked at are grey.")
    fit: Fit = option("crop", help="Other proportions: cut the middle out, add black, or distort.")
    labels: bool = option(True, help="Whether sub-folders, if there are at least two, are classes.")
    on_bad_image: OnBadImage = option("refuse", help="What to do about an image that cannot be read.")
    memory: Memory = option(
        "auto", live=True, help="Hold the decoded images, or decode while training; auto: hold if they fit."
    )
    workers: int | None = option(
        None, min=0, live=True, help="Processes that decode while training; 0: threads; none: by cores."
    )
    flip: bool = option(False, help=FLIP_HELP)
    crop: int = option(0, min=0, help=CROP_HELP)


@dataclass(frozen=True)
class PreparedConfig:
    """Options of ``prepared``."""

    path: Path | None = option(None, help="Folder that 'ganzoo data prepare' wrote.")
    memory: Memory = option(
        "auto",
        live=True,
        help="Hold the images, or take them from the files; auto: from the files, read ahead if they fit.",
    )
    flip: bool = option(False, help=FLIP_HELP)
    crop: int = option(0, min=0, help=CROP_HELP)


@dataclass(frozen=True)
class NpzConfig:
    """Options of ``npz``."""

    path: Path | None = option(None, help="The .npz file.")
    images: str | None = option(None, help="Name of the array of samples; none: images, x, arr_0 or x_train.")
    labels: str | None = option(None, help="Name of the array of labels; none: labels, y or y_train if there is one.")
    size: int | None = option(None, min=4, help="Height and width to resize images to; none: as they are.")
    flip: bool = option(False, help=FLIP_HELP)
    crop: int = option(0, min=0, help=CROP_HELP)
