"""Extractors: weights found, checked and read safely; and the promises of the kit."""

from __future__ import annotations

import importlib
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from feature_parts import images
from published_parts import clip_state, random_like, save_inception, save_vgg16
from safetensors.torch import save_file

import ganzoo
from ganzoo.api import Spec
from ganzoo.backends import torchvision
from ganzoo.data import Published, find_weights, read_weights, weights_digest
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.files import sha256
from ganzoo.nn import Extractor
from ganzoo.registry import create, registry
from ganzoo.testing import check_component, checks_for

GREY, COLOUR = Spec((1, 12, 12)), Spec((3, 12, 12))


@pytest.fixture(autouse=True)
def nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine are found."""
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("GANZOO_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inception(tmp_path_factory.mktemp("weights") / "mine.pth")


@pytest.fixture(scope="module")
def extractor(inception: Path) -> Extractor:
    return build("inception", GREY, weights=inception)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "clip-vit-b-32.pth"
    torch.save(clip_state(), path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step."""
    path = tmp_path_factory.mktemp("runs") / "short"
    place = {"run.out": path.parent, "run.name": path.name, "run.samples": 4}
    settings = {"gen.width": 4, "disc.width": 4, "run.steps": 1, "run.batch_size": 8, "run.device": "cpu"}
    ganzoo.train({**settings, **place, "data": "digits"})
    return path


def build(name: str, spec: Spec = COLOUR, **options: Any) -> Extractor:
    made: Extractor = create("extractor", name, spec, **options)
    return made


def test_every_extractor_of_torch_fidelity_that_needs_no_foreign_code_is_here() -> None:
    from ganzoo.backends import torch_fidelity

    torch_fidelity()
    theirs = importlib.import_module("torch_fidelity.registry").FEATURE_EXTRACTORS_REGISTRY
    wanted = {name for name in theirs if not name.startswith("dinov2")}
    found = {name for e in registry().entries("extractor") for name in (e.component.name, *e.component.aliases)}
    assert wanted <= found


def test_clips_addresses_are_torch_fidelitys() -> None:
    from ganzoo.backends import torch_fidelity

    torch_fidelity()
    urls = importlib.import_module("torch_fidelity.feature_extractor_clip").MODEL_URLS
    for name, url in urls.items():
        entry = registry().get("extractor", name)
        module, _, attribute = entry.component.target.partition(":")
        published: Published = getattr(importlib.import_module(module), attribute).published
        assert published.url == url
        assert published.sha256 in url
        assert published.name == name


