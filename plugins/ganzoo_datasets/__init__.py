"""Data sets: handwritten digits that ship with ganzoo, the classics, toys in the plane, and the user's own images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from ganzoo.api import Component, Spec, UsageError, hookimpl, option
from ganzoo.data.augment import CROP_HELP, FLIP_HELP, Augment
from ganzoo.data.files import ANY_CHANNELS, ANY_SIZE
from ganzoo_datasets.own_options import FolderConfig, NpzConfig, PreparedConfig

_ROOT_HELP = "Folder to look in first; then come GANZOO_DATA and the user's cache."
_FOLDERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
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

# Enlarged, so that the critic has more than one layer. With batch norm it cannot see how dark a background is, and the
# backgrounds stay grey; without, 2,000 steps give clear digits in about a minute on two cores.
_DIGITS_RECIPE = {
    "data.size": 16,
    "gen/dcgan.width": 48,
    "gen/cgan.width": 48,
    "disc/dcgan.width": 32,
    "disc/cgan.width": 32,
    "disc/dcgan.norm": "none",
    "disc/cgan.norm": "none",
    "run.steps": 2000,
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
    flip: bool = option(False, help=FLIP_HELP)
    crop: int = option(0, min=0, help=CROP_HELP)


@dataclass(frozen=True)
class CelebaConfig:
    """Options of ``celeba``."""

    root: Path | None = option(None, live=True, help=_ROOT_HELP)
    split: Literal["train", "valid", "test"] = option("train", help="Which part of the data set.")
    size: int | None = option(64, min=4, help="Height and width of the square cut from the middle; none: 178.")
    download: bool = option(True, live=True, help=_DOWNLOAD_HELP)
    flip: bool = option(False, help=FLIP_HELP)
    crop: int = option(0, min=0, help=CROP_HELP)


@dataclass(frozen=True)
class StackedConfig:
    """Options of ``stacked-mnist``."""

    root: Path | None = option(None, live=True, help=_ROOT_HELP)
    split: Literal["train", "test"] = option("train", help="Which part of the data set.")
    size: int | None = option(None, min=4, help="Height and width to resize to; none: as published.")
    download: bool = option(True, live=True, help=_DOWNLOAD_HELP)
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


def digits_spec(config: DigitsConfig) -> Spec:
    """What ``digits`` holds."""
    return Spec((1, config.size, config.size), 10)


def stored_spec(channels: int, size: int, num_classes: int | None, config: StoredConfig | CelebaConfig) -> Spec:
    """What a published data set of images holds, ``size`` being its own."""
    side = config.size or size
    return Augment(config.flip, config.crop).check(Spec((channels, side, side), num_classes))


def stacked_spec(config: StackedConfig) -> Spec:
    """What ``stacked-mnist`` holds."""
    side = config.size or 28
    return Spec((3, side, side), 1000 if config.labelled else None)


def ring_spec(config: RingConfig) -> Spec:
    """What ``ring`` holds."""
    return Spec((2,), config.modes)


def grid_spec(config: GridConfig) -> Spec:
    """What ``grid`` holds."""
    return Spec((2,), config.side**2)


def swissroll_spec(_config: SwissRollConfig) -> Spec:
    """What ``swissroll`` holds."""
    return Spec((2,))


def folder_spec(config: FolderConfig) -> Spec:
    """What the folder or zip holds; looks at its list and at some images."""
    from ganzoo_datasets.folder_source import folder_source

    return Augment(config.flip, config.crop).check(folder_source(config).spec)


def folder_traits(config: FolderConfig, _spec: Spec) -> Iterator[str]:
    """What the options leave to the spec."""
    if config.size is None:
        yield ANY_SIZE
    if config.channels == "auto":
        yield ANY_CHANNELS


def prepared_spec(config: PreparedConfig) -> Spec:
    """What a prepared copy holds, as its record says."""
    from ganzoo.data.copies import read_copy

    if config.path is None:
        raise UsageError("The data set 'prepared' needs the option path: --data.path FOLDER.")
    return Augment(config.flip, config.crop).check(read_copy(config.path).spec)


def npz_spec(config: NpzConfig) -> Spec:
    """What the npz holds; reads its headers and its labels."""
    from ganzoo_datasets.npz_source import npz_source

    spec = npz_source(config).spec
    if config.size is not None:
        if not spec.is_image:
            raise UsageError(f"The option size is for images, and the samples in {config.path} are points.")
        spec = Spec((spec.shape[0], config.size, config.size), spec.num_classes)
    return Augment(config.flip, config.crop).check(spec)


def place_of_idx(folder: str) -> str:
    """Where a data set of MNIST's family is."""
    from ganzoo_datasets.places import idx_place

    return idx_place(folder)


def place_of_cifar() -> str:
    """Where CIFAR-10 is."""
    from ganzoo_datasets.places import cifar_place

    return cifar_place()


