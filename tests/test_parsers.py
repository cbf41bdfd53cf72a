"""Whatever bytes a file holds, its reader gives a value or a sentence; and what was written comes back as it was.

Hypothesis chooses the bytes: headers that it makes up, and sound files that it damages.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganzoo.api import Spec, UsageError
from ganzoo.config import resolve
from ganzoo.data.files import ImageFiles, list_images
from ganzoo.data.images import choose_shape, common_shape, decode_images
from ganzoo.errors import GanzooError
from ganzoo.evaluation.statistics import Gaussian
from ganzoo.evaluation.stats_file import read_statistics, write_statistics
from ganzoo.nn.weights import layouts, load_tensors, metadata_of, save_tensors
from ganzoo.outputs.source import open_source
from ganzoo.training.run import Run
from ganzoo_datasets import NpzConfig
from ganzoo_datasets.idx import read_idx
from ganzoo_datasets.npz_source import _look, npz_source

SOME = settings(max_examples=40)
ODD = st.none() | st.booleans() | st.integers(-2, 9) | st.integers() | st.floats() | st.text(max_size=4)
TREE = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner), max_leaves=6
)
SIDES = st.lists(st.integers(0, 3) | st.sampled_from((-1, 2**31, 2**63, 10**30)), max_size=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parsers")


@contextmanager
def a_value_or_a_sentence() -> Iterator[None]:
    """Passes over a GanzooError that says something, and over nothing else; warnings are errors here, as everywhere."""
    try:
        yield
    except GanzooError as err:
        if not str(err).strip():
            pytest.fail("The error says nothing.")


@st.composite
def damaged(draw: st.DrawFn, blob: bytes) -> bytes:
    """``blob`` with a few bytes replaced, cut out or put in, or without its end."""
    raw = bytearray(blob)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(raw[: draw(st.none() | st.integers(0, len(raw)))])


# Arrays in an npz

NAMES = ("mu", "sigma", "n", "extractor", "images", "labels")
TYPES = ("<f4", "<f8", "|u1", "<i8", "|O", "<U64", "<M8[s]", "|V8", ">f8", "<c16", "|b1", "<f3", "")


@st.composite
def npy(draw: st.DrawFn) -> bytes:
    """An array file whose header is made up, wholly or in parts."""
    parts = {
        "descr": repr(draw(st.sampled_from(TYPES) | TREE)),
        "fortran_order": repr(draw(st.booleans() | ODD)),
        "shape": repr(tuple(draw(SIDES))),
    }
    inside = ", ".join(f"{name!r}: {value}" for name, value in parts.items() if draw(st.integers(0, 9)))
    text = draw(st.just(f"{{{inside}}}") | st.text(max_size=30) | st.just(f"{{{inside}}}").flatmap(_torn))
    raw = text.encode("utf-8", "surrogatepass")
    version = draw(st.sampled_from(((1, 0), (2, 0), (3, 0), (9, 1))))
    length = len(raw) if draw(st.integers(0, 5)) else draw(st.integers(0, 70_000)) % 65_536
    return b"\x93NUMPY" + bytes(version) + length.to_bytes(2 if version[0] == 1 else 4, "little") + raw + bytes(16)


def _torn(text: str) -> st.SearchStrategy[str]:
    return st.integers(0, len(text)).map(lambda at: text[:at])


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


@cache
def sound_npz() -> bytes:
    """Statistics and a data set in one file."""
    out = io.BytesIO()
    pixels = np.arange(54, dtype=np.uint8).reshape(6, 3, 3)
    n, labels = np.array(9), np.arange(6) % 3
    np.savez(out, mu=np.ones(2), sigma=np.eye(2), n=n, extractor=np.array("a" * 64), images=pixels, labels=labels)
    return out.getvalue()


def read_npz(folder: Path, blob: bytes) -> None:
    """By both readers of such files."""
    file = folder / "x.npz"
    file.write_bytes(blob)
    with a_value_or_a_sentence():
        found = read_statistics(file)
        assert found.covariance is not None
        assert found.covariance.shape == (found.dim, found.dim)
        assert bool(found.covariance.isfinite().all())
    with a_value_or_a_sentence():
        _look.cache_clear()  # files of one name within a tick of the clock
        source = npz_source(NpzConfig(path=file))
        samples, labels = source.read()
        assert samples.shape[1:] == source.spec.shape
        assert labels is None or len(labels) == len(samples)


@SOME
@given(st.dictionaries(st.sampled_from(NAMES), npy(), min_size=1, max_size=2))
def test_headers_of_arrays(folder: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(io.BytesIO(sound_npz())) as archive:
        sound = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    read_npz(folder, packed(sound | members))


@SOME
@given(damaged(sound_npz()) | st.binary(max_size=64))
def test_damaged_archives(folder: Path, blob: bytes) -> None:
    read_npz(folder, blob)


@SOME
@given(
    st.integers(1, 5).flatmap(lambda dim: st.lists(st.floats(-1e100, 1e100), min_size=2 * dim, max_size=2 * dim)),
    st.none() | st.integers(2, 2**40),
    st.sampled_from(("", "0f" * 32)),
)
def test_statistics_come_back(folder: Path, numbers: list[float], count: int | None, digest: str) -> None:
    dim = len(numbers) // 2
    spread = torch.tensor(numbers[dim:], dtype=torch.float64)
    covariance = torch.minimum(spread[:, None], spread).abs()
    before = Gaussian(torch.tensor(numbers[:dim], dtype=torch.float64), covariance, count, digest)
    write_statistics(folder / "s.npz", before)
    after = read_statistics(folder / "s.npz")
    assert after.covariance is not None
    assert torch.equal(after.mean, before.mean)
    assert torch.allclose(after.covariance, covariance, rtol=1e-15)
    assert (after.count, after.extractor) == (count, digest)


# Tensors in a safetensors file

FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(("F32", "F64", "U8", "BOOL", "BF16", "F4", "X")) | ODD,
        "shape": SIDES | ODD,
        "data_offsets": st.lists(st.integers(0, 40) | st.sampled_from((-1, 2**63, 2**64)), max_size=3) | ODD,
        "also": ODD,
    },
)
HEADERS = st.dictionaries(st.sampled_from(("a", "b", "", "__metadata__", "\x1b[31m")), FIELDS | TREE, max_size=3)


@cache
def sound_weights() -> bytes:
    from safetensors.torch import save

    return bytes(save({"a": torch.ones(2, 3), "b": torch.arange(3)}, {"format": "pt"}))


def with_header(header: Any) -> bytes:
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(24)


@SOME
@given(HEADERS.map(with_header) | TREE.map(with_header) | damaged(sound_weights()) | st.binary(max_size=64))
def test_headers_of_tensors(folder: Path, blob: bytes) -> None:
    file = folder / "x.safetensors"
    file.write_bytes(blob)
    with a_value_or_a_sentence():
        told = layouts(file)
        found = load_tensors(file)
        assert {name: layout.shape for name, layout in told.items()} == {
            name: tuple(tensor.shape) for name, tensor in found.items()
        }
        assert all(bool(tensor.isfinite().all()) for tensor in found.values())
    with a_value_or_a_sentence():
        assert all(isinstance(value, str) for value in metadata_of(file).values())


@SOME
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from((torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool)),
            st.lists(st.integers(0, 3), max_size=4),
        ),
        max_size=4,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_tensors_come_back(folder: Path, asked: dict[str, tuple[torch.dtype, list[int]]], told: dict[str, str]) -> None:
    tensors = {name: torch.arange(math.prod(shape)).reshape(shape).to(dtype) for name, (dtype, shape) in asked.items()}
    save_tensors(folder / "t.safetensors", tensors, told)
    found = load_tensors(folder / "t.safetensors", tensors)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert metadata_of(folder / "t.safetensors") == told


# The idx files of MNIST

SMALL = st.lists(st.integers(0, 4), min_size=1, max_size=3)


def idx_of(shape: list[int]) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(side.to_bytes(4, "big") for side in shape)
    return header + bytes(i % 256 for i in range(math.prod(shape)))


@SOME
@given(SMALL, st.booleans())
def test_idx_files_come_back(folder: Path, shape: list[int], zipped: bool) -> None:
    blob = idx_of(shape)
    (folder / "x").write_bytes(gzip.compress(blob) if zipped else blob)
    found = read_idx(folder / "x", len(shape))
    assert found.shape == tuple(shape)
    assert found.tobytes() == blob[4 + 4 * len(shape) :]


@SOME
@given(
    SMALL.map(idx_of).flatmap(damaged)
    | SMALL.map(idx_of).map(gzip.compress).flatmap(damaged)
    | SMALL.map(idx_of).flatmap(damaged).map(gzip.compress)
    | st.binary(max_size=32).map(lambda tail: bytes([0, 0, 8, 2]) + tail)
    | st.binary(max_size=32),
    st.integers(1, 3),
)
def test_idx_files(folder: Path, blob: bytes, ndim: int) -> None:
    (folder / "x").write_bytes(blob)
    with a_value_or_a_sentence():
        found = read_idx(folder / "x", ndim)
        assert found.ndim == ndim
        assert found.size <= 2**16


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
