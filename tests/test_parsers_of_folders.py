"""Images and records of runs, whatever bytes their files hold: a value or a sentence; what was written comes back.

Hypothesis chooses the bytes: headers that it makes up, and sound files that it damages.
"""

from __future__ import annotations

import io
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_bytes import ODD, SOME, a_value_or_a_sentence, damaged
from PIL import Image

from ganzoo.api import Spec, UsageError
from ganzoo.config import resolve
from ganzoo.data.files import ImageFiles, list_images
from ganzoo.data.images import choose_shape, common_shape, decode_images
from ganzoo.outputs.source import open_source
from ganzoo.training.run import Run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parsers")


# Image files

FORMATS = {"PNG": "png", "BMP": "bmp", "PPM": "ppm", "TIFF": "tif", "GIF": "gif", "JPEG": "jpg", "WEBP": "webp"}


def image_of(kind: str, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


@cache
def sound_image(kind: str) -> bytes:
    return image_of(kind, np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8))


def read_image(folder: Path, suffix: str, blob: bytes) -> None:
    place = folder / "images"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    (place / f"x.{suffix}").write_bytes(blob)
    files = list_images(place)
    with a_value_or_a_sentence():
        channels, height, width = common_shape(files)
        assert channels in (1, 3)
        assert height >= 1 <= width
    with a_value_or_a_sentence():
        shape = choose_shape(files)
        found, kept = decode_images(files, shape)
        assert found.shape == (1, *shape)
        assert kept == [0]


@SOME
@given(st.sampled_from(sorted(FORMATS)).flatmap(lambda kind: st.tuples(st.just(kind), damaged(sound_image(kind)))))
def test_damaged_images(folder: Path, case: tuple[str, bytes]) -> None:
    read_image(folder, FORMATS[case[0]], case[1])


@SOME
@given(
    st.binary(max_size=40).map(lambda tail: sound_image("PNG")[:16] + tail)
    | st.lists(st.integers() | st.sampled_from(("5", "#", "\n")), max_size=5).map(
        lambda parts: ("P6 " + " ".join(map(str, parts)) + "\n").encode() + bytes(60)
    )
    | st.binary(max_size=40).map(lambda tail: b"GIF89a" + tail)
    | st.binary(max_size=40).map(lambda tail: b"BM" + tail)
    | st.binary(max_size=40).map(lambda tail: b"II*\0\x08\0\0\0" + tail)
    | st.binary(max_size=40),
    st.sampled_from(sorted(FORMATS.values())),
)
def test_headers_of_images(folder: Path, blob: bytes, suffix: str) -> None:
    read_image(folder, suffix, blob)


@SOME
@given(
    st.sampled_from(("PNG", "BMP", "PPM", "TIFF")),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from((1, 3))),
    st.integers(0, 2**32),
)
def test_pixels_come_back(folder: Path, kind: str, size: tuple[int, int, int], seed: int) -> None:
    height, width, channels = size
    pixels = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    (folder / f"one.{FORMATS[kind]}").write_bytes(image_of(kind, pixels[..., 0] if channels == 1 else pixels))
    found, _ = decode_images(ImageFiles(folder, (f"one.{FORMATS[kind]}",)), (channels, height, width))
    assert np.array_equal(found[0], pixels.transpose(2, 0, 1))


# config.json

KEYS = ("format", "config", "spec", "versions", "shape", "num_classes", "gen", "disc", "name", "run", "steps", "width")
TABLES = st.recursive(
    ODD | st.sampled_from(("ganzoo-run/1", "ganzoo-export/1", "mlp", "ring")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@cache
def sound_config() -> dict[str, Any]:
    config = resolve()
    spec = config.spec()
    told = {"shape": list(spec.shape), "num_classes": spec.num_classes}
    saved: dict[str, Any] = json.loads(json.dumps({"format": "ganzoo-run/1", "config": config.to_dict(), "spec": told}))
    return saved


@st.composite
def another_config(draw: st.DrawFn) -> bytes:
    """A sound one with something else in one place, however deep."""
    tree: dict[str, Any] = json.loads(json.dumps(sound_config()))
    place: Any = tree
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inside = place[key]
        if not isinstance(inside, (dict, list)) or not inside or not draw(st.integers(0, 3)):
            break
        place = inside
    place[key] = draw(TABLES)
    return json.dumps(tree).encode()


@settings(max_examples=80)
@given(
    another_config()
    | TABLES.map(lambda tree: json.dumps(tree).encode())
    | damaged(json.dumps(sound_config()).encode())
    | st.binary(max_size=32)
)
def test_records_of_runs(folder: Path, blob: bytes) -> None:
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "config.json").write_bytes(blob)
    with a_value_or_a_sentence():
        assert isinstance(Run.open(folder / "run").spec, Spec)
    with a_value_or_a_sentence():
        assert open_source(folder / "run").kind in ("run", "export")


def test_a_record_comes_back(folder: Path) -> None:
    (folder / "whole").mkdir()
    run = Run(folder / "whole", resolve(), resolve().spec())
    run.write_config({})
    again = Run.open(folder / "whole")
    assert (again.config, again.spec) == (run.config, run.spec)


def test_the_watch_lets_nothing_else_pass() -> None:
    with pytest.raises(ValueError, match="x"), a_value_or_a_sentence():
        raise ValueError("x")
    with pytest.raises(pytest.fail.Exception), a_value_or_a_sentence():
        raise UsageError(" ")
    with pytest.raises(UserWarning), a_value_or_a_sentence():
        warnings.warn("x", stacklevel=1)
    with a_value_or_a_sentence():
        raise UsageError("A sentence.")
