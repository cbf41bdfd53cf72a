"""Data sets: handwritten digits that ship with ganzoo, the classics, toys in the plane, and the user's own images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ganzoo.api import Component, Spec, hookimpl, option
from ganzoo.data.files import Channels, Fit, OnBadImage

_ROOT_HELP = "Folder to look in first; then come GANZOO_DATA and the user's cache."
_DOWNLOAD_HELP = "Whether to download it when it is not on this machine."
# ReLU networks with orthogonal weights, as the unrolled paper uses on its ring (arXiv:1611.02163, appendix A), with
# learning rates ten and three times its 1e-4, so that 5,000 steps tell what its 25,000 do. Measured on the ring: the
# plain minimax game then ends on one mode, and the one unrolled by 5 steps covers all eight.
_PLANE_RECIPE = {
    "gen": "mlp",
    "disc": "mlp",
    "gen.init": "orthogonal",
    "gen.init_gain": 0.8,
    "disc.init": "orthogonal",
    "disc.init_gain": 0.8,
    "gen_optim.lr": 1e-3,
    "disc_optim.lr": 3e-4,
    "run.batch_size": 256,
    "run.samples": 512,
    "run.steps": 5000,
}


@dataclass(frozen=True)
class DigitsConfig:
    """Options of ``digits``."""

    size: Literal[8, 16, 32] = option(8, help="Height and width; above 8 the images are enlarged smoothly.")


@dataclass(frozen=True)
class StoredConfig:
    """Options of a data set that is on the disk or is downloaded."""

    root: Path | None = option(None, live=True, help=_ROOT_HELP)
    split: Literal["train", "test"] = option("train", help="Which part of the data set.")
    size: int | None = option(None, min=4, help="Height and width to resize to; none: as published.")
    download: bool = option(True, live=True, help=_DOWNLOAD_HELP)


@dataclass(frozen=True)
class CelebaConfig:
    """Options of ``celeba``."""

    root: Path | None = option(None, live=True, help=_ROOT_HELP)
    split: Literal["train", "valid", "test"] = option("train", help="Which part of the data set.")
    size: int | None = option(64, min=4, help="Height and width of the square cut from the middle; none: 178.")
    download: bool = option(True, live=True, help=_DOWNLOAD_HELP)


@dataclass(frozen=True)
class StackedConfig(StoredConfig):
    """Options of ``stacked-mnist``."""

    labelled: bool = option(False, help="Whether samples carry the class 100 a + 10 b + c of their digits a, b, c.")


@dataclass(frozen=True)
class RingConfig:
    """Options of ``ring``."""

    modes: int = option(8, min=1, help="Number of Gaussians.")
    radius: float = option(2.0, above=0, help="Radius of the circle that their centres are on.")
    std: float = option(0.02, min=0, help="Standard deviation of each.")


@dataclass(frozen=True)
class GridConfig:
    """Options of ``grid``."""

    side: int = option(5, min=1, help="Gaussians in a row and in a column.")
    spacing: float = option(2.0, above=0, help="Distance between neighbouring centres.")
    std: float = option(0.05, min=0, help="Standard deviation of each.")


@dataclass(frozen=True)
class SwissRollConfig:
    """Options of ``swissroll``."""

    noise: float = option(0.25, min=0, help="Standard deviation around the spiral, before it is scaled.")
    scale: float = option(7.5, above=0, help="What the spiral of radius 1.5 pi to 4.5 pi is divided by.")


@dataclass(frozen=True)
class FolderConfig:
    """Options of ``folder``."""

    path: Path | None = option(None, help="Folder or zip of images.")
    size: int | None = option(None, min=4, help="Height and width; none: what suits the images, at most 64.")
    channels: Channels = option("auto", help="One channel or three; auto: one if all images looked at are grey.")
    fit: Fit = option("crop", help="Other proportions: cut the middle out, add black, or distort.")
    labels: bool = option(True, help="Whether sub-folders, if there are at least two, are classes.")
    on_bad_image: OnBadImage = option("refuse", help="What to do about an image that cannot be read.")


@dataclass(frozen=True)
class NpzConfig:
    """Options of ``npz``."""

    path: Path | None = option(None, help="The .npz file.")
    images: str | None = option(None, help="Name of the array of samples; none: images, x, arr_0 or x_train.")
    labels: str | None = option(None, help="Name of the array of labels; none: labels, y or y_train if there is one.")


def digits_spec(config: DigitsConfig) -> Spec:
    """What ``digits`` holds."""
    return Spec((1, config.size, config.size), 10)


def stored_spec(channels: int, size: int, num_classes: int | None, config: StoredConfig | CelebaConfig) -> Spec:
    """What a published data set of images holds, ``size`` being its own."""
    side = config.size or size
    return Spec((channels, side, side), num_classes)


def stacked_spec(config: StackedConfig) -> Spec:
    """What ``stacked-mnist`` holds."""
    return stored_spec(3, 28, 1000 if config.labelled else None, config)


def folder_spec(config: FolderConfig) -> Spec:
    """What the folder or zip holds; looks at its list and at some images."""
    from ganzoo_datasets.folder_source import folder_source

    return folder_source(config).spec


def npz_spec(config: NpzConfig) -> Spec:
    """What the npz holds; reads its headers and its labels."""
    from ganzoo_datasets.npz_source import npz_source

    return npz_source(config).spec


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The data sets."""
    yield Component(
        "dataset",
        "digits",
        target="ganzoo_datasets.digits:Digits",
        config=DigitsConfig,
        spec=digits_spec,
        summary="1,797 handwritten digits of 8x8, included (UCI; E. Alpaydin, C. Kaynak; CC BY 4.0).",
        paper="doi:10.24432/C50P49",
        recipe={},
    )
    for name, summary, paper in (
        ("mnist", "Handwritten digits, 28x28 grey, 60,000 and 10,000.", "doi:10.1109/5.726791"),
        ("fashion-mnist", "Pictures of clothes, 28x28 grey, 60,000 and 10,000.", "arXiv:1708.07747"),
        ("kmnist", "Handwritten Japanese characters, 28x28 grey, 60,000 and 10,000.", "arXiv:1812.01718"),
    ):
        yield Component(
            "dataset",
            name,
            target=f"ganzoo_datasets.mnist:{name.title().replace('-', '')}",
            config=StoredConfig,
            spec=partial(stored_spec, 1, 28, 10),
            summary=summary,
            paper=paper,
        )
    yield Component(
        "dataset",
        "stacked-mnist",
        target="ganzoo_datasets.mnist:StackedMnist",
        config=StackedConfig,
        spec=stacked_spec,
        summary="Three random MNIST digits as red, green and blue: 1000 modes, drawn without end.",
        paper="arXiv:1611.02163",
    )
    yield Component(
        "dataset",
        "cifar10",
        target="ganzoo_datasets.classics:Cifar10",
        config=StoredConfig,
        spec=partial(stored_spec, 3, 32, 10),
        summary="Ten kinds of things, 32x32 colour, 50,000 and 10,000.",
        paper="https://www.cs.toronto.edu/~kriz/cifar.html",
    )
    yield Component(
        "dataset",
        "celeba",
        target="ganzoo_datasets.classics:Celeba",
        config=CelebaConfig,
        spec=partial(stored_spec, 3, 178, None),
        summary="Faces, the middle of 178x218 colour, 162,770, 19,867 and 19,962.",
        paper="arXiv:1411.7766",
    )
    yield Component(
        "dataset",
        "ring",
        target="ganzoo_datasets.toys:Ring",
        config=RingConfig,
        spec=lambda config: Spec((2,), config.modes),
        summary="Gaussians on a circle in the plane, drawn without end.",
        paper="arXiv:1611.02163",
        recipe=_PLANE_RECIPE,
    )
    yield Component(
        "dataset",
        "grid",
        target="ganzoo_datasets.toys:Grid",
        config=GridConfig,
        spec=lambda config: Spec((2,), config.side**2),
        summary="Gaussians on a square grid in the plane, drawn without end.",
        paper="arXiv:1705.07761",
        recipe=_PLANE_RECIPE,
    )
    yield Component(
        "dataset",
        "swissroll",
        target="ganzoo_datasets.toys:SwissRoll",
        config=SwissRollConfig,
        spec=lambda _config: Spec((2,)),
        summary="A spiral in the plane, drawn without end.",
        paper="arXiv:1704.00028",
        recipe=_PLANE_RECIPE,
    )
    yield Component(
        "dataset",
        "folder",
        target="ganzoo_datasets.own:Folder",
        config=FolderConfig,
        spec=folder_spec,
        summary="Your images: a folder or a zip; sub-folders are classes.",
        aliases=("images",),
    )
    yield Component(
        "dataset",
        "npz",
        target="ganzoo_datasets.own:Npz",
        config=NpzConfig,
        spec=npz_spec,
        summary="Your arrays: images or points, with or without labels, in a NumPy .npz.",
    )


__all__ = [
    "CelebaConfig",
    "DigitsConfig",
    "FolderConfig",
    "GridConfig",
    "NpzConfig",
    "RingConfig",
    "StackedConfig",
    "StoredConfig",
    "SwissRollConfig",
]