def place_of_celeba() -> str:
    """Where CelebA is."""
    from ganzoo_datasets.places import celeba_place

    return celeba_place()


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
        recipe=_DIGITS_RECIPE,
        extractor="digit-cnn",
        facts={
            "samples": "1,797 of 1x8x8",
            "classes": "10, the digits",
            "licence": "CC BY 4.0",
            "place": "ships with ganzoo",
        },
    )
    for name, what, classes, licence, paper in (
        ("mnist", "Handwritten digits", "the digits", "CC BY-SA 3.0", "doi:10.1109/5.726791"),
        ("fashion-mnist", "Pictures of clothes", "kinds of clothes", "MIT", "arXiv:1708.07747"),
        ("kmnist", "Handwritten Japanese characters", "hiragana", "CC BY-SA 4.0", "arXiv:1812.01718"),
    ):
        target = name.title().replace("-", "")
        yield Component(
            "dataset",
            name,
            target=f"ganzoo_datasets.mnist:{target}",
            config=StoredConfig,
            spec=partial(stored_spec, 1, 28, 10),
            summary=f"{what}, 28x28 grey, 60,000 and 10,000.",
            paper=paper,
            extractor="digit-cnn" if name == "mnist" else None,
            facts={
                "samples": "60,000 (train) and 10,000 (test) of 1x28x28",
                "classes": f"10, {classes}",
                "licence": licence,
                "place": partial(place_of_idx, _FOLDERS[name]),
            },
        )
    yield Component(
        "dataset",
        "stacked-mnist",
        target="ganzoo_datasets.mnist:StackedMnist",
        config=StackedConfig,
        spec=stacked_spec,
        summary="Three random MNIST digits as red, green and blue: 1000 modes, drawn without end.",
        paper="arXiv:1611.02163",
        extractor="digit-cnn-each",
        facts={
            "samples": "without end, of 3x28x28",
            "classes": "1000 if labelled, the triples of digits",
            "licence": "that of MNIST, CC BY-SA 3.0",
            "place": partial(place_of_idx, _FOLDERS["mnist"]),
        },
    )
    yield Component(
        "dataset",
        "cifar10",
        target="ganzoo_datasets.classics:Cifar10",
        config=StoredConfig,
        spec=partial(stored_spec, 3, 32, 10),
        summary="Ten kinds of things, 32x32 colour, 50,000 and 10,000.",
        paper="https://www.cs.toronto.edu/~kriz/cifar.html",
        facts={
            "samples": "50,000 (train) and 10,000 (test) of 3x32x32",
            "classes": "10, kinds of animals and vehicles",
            "licence": "none stated; its authors ask to be cited",
            "place": place_of_cifar,
        },
    )
    yield Component(
        "dataset",
        "celeba",
        target="ganzoo_datasets.classics:Celeba",
        config=CelebaConfig,
        spec=partial(stored_spec, 3, 178, None),
        summary="Faces, the middle of 178x218 colour, 162,770, 19,867 and 19,962.",
        paper="arXiv:1411.7766",
        facts={
            "samples": "162,770 (train), 19,867 (valid) and 19,962 (test) of 3x64x64, or of any size up to 178",
            "classes": "none",
            "licence": "for research that is not commercial only",
            "place": place_of_celeba,
        },
    )
    yield Component(
        "dataset",
        "ring",
        target="ganzoo_datasets.toys:Ring",
        config=RingConfig,
        spec=ring_spec,
        summary="Gaussians on a circle in the plane, drawn without end.",
        paper="arXiv:1611.02163",
        recipe=_PLANE_RECIPE,
    )
    yield Component(
        "dataset",
        "grid",
        target="ganzoo_datasets.toys:Grid",
        config=GridConfig,
        spec=grid_spec,
        summary="Gaussians on a square grid in the plane, drawn without end.",
        paper="arXiv:1705.07761",
        recipe=_PLANE_RECIPE,
    )
    yield Component(
        "dataset",
        "swissroll",
        target="ganzoo_datasets.toys:SwissRoll",
        config=SwissRollConfig,
        spec=swissroll_spec,
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
        traits=folder_traits,
        facts={
            "samples": "what --data PATH holds: PNG, JPEG, WebP, BMP, GIF, TIFF, PBM, PGM and PPM of any size",
            "classes": "its sub-folders, if there are at least two",
        },
        aliases=("images",),
    )
    yield Component(
        "dataset",
        "prepared",
        target="ganzoo_datasets.prepared:Prepared",
        config=PreparedConfig,
        spec=prepared_spec,
        summary="A copy of images that 'ganzoo data prepare' made: opens at once, whatever its size.",
        facts={
            "samples": "what --data COPY holds, decoded and of one size",
            "classes": "those of what it was made from",
        },
    )
    yield Component(
        "dataset",
        "npz",
        target="ganzoo_datasets.own:Npz",
        config=NpzConfig,
        spec=npz_spec,
        summary="Your arrays: images or points, with or without labels, in a NumPy .npz.",
        facts={
            "samples": "what --data FILE.npz holds: (N, H, W), (N, H, W, C), (N, C, H, W) or points (N, D)",
            "classes": "those of its array of labels, if there is one",
        },
    )


__all__ = [
    "CelebaConfig",
    "DigitsConfig",
    "FolderConfig",
    "GridConfig",
    "NpzConfig",
    "PreparedConfig",
    "RingConfig",
    "StackedConfig",
    "StoredConfig",
    "SwissRollConfig",
]
