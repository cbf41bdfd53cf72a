"""Whatever bytes a file holds, its reader gives a value or a sentence; and what was written comes back as it was.

Hypothesis chooses the bytes: headers that it makes up, and sound files that it damages.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_bytes import ODD, SIDES, SOME, TREE, a_value_or_a_sentence, damaged

from ganzoo.evaluation.statistics import Gaussian
from ganzoo.evaluation.stats_file import read_statistics, write_statistics
from ganzoo.nn.weights import layouts, load_tensors, metadata_of, save_tensors
from ganzoo_datasets import NpzConfig
from ganzoo_datasets.idx import read_idx
from ganzoo_datasets.npz_source import _look, npz_source


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parsers")


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


@SOME
@given(
    st.integers(1, 4),
    st.sampled_from(((5, 3), (5, 3, 1), (5, 3, 3), (3, 5, 7))),
    st.integers(0, 2**32),
    st.booleans(),
)
def test_data_sets_come_back(folder: Path, count: int, shape: tuple[int, ...], seed: int, labelled: bool) -> None:
    rng = np.random.default_rng(seed)
    pixels, labels = rng.integers(0, 256, (count, *shape), dtype=np.uint8), rng.permutation(count)
    file = folder / "d.npz"
    arrays: dict[str, Any] = {"images": pixels} | ({"labels": labels} if labelled else {})
    np.savez(file, **arrays)
    _look.cache_clear()
    found, classes = npz_source(NpzConfig(path=file)).read()
    first = pixels[:, None] if len(shape) == 2 else pixels if shape[0] == 3 else pixels.transpose(0, 3, 1, 2)
    assert np.array_equal(found, first)
    assert (classes is None) != labelled
    assert classes is None or np.array_equal(classes, labels)


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
