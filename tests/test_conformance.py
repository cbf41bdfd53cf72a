"""Every built-in component keeps the promises that plugin authors are held to."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import published_data
import pytest
from PIL import Image

from ganzoo.api import Spec
from ganzoo.data.prepare import from_dataset, prepare
from ganzoo.registry import build, registry
from ganzoo.testing import Check, check_component, checks_for
from ganzoo.testing.checks import OF_ALL

SMALL = {
    "width": 6,
    "latent_dim": 5,
    "model": "shufflenet_v2_x0_5",
    "size": 16,
    "download": False,
    "split": "test",
    "labelled": True,
}
"""Options that make a component quick to check, where it has them."""
QUICK = ("mixes", "can", "is-built", "is-settled", "survives-safetensors", "has-the-right-shapes", "passes")
"""How the promises begin that may depend on an option."""
OWN_FILES = ("folder", "npz", "prepared", "discriminator")


def built_ins() -> list[Check]:
    found = []
    for entry in registry().entries():
        if entry.plugin.builtin and entry.component.name not in OWN_FILES:
            known = {opt.name for opt in entry.options}
            options: dict[str, Any] = {name: value for name, value in SMALL.items() if name in known}
            checks = checks_for(entry.component.kind, entry.id, **options)
            # Extractors of published weights are built in test_extractors, from files of that format.
            found += [check for check in checks if "weights" not in known or check.function in OF_ALL]
    return found


def as_case(check: Check) -> Any:
    marks = []
    if check.subject.choice.id == "ganzoo/ray":
        marks.append(pytest.mark.ray)
        if check.function not in OF_ALL:  # a cluster is started, which only nox's session of that name can
            marks.append(pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"))
    return pytest.param(check, marks=marks, id=str(check))


@pytest.fixture(scope="module", autouse=True)
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every published data set is on this machine, with made-up samples."""
    root = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANZOO_DATA", str(root))
        published_data.write_all(root, patch)
        yield


@pytest.mark.parametrize("check", [as_case(check) for check in built_ins()])
def test_a_built_in_keeps_its_promises(check: Check) -> None:
    check()


@pytest.mark.parametrize("labelled", [True, False])
def test_own_images_keep_the_promises_of_data_sets(tmp_path: Path, labelled: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        folder = tmp_path / "photos" / (f"class-{index % 3}" if labelled else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    arrays: dict[str, Any] = {"images": pixels} | ({"labels": np.arange(12) % 3} if labelled else {})
    np.savez(tmp_path / "mine.npz", **arrays)
    check_component("dataset", "folder", path=tmp_path / "photos")
    check_component("dataset", "folder", path=tmp_path / "photos", memory="stream", workers=0)
    check_component("dataset", "npz", path=tmp_path / "mine.npz")
    for size in (10**6, 3000):  # one file, and several
        choice = registry().choose("dataset", "npz", {"path": str(tmp_path / "mine.npz")})
        spec = Spec((3, 16, 16), 3 if labelled else None)
        prepare(from_dataset(build(choice, spec), {}), tmp_path / f"copy-{size}", shard_bytes=size)
        check_component("dataset", "prepared", path=tmp_path / f"copy-{size}")


VARIANTS = [
    *(("dcgan", {"norm": norm, "width": 6}) for norm in ("layer", "instance", "group", "spectral", "none")),
    *(("cgan", {"norm": norm, "width": 6}) for norm in ("layer", "spectral", "none")),
    *(("mlp", {"norm": norm, "width": 6, "dropout": 0.3}) for norm in ("batch", "layer", "spectral")),
    ("dcgan", {"dropout": 0.3, "width": 6}),
    ("cgan", {"dropout": 0.3, "width": 6}),
    ("torchvision", {"model": "shufflenet_v2_x0_5", "norm": "none"}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_other_options_of_a_critic_keep_its_promises(name: str, options: dict[str, Any]) -> None:
    for check in checks_for("discriminator", name, **options):
        if check.name.startswith(QUICK):
            check()


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize("name", ["dcgan", "cgan"])
def test_other_upsampling_keeps_the_promises_of_generators(name: str, upsample: str) -> None:
    for check in checks_for("generator", name, upsample=upsample, prior="uniform", width=6):
        if check.name.startswith(QUICK):
            check()
