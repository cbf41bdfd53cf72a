"""Pictures are exact, great circles are great circles, and samples depend on the seed alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganzoo.api import Spec
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.nn.weights import save_tensors
from ganzoo.outputs.grids import extent_of, grid, save_grid, scatter, slerp, strips, to_uint8
from ganzoo.outputs.sampling import sample_to, samples
from ganzoo.registry import build, registry

BLUE, ORANGE, WHITE = (31, 95, 191), (242, 165, 65), (255, 255, 255)


def pixel(image: Image.Image, x: int, y: int) -> Any:
    return image.getpixel((x, y))


def test_pixels_are_exact() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    images = (levels.float() / 127.5 - 1).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(images).flatten(), levels)
    odd = torch.tensor([-1.5, -1, 0, 1, 7, torch.nan, torch.inf, -torch.inf]).reshape(1, 1, 1, 8)
    assert to_uint8(odd).flatten().tolist() == [0, 0, 128, 255, 255, 0, 255, 0]


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 3), (3, 3), (4, 3)])
def test_any_number_of_channels_is_shown(channels: int, shown: int) -> None:
    pixels = to_uint8(torch.ones(2, channels, 4, 4))
    assert pixels.shape == (2, shown, 4, 4)
    assert pixels[0, :, 0, 0].tolist() == [255, 255, 0 if channels == 2 else 255][:shown]


def test_a_grid_is_exact() -> None:
    images = torch.stack([torch.full((3, 2, 4), value) for value in (-0.5, 0.0, 1.0)])
    image = grid(images, columns=2, padding=1, scale=3)
    assert image.size == (1 + 2 * (4 * 3 + 1), 1 + 2 * (2 * 3 + 1))
    assert image.mode == "RGB"
    assert pixel(image, 0, 0) == (0, 0, 0)
    assert pixel(image, 1, 1) == pixel(image, 12, 6) == (64, 64, 64)
    assert pixel(image, 13, 1) == (0, 0, 0)
    assert pixel(image, 14, 1) == (128, 128, 128)
    assert pixel(image, 1, 8) == (255, 255, 255)
    assert pixel(image, 14, 8) == (0, 0, 0)


@pytest.mark.parametrize(("side", "tile"), [(8, 32), (28, 56), (32, 32), (64, 64), (33, 33)])
def test_small_images_are_enlarged_until_visible(side: int, tile: int) -> None:
    assert grid(torch.zeros(1, 1, side, side), padding=0).size == (tile, tile)


@given(n=st.integers(1, 30), columns=st.none() | st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_every_tile_has_a_place(n: int, columns: int | None) -> None:
    images = torch.ones(n, 1, 2, 2)
    image = grid(images, columns, padding=1, scale=1)
    assert sum(image.histogram()[255:256]) == n * 4


def test_nothing_makes_no_grid() -> None:
    with pytest.raises(UsageError, match="at least one image"):
        grid(torch.zeros(0, 1, 8, 8))


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 1, 8, 8), (30, 2), (5, 1)])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_equal_samples_give_equal_files(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    paths = [save_grid(drawn, tmp_path / name / f"grid{suffix}") for name in ("a", "b")]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with Image.open(paths[0]) as image:
        assert image.size == ((512, 512) if len(shape) == 2 else (70, 70))


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a\.gif' is no picture that ganzoo writes; its name ends in \.png"):
        save_grid(torch.zeros(1, 1, 8, 8), tmp_path / "a.gif")


def test_points_lie_over_their_target() -> None:
    extent = (-1.0, 1.0, -1.0, 1.0)
    target = torch.tensor([[0.5, 0.5], [-0.5, -0.5]])
    image = scatter(torch.tensor([[0.5, 0.5], [0.5, -0.5], [9.0, 9.0], [torch.nan, 0.0]]), target, extent)
    assert pixel(image, 384, 128) == BLUE  # up is up
    assert pixel(image, 384, 384) == BLUE
    assert pixel(image, 128, 384) == ORANGE
    assert pixel(image, 128, 128) == WHITE


def test_the_extent_is_a_square_around_the_finite_points() -> None:
    points = torch.tensor([[0.0, 0.0], [2.0, 1.0], [torch.nan, 5.0], [torch.inf, 5.0]])
    left, right, bottom, top = extent_of(points)
    assert (left + right) / 2 == pytest.approx(1)
    assert (bottom + top) / 2 == pytest.approx(0.5)
    assert right - left == pytest.approx(top - bottom)
    assert right > 2
    assert extent_of(points[2:]) == (-1, 1, -1, 1)
    assert extent_of(points[:1])[0] < 0


vectors = st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3)


@given(start=vectors, end=vectors, t=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_slerp(start: list[float], end: list[float], t: float) -> None:
    z0, z1 = torch.tensor(start, dtype=torch.float64), torch.tensor(end, dtype=torch.float64)
    assert torch.allclose(slerp(z0, z1, 0.0), z0, atol=1e-5)
    assert torch.allclose(slerp(z0, z1, 1.0), z1, atol=1e-5)
    assert torch.isfinite(slerp(z0, z1, t)).all()
    assert torch.allclose(slerp(z0, z1, t), slerp(z1, z0, 1 - t), atol=1e-5)
    assert torch.allclose(slerp(z0, 2 * z0, t), (1 + t) * z0, atol=1e-5)
    if z0.norm() > 0.1 and z1.norm() > 0.1:
        one, two = z0 / z0.norm(), z1 / z1.norm()
        if (one + two).norm() > 1e-2:
            assert float(slerp(one, two, t).norm()) == pytest.approx(1, abs=1e-4)


def test_strips_follow_the_prior() -> None:
    z0, z1 = torch.eye(2)[:1], torch.eye(2)[1:]
    straight, round_ = (strips(z0, z1, 3, prior) for prior in ("uniform", "normal"))
    assert torch.allclose(straight, torch.tensor([[1, 0], [0.5, 0.5], [0, 1]]))
    assert torch.allclose(round_, torch.tensor([[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]]), atol=1e-6)
    assert strips(torch.randn(4, 5), torch.randn(4, 5), 6, "normal").shape == (24, 5)


def make_export(folder: Path, name: str, spec: Spec, **options: Any) -> Path:
    choice = registry().choose("generator", name, options)
    torch.manual_seed(0)
    gen = build(choice, spec)
    save_tensors(folder / "model.safetensors", gen.state_dict())
    record = {
        "format": "ganzoo-export/1",
        "generator": {"id": choice.id, "options": options},
        "spec": {"shape": list(spec.shape), "num_classes": spec.num_classes},
        "weights": "ema",
    }
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return make_export(tmp_path / "export", "cgan", Spec((1, 8, 8), 10), width=4, latent_dim=6)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    return make_export(tmp_path / "export", "mlp", Spec((2,)), width=8, latent_dim=3)


def test_one_grid(digits: Path, tmp_path: Path) -> None:
    first, second, other = (tmp_path / f"{name}.png" for name in "abc")
    assert sample_to(digits, first, n=20, device="cpu") == [first]
    sample_to(digits, second, n=20, device="cpu")
    sample_to(digits, other, n=20, seed=1, device="cpu")
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    with Image.open(first) as image:
        assert image.size == (10 * 34 + 2, 2 * 34 + 2)  # a column for each class


def test_a_folder_of_images_names_their_classes(digits: Path, tmp_path: Path) -> None:
    paths = sample_to(digits, tmp_path / "all", n=12, device="cpu")
    assert [path.name for path in paths[:2] + paths[-1:]] == ["00000-0.png", "00001-1.png", "00011-1.png"]
    sevens = sample_to(digits, tmp_path / "sevens", n=3, label=7, device="cpu")
    assert [path.name for path in sevens] == ["00000-7.png", "00001-7.png", "00002-7.png"]
    with Image.open(sevens[0]) as image:
        assert (image.size, image.mode) == ((8, 8), "L")


def test_points_are_a_table_or_a_plot(points: Path, tmp_path: Path) -> None:
    (table,) = sample_to(points, tmp_path / "points", n=5, device="cpu")
    lines = table.read_text(encoding="utf-8").splitlines()
    assert table.name == "points.csv"
    assert lines[0] == "x,y"
    assert len(lines) == 6
    (plot,) = sample_to(points, tmp_path / "points.webp", n=5, device="cpu")
    assert plot.exists()


def test_interpolation_has_a_row_for_each_way_and_one_class_in_it(digits: Path, tmp_path: Path) -> None:
    paths = sample_to(digits, tmp_path / "ways", n=10, interpolate=True, columns=4, device="cpu")
    assert [path.stem[-1] for path in paths] == list("0000111122")
    (strip,) = sample_to(digits, tmp_path / "ways.png", n=10, interpolate=True, columns=4, device="cpu")
    with Image.open(strip) as image:
        assert image.size == (4 * 34 + 2, 3 * 34 + 2)


def test_samples_need_no_batch_boundaries() -> None:
    torch.manual_seed(0)
    gen = build(registry().choose("generator", "mlp", {"width": 4}), Spec((2,))).eval()
    drawn = samples(gen, 600, seed=3)
    assert drawn.shape == (600, 2)
    whole = gen(gen.latent(600, torch.Generator().manual_seed(3)))
    assert torch.allclose(drawn, whole, atol=1e-6)
    drawn.requires_grad_()  # no inference tensor


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"label": 10}, "There is no class 10; --label is 0 to 9"),
        ({"label": -1}, "There is no class -1"),
        ({"n": 0}, "At least one sample"),
        ({"columns": 0}, "At least one sample and one column"),
        ({"device": "abacus"}, "abacus"),
        ({"ema": False}, "holds only the averaged weights"),
    ],
)
def test_wrong_requests_are_sentences(digits: Path, tmp_path: Path, request_: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sample_to(digits, tmp_path / "a.png", **{"device": "cpu", **request_})
    assert not (tmp_path / "a.png").exists()


def test_unconditional_generators_know_no_label(points: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="The generator mlp knows no classes; leave --label out"):
        sample_to(points, tmp_path / "a.png", label=1, device="cpu")


def test_places_that_cannot_be_written_are_sentences(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="is a file; give a folder"):
        sample_to(digits, tmp_path / "file", n=1, device="cpu")
    with pytest.raises(GanzooError, match="is a file, and a folder is needed there"):
        sample_to(digits, tmp_path / "file" / "a.png", n=1, device="cpu")
    with pytest.raises(MissingError, match="no run and no export"):
        sample_to(tmp_path / "nowhere", tmp_path / "a.png", device="cpu")