@pytest.mark.parametrize("check", checks_for("extractor", "clip-vit-b-32", specs=(GREY, COLOUR)), ids=str)
def test_the_promises_of_clip(check: Any, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANZOO_WEIGHTS", str(clip.parent))
    check()


def test_the_promises_of_a_runs_discriminator(run: Path) -> None:
    check_component("extractor", "discriminator", run=run)


def test_inception_sees_grey_as_colour_and_each_image_by_itself(extractor: Extractor) -> None:
    pixels = images(2, 0, GREY)
    with torch.no_grad():
        grey = extractor(pixels)
        alone = extractor.train()(pixels[1:].expand(-1, 3, -1, -1))
    assert grey.features.shape == (2, extractor.dim)
    assert grey.logits.shape == (2, extractor.num_classes)
    assert torch.allclose(grey.features[1], alone.features[0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(grey.features[0], grey.features[1], rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in extractor.parameters())


def test_one_digest_for_the_same_tensors_in_any_file(inception: Path, extractor: Extractor, tmp_path: Path) -> None:
    state = read_weights(inception)
    save_file(state, tmp_path / "same.safetensors")
    assert build("inception", weights=tmp_path / "same.safetensors").digest == extractor.digest
    small = {"w": torch.zeros(3), "b": torch.zeros(2, dtype=torch.float16)}
    digests = {
        weights_digest(small),
        weights_digest(small, "preprocessing 2"),
        weights_digest(small | {"w": torch.tensor([0, 0, 1e-30])}),
        weights_digest(small | {"b": torch.zeros(2)}),
        weights_digest(small | {"w": torch.zeros(3, 1)}),
    }
    assert len(digests) == 5
    assert weights_digest(dict(reversed(small.items()))) in digests


def test_vgg16_is_torch_fidelitys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = torchvision().models
    # Drawing initial weights that are replaced at once takes seconds.
    monkeypatch.setattr(models, "vgg16", partial(models.vgg16, init_weights=False))
    weights = save_vgg16(tmp_path / "vgg16.pth")
    ours = build("vgg16", weights=tmp_path)
    part: Any = importlib.import_module("torch_fidelity.feature_extractor_vgg16")
    theirs = part.FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=str(weights))
    pixels = images(1, 0, COLOUR)
    with torch.no_grad():
        seen, wanted = ours(pixels).features, theirs(pixels)[0]
    assert seen.shape == (1, ours.dim)
    assert torch.allclose(seen, wanted, rtol=1e-4, atol=1e-5)
    assert wanted.std() > 0


class Archive(torch.nn.Module):
    """Holds a state dict under its names, as the TorchScript archives of CLIP do."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            *path, last = name.split(".")
            home: torch.nn.Module = self
            for step in path:
                if not hasattr(home, step):
                    home.add_module(step, torch.nn.Module())
                home = getattr(home, step)
            home.register_buffer(last, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_clip_is_torch_fidelitys(clip: Path, tmp_path: Path) -> None:
    ours = build("clip-vit-b-32", weights=clip)
    scripted: Any = torch.jit.script(Archive(read_weights(clip)))
    scripted.save(str(tmp_path / "archive.pt"))
    part: Any = importlib.import_module("torch_fidelity.feature_extractor_clip")
    theirs = part.FeatureExtractorCLIP(
        "clip-vit-b-32", ["clip"], feature_extractor_weights_path=str(tmp_path / "archive.pt")
    )
    pixels = images(3, 0, COLOUR)
    with torch.no_grad():
        assert torch.equal(ours(pixels).features, theirs(pixels)[0])
    with pytest.raises(GanzooError, match=r"archive\.pt"):  # not the published archive, so it is not opened as one
        build("clip-vit-b-32", weights=tmp_path / "archive.pt")


def test_without_weights_a_sentence_says_which_where_and_what_else() -> None:
    with pytest.raises(MissingError) as caught:
        build("inception", download=False)
    said = str(caught.value)
    assert caught.value.exit_code == 4
    assert "\n" not in said
    for words in (
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases",
        os.environ["GANZOO_CACHE"],
        "--weights",
        "GANZOO_WEIGHTS",
        "--features digit-cnn",
        "--features discriminator",
    ):
        assert words in said


def published(path: Path, name: str = "toy") -> Published:
    """A file as if it had been published, under an address where nothing is."""
    digest = sha256(path)
    return Published(name, f"{name}-{digest[:8]}.pth", "http://127.0.0.1:9/toy.pth", digest[:8])


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    torch.save({"w": torch.ones(2)}, tmp_path / "toy.pth")
    return tmp_path / "toy.pth"


def test_weights_are_found_in_this_order(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = published(toy)
    named, variable = tmp_path / "named.pth", tmp_path / "folder"
    hub, cache = tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "cache" / "weights"
    places = [cache / wanted.file, hub / wanted.file, variable / "toy.pth", named]
    monkeypatch.setenv("GANZOO_WEIGHTS", str(variable))
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy, place)
        found = find_weights(wanted, named if place == named else None, fetch=False)
        assert found.path == place
        assert found.published
    with named.open("ab") as file:
        file.write(b"more")
    assert not find_weights(wanted, named).published


def test_a_file_of_another_network_at_the_variable_is_passed_over(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = published(toy)
    torch.save({"w": torch.zeros(3)}, tmp_path / "inception.pth")
    monkeypatch.setenv("GANZOO_WEIGHTS", str(tmp_path / "inception.pth"))
    with pytest.raises(MissingError):
        find_weights(wanted, fetch=False)
    hub = tmp_path / "torch" / "hub" / "checkpoints" / wanted.file
    hub.parent.mkdir(parents=True)
    shutil.copy(toy, hub)
    assert find_weights(wanted, fetch=False).path == hub
    shutil.copy(toy, tmp_path / "renamed.pth")
    monkeypatch.setenv("GANZOO_WEIGHTS", str(tmp_path / "renamed.pth"))
    assert find_weights(wanted, fetch=False).path == tmp_path / "renamed.pth", "it is the one by its hash"
    monkeypatch.setenv("GANZOO_WEIGHTS", str(toy))
    with toy.open("ab") as file:
        file.write(b"more")
    assert not find_weights(wanted, fetch=False).published, "it is the one by its name"


def test_a_download_that_fails_is_missing_and_a_wrong_file_is_damaged(toy: Path, tmp_path: Path) -> None:
    wanted = published(toy)
    with pytest.raises(MissingError, match="cannot be downloaded"):
        find_weights(wanted)
    with pytest.raises(MissingError, match="is nothing"):
        find_weights(wanted, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="is no toy-"):
        find_weights(wanted, tmp_path / "empty")
    bad = tmp_path / wanted.file
    bad.write_bytes(toy.read_bytes() + b"!")
    with pytest.raises(GanzooError, match="damaged, or another file under this name"):
        find_weights(wanted, bad)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("content", ["code", "list", "text", "empty", "torn"])
def test_a_file_that_holds_no_weights_is_a_sentence_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Path, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "inception.pth"
    if content in ("code", "list"):
        torch.save({"w": Evil()} if content == "code" else [torch.ones(1)], path)
    else:
        path.write_bytes({"text": b"<html>quota</html>", "empty": b"", "torn": toy.read_bytes()[:300]}[content])
    with pytest.raises(GanzooError) as caught:
        build("inception", weights=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_weights_of_another_network_are_a_sentence(clip: Path, inception: Path) -> None:
    for name, weights in (("inception", clip), ("clip-rn50", inception), ("vgg16", clip)):
        with pytest.raises(GanzooError, match=f"has no weights of {name}") as caught:
            build(name, weights=weights)
        assert "\n" not in str(caught.value)


def test_an_extractor_of_published_weights_has_no_caveat(clip: Path) -> None:
    assert "not the published file" in build("clip-vit-b-32", weights=clip).caveat


def test_points_and_strange_images_are_refused(clip: Path, run: Path) -> None:
    for spec in (Spec((2,)), Spec((4, 8, 8))):
        with pytest.raises(UsageError, match="sees"):
            build("clip-vit-b-32", spec, weights=clip)
        with pytest.raises(UsageError, match="sees"):
            build("discriminator", spec, run=run)


def test_a_discriminator_fits_images_of_other_sizes_and_colours(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--features\.run"):
        build("discriminator")
    with pytest.raises(MissingError):
        build("discriminator", run=tmp_path / "none")
    grey = build("discriminator", Spec((1, 32, 32)), run=run)
    colour = build("discriminator", Spec((3, 20, 30)), run=run)
    assert grey.digest == colour.digest
    pixels = images(2, 0, Spec((1, 32, 32)))
    with torch.no_grad():
        seen = grey(pixels).features
        assert seen.shape == (2, grey.dim)
        assert torch.equal(seen, colour(pixels.expand(-1, 3, -1, -1)).features), "grey as colour is the same grey"
        assert colour(images(2, 0, Spec((3, 20, 30)))).features.shape == (2, grey.dim)


def test_a_discriminator_of_other_channels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "four.npz", images=np.zeros((16, 8, 8, 4), np.uint8))
    settings = {"gen.width": 4, "disc.width": 4, "run.steps": 1, "run.batch_size": 8, "run.device": "cpu"}
    place = {"run.out": tmp_path, "run.name": "four", "run.samples": 4, "disc.norm": "none"}
    run = ganzoo.train({**settings, **place, "data": "npz", "data.path": tmp_path / "four.npz"}).path
    with pytest.raises(UsageError, match="judges images of 4 channels, so it cannot see grey or coloured ones"):
        build("discriminator", run=run)


def test_random_weights_are_random(inception: Path) -> None:
    state = read_weights(inception)
    assert all(torch.equal(value, state[name]) for name, value in random_like(state).items())
