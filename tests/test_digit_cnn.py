"""The classifier of digits: as good as it says, of the weights that it says, and one image at a time."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from published_data import with_mnist
from torch import Tensor

import ganzoo_digits
from ganzoo.api import Spec
from ganzoo.data import resize
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.nn import Extractor
from ganzoo.nn.weights import layouts, save_tensors
from ganzoo.registry import create, registry
from ganzoo_digits.model import WEIGHTS, load_weights

GREY, STACKED = Spec((1, 28, 28), 10), Spec((3, 28, 28), 1000)


def extractor(spec: Spec, name: str = "digit-cnn") -> Extractor:
    made = create("extractor", name, spec)
    assert isinstance(made, Extractor)
    return made


def held(name: str, spec: Spec, **options: object) -> tuple[Tensor, Tensor]:
    data = create("dataset", name, spec, **options)
    return data.samples, data.labels


def logits(network: Extractor, images: Tensor) -> Tensor:
    parts = [network(part).logits for part in torch.split(images, 500)]
    return torch.cat([part for part in parts if part is not None])


def accuracy(network: Extractor, images: Tensor, labels: Tensor) -> float:
    return float((logits(network, images).argmax(1) == labels).double().mean())


@pytest.fixture(scope="module")
def network() -> Extractor:
    return extractor(GREY)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Every fifth of UCI's digits, at their size of 8x8."""
    images, labels = held("digits", Spec((1, 8, 8), 10))
    return images[::5], labels[::5]


@with_mnist
def test_it_knows_the_test_set_of_mnist(network: Extractor) -> None:
    images, labels = held("mnist", GREY, split="test", download=False)
    assert len(images) == 10_000
    assert accuracy(network, images, labels) >= 0.993
    assert accuracy(network, resize(images[:2000], 32), labels[:2000]) >= 0.985


@pytest.mark.parametrize("size", [8, 16, 32])
def test_it_knows_digits_that_it_never_saw(network: Extractor, digits: tuple[Tensor, Tensor], size: int) -> None:
    images, labels = digits
    assert accuracy(network, resize(images, size), labels) >= 0.95


def test_colour_is_nothing(network: Extractor, digits: tuple[Tensor, Tensor]) -> None:
    images = digits[0][:20]
    grey = network(images)
    for channels in (2, 3, 4):
        assert torch.allclose(network(images.expand(-1, channels, -1, -1)).features, grey.features, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 5, 9), (2, 28, 28)])
def test_any_image_has_its_own_finite_features(shape: tuple[int, ...]) -> None:
    network = extractor(Spec(shape))
    images = torch.randint(256, (7, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[0], images[1] = 0, 255
    seen = network(images)
    assert seen.logits is not None
    assert seen.features.shape == (7, network.dim)
    assert seen.logits.shape == (7, network.num_classes)
    assert seen.features.dtype == seen.logits.dtype == torch.float32
    assert bool(seen.features.isfinite().all())
    for i in range(7):
        alone = network(images[i : i + 1])
        assert torch.allclose(alone.features[0], seen.features[i], rtol=1e-5, atol=1e-6)


def test_each_channel_can_be_a_digit(network: Extractor, digits: tuple[Tensor, Tensor]) -> None:
    images = digits[0][:60].view(20, 3, 8, 8)
    each = extractor(Spec((3, 8, 8)), "digit-cnn-each")
    seen, single = each(images), network(images.flatten(0, 1)[:, None])
    assert (each.dim, each.num_classes) == (3 * network.dim, 1000)
    assert seen.logits is not None
    assert single.logits is not None
    assert torch.allclose(seen.features, single.features.view(20, -1), atol=1e-6)
    a, b, c = single.logits.argmax(1).view(20, 3).unbind(1)
    assert torch.equal(seen.logits.argmax(1), 100 * a + 10 * b + c)
    assert torch.allclose(
        seen.logits.softmax(1)[:, 407],
        single.logits.softmax(1).view(20, 3, 10)[:, [0, 1, 2], [4, 0, 7]].prod(1),
        atol=1e-6,
    )


def test_the_digest_is_of_weights_and_of_how_they_are_used() -> None:
    first, again, each = extractor(GREY), extractor(STACKED), extractor(STACKED, "digit-cnn-each")
    assert (first.stacked, each.stacked) == (None, (10, 3))
    assert first.digest == again.digest
    assert first.digest != each.digest
    assert len(first.digest) == 64


def test_it_is_frozen_and_takes_no_random_numbers() -> None:
    before = torch.random.get_rng_state()
    network = extractor(GREY)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_its_weights_are_small_and_packaged() -> None:
    assert WEIGHTS.stat().st_size < 1_000_000
    assert {layout.dtype for layout in layouts(WEIGHTS).values()} == {"F16"}
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "plugins/ganzoo_digits" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert WEIGHTS.parent == Path(ganzoo_digits.__file__).parent


def test_other_weights_are_refused(tmp_path: Path) -> None:
    altered = tmp_path / "altered.safetensors"
    data = bytearray(WEIGHTS.read_bytes())
    data[-1] ^= 1
    altered.write_bytes(data)
    sound = tmp_path / "sound.safetensors"
    save_tensors(sound, load_weights(WEIGHTS))
    for file in (altered, sound):
        with pytest.raises(GanzooError, match="does not hold the weights of digit-cnn as ganzoo ships them"):
            load_weights(file)
    with pytest.raises(MissingError, match="install ganzoo again"):
        load_weights(tmp_path / "none.safetensors")


def test_points_are_refused() -> None:
    with pytest.raises(UsageError, match="score points by their modes"):
        extractor(Spec((2,)))
    with pytest.raises(UsageError, match="1 to 3 channels, each a digit, not 4"):
        extractor(Spec((4, 8, 8)), "digit-cnn-each")


def test_data_sets_of_digits_name_it() -> None:
    for entry in registry().entries("dataset"):
        part = entry.component
        if part.extractor is not None and part.spec is not None:
            config = part.config()
            network = create("extractor", part.extractor, part.spec(config))
            assert isinstance(network, Extractor)
    named = {entry.component.name for entry in registry().entries("dataset") if entry.component.extractor}
    assert named == {"digits", "mnist", "stacked-mnist"}
