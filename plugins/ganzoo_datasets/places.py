"""Where the files of the published data sets are, or would be. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ganzoo.data import download_root, search_roots

SPLITS: Final = {"train": "train", "test": "t10k"}
CIFAR: Final = "cifar-10-batches-py"
CIFAR_ARCHIVE: Final = "cifar-10-python.tar.gz"
FACES: Final = "img_align_celeba"


def idx_names(split: str) -> tuple[str, str]:
    """Names of the images' and of the labels' file of a split of MNIST and its family."""
    prefix = SPLITS[split]
    return f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"


def find_idx(roots: Iterable[Path], folder: str, names: tuple[str, ...]) -> list[Path] | None:
    """The files ``ROOT/FOLDER/raw/NAME[.gz]`` of the first root that has them all."""
    for root in roots:
        raw = root / folder / "raw"
        found = [next((path for path in (raw / name, raw / f"{name}.gz") if path.is_file()), None) for name in names]
        if None not in found:
            return [path for path in found if path is not None]
    return None


def idx_place(folder: str) -> str:
    """In words where a data set of MNIST's family is found, or would be looked for."""
    found: dict[Path, list[str]] = {}
    for split in SPLITS:
        files = find_idx(search_roots(), folder, idx_names(split))
        if files:
            found.setdefault(files[0].parent, []).append(split)
    if not found:
        return _absent(Path(folder) / "raw")
    return "; ".join(f"{path} ({' and '.join(splits)})" for path, splits in found.items())


def cifar_place() -> str:
    """In words where CIFAR-10 is found, or would be looked for."""
    for root in search_roots():
        for name in (CIFAR, CIFAR_ARCHIVE):
            if (root / name).exists():
                return str(root / name)
    return _absent(Path(CIFAR))


def celeba_place() -> str:
    """In words where CelebA is found, or would be looked for."""
    for root in search_roots():
        if (root / "celeba" / FACES).is_dir():
            return str(root / "celeba")
    return _absent(Path("celeba"))


def _absent(inside: Path) -> str:
    looked = " and ".join(str(root / inside) for root in search_roots())
    return f"not on this machine: looked for in {looked}; downloaded to {download_root() / inside} when it is used"
