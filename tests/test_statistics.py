"""The Fréchet distance and what it is made of, against values by hand, numpy, and torch-fidelity."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ganzoo.backends import torch_fidelity
from ganzoo.errors import GanzooError, MissingError, UsageError
from ganzoo.evaluation.statistics import Gaussian, Moments, fid_infinity, frechet_distance, gaussian_of
from ganzoo.evaluation.stats_file import read_statistics, write_statistics


def normal(n: int, dim: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Correlated features whose variances fall off over four orders of magnitude."""
    rng = torch.Generator().manual_seed(seed)
    mix = torch.randn(dim, dim, generator=torch.Generator().manual_seed(7)) / dim**0.5
    fall = torch.logspace(0, -2, dim)
    made: Tensor = (torch.randn(n, dim, generator=rng) * fall * scale) @ mix + shift
    return made


def moments_of(features: Tensor, sizes: list[int]) -> Moments:
    moments = Moments(features.shape[1])
    for part in torch.split(features, sizes):
        moments.update(part)
    return moments


def independent(a: Tensor, b: Tensor) -> float:
    """FID by the textbook, in float64, by the eigenvalues of the plain product."""
    x, y = a.double().numpy(), b.double().numpy()
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    root = np.sqrt(np.linalg.eigvals(s @ t).astype(complex)).real.sum()
    return float(gap @ gap + np.trace(s) + np.trace(t) - 2 * root)


def test_moments_are_those_of_all_features() -> None:
    moments = moments_of(torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]]), [1, 2])
    assert moments.count == 3
    assert moments.mean.tolist() == pytest.approx([3, 4])
    assert moments.covariance.flatten().tolist() == pytest.approx([4, 6, 6, 12])


@given(st.lists(st.integers(1, 90), min_size=1, max_size=12), st.floats(-1e4, 1e4))
def test_sizes_and_order_of_batches_do_not_matter(sizes: list[int], shift: float) -> None:
    features = normal(sum(sizes), 5, 1, shift=shift).double()
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(3))
    whole, parts = moments_of(features, [len(features)]), moments_of(features[order], sizes)
    merged = Moments(5)
    for part in torch.split(features, sizes):
        merged.merge(moments_of(part, [len(part)]))
    for other in (parts, merged):
        assert other.count == whole.count
        assert torch.allclose(other.mean, whole.mean, rtol=1e-12, atol=1e-12)
        if whole.count > 1:
            assert torch.allclose(other.covariance, whole.covariance, rtol=1e-10, atol=1e-10)


def test_a_large_offset_costs_no_digits() -> None:
    features = normal(4000, 3, 2).double()
    far = moments_of(features + 1e6, [64] * 62 + [32]).covariance
    assert torch.allclose(far, torch.cov(features.T), rtol=1e-8, atol=1e-9)


def test_moments_survive_a_file() -> None:
    moments = moments_of(normal(50, 4, 0), [20, 30])
    back = Moments.from_state(moments.state_dict())
    back.update(normal(10, 4, 1))
    moments.update(normal(10, 4, 1))
    assert torch.equal(back.covariance, moments.covariance)


def test_what_is_not_finite_or_too_little_is_refused() -> None:
    moments = Moments(2)
    with pytest.raises(GanzooError, match="not finite"):
        moments.update(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(GanzooError, match=r"\[B, 2\], not \[1, 3\]"):
        moments.update(torch.zeros(1, 3))
    moments.update(torch.zeros(1, 2))
    with pytest.raises(UsageError, match="at least 2 samples, and there is 1"):
        _ = moments.covariance


def test_the_distance_by_hand() -> None:
    # In one dimension it is (m1 - m2)^2 + (s1 - s2)^2; diagonal covariances add up.
    a = Gaussian(torch.tensor([0.0, 1.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double())
    b = Gaussian(torch.tensor([3.0, 1.0]).double(), torch.diag(torch.tensor([1.0, 25.0])).double())
    assert frechet_distance(a, b) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 5) ** 2, abs=1e-12)
    # Four samples of which two features are the same: the covariance is singular.
    x = torch.tensor([[0.0, 0.0], [2.0, 2.0], [0.0, 0.0], [2.0, 2.0]])
    y = torch.tensor([[0.0, 0.0], [6.0, 6.0], [0.0, 0.0], [6.0, 6.0]])
    # Along the diagonal: means sqrt(2) * (1, 3), deviations sqrt(2) * (1, 3) * sqrt(4 / 3).
    assert frechet_distance(gaussian_of(x), gaussian_of(y)) == pytest.approx(8 + 2 * 4 * 4 / 3, abs=1e-9)


@pytest.mark.parametrize("count", [40, 64, 65, 200, 3000])
def test_it_equals_independent_code_and_torch_fidelitys(count: int) -> None:
    torch_fidelity()
    theirs: Any = importlib.import_module("torch_fidelity.metric_fid")
    a, b = normal(count, 64, 1).double(), normal(3000, 64, 2, scale=1.2, shift=0.1).double()
    mine = frechet_distance(gaussian_of(a), moments_of(b, [1000, 2000]).gaussian())
    statistics = [theirs.fid_features_to_statistics(features) for features in (a, b)]
    other = theirs.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert mine == pytest.approx(independent(a, b), abs=1e-6)
    assert mine == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("count", [2, 10, 63, 64, 65, 70, 1000])
def test_a_set_is_at_no_distance_from_itself(count: int) -> None:
    features = normal(count, 64, 5) * 30
    both = [gaussian_of(features), moments_of(features, [1, count - 1]).gaussian()]
    for a in both:
        for b in both:
            assert 0 <= frechet_distance(a, b) < 1e-6


@pytest.mark.parametrize("decades", [0.5, 3.0])
def test_the_quick_form_for_many_features_is_as_exact(decades: float) -> None:
    fall = torch.logspace(0, -decades, 300).double()
    sets = [normal(900, 300, seed).double() * fall * scale for seed, scale in ((1, 1.0), (2, 1.1))]
    assert frechet_distance(*map(gaussian_of, sets)) == pytest.approx(independent(*sets), rel=2e-6)
    assert 0 <= frechet_distance(gaussian_of(sets[0]), gaussian_of(sets[0])) < 1e-9


def test_few_samples_are_kept_as_they_are_and_give_the_same() -> None:
    a, b = normal(30, 64, 1), normal(50, 64, 2, scale=2)
    assert gaussian_of(a).covariance is None
    full = [moments_of(features, [len(features)]).gaussian() for features in (a, b)]
    assert frechet_distance(gaussian_of(a), gaussian_of(b)) == pytest.approx(frechet_distance(*full), rel=1e-7)


def test_it_is_symmetric() -> None:
    a, b = gaussian_of(normal(500, 16, 1)), gaussian_of(normal(12, 16, 2, scale=3))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_what_cannot_be_compared_is_refused() -> None:
    a, b = gaussian_of(normal(9, 4, 1), "a" * 64), gaussian_of(normal(9, 4, 1), "b" * 64)
    with pytest.raises(UsageError, match="different extractors"):
        frechet_distance(a, b)
    with pytest.raises(UsageError, match="4 features cannot be compared with those of 5"):
        frechet_distance(a, gaussian_of(normal(9, 5, 1)))
    crooked = Gaussian(torch.zeros(2).double(), torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double())
    with pytest.raises(GanzooError, match="no negative eigenvalues"):
        frechet_distance(crooked, crooked)


def test_fid_infinity_takes_the_bias_away() -> None:
    """Two sets of one distribution are at distance 0; what a finite set shows is bias."""
    reference = Gaussian(torch.zeros(32).double(), torch.eye(32).double())
    features = torch.randn(1000, 32, generator=torch.Generator().manual_seed(2))
    biased = frechet_distance(gaussian_of(features), reference)
    assert biased > 0.2
    assert abs(fid_infinity(features, reference)) < biased / 4
    assert fid_infinity(features, reference) == fid_infinity(features, reference)
    with pytest.raises(UsageError, match="too few to extrapolate"):
        fid_infinity(features[:12], reference)


def test_statistics_go_through_a_file(tmp_path: Path) -> None:
    a, b = normal(100, 8, 1), normal(5, 8, 2)
    for features in (a, b):
        file = tmp_path / f"{len(features)}.npz"
        write_statistics(file, gaussian_of(features, "c" * 64))
        back = read_statistics(file)
        assert (back.count, back.extractor) == (len(features), "c" * 64)
        assert frechet_distance(back, gaussian_of(features)) < 1e-6
        with np.load(file, allow_pickle=False) as arrays:
            assert np.allclose(arrays["sigma"], np.cov(features.double().numpy(), rowvar=False))


def test_files_of_other_tools_are_read(tmp_path: Path) -> None:
    x = normal(50, 6, 1).double().numpy()
    arrays: dict[str, Any] = {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False).astype(np.float32)}
    np.savez_compressed(tmp_path / "other.npz", **arrays, arr_0=np.zeros((2, 4, 4, 3), np.uint8))
    back = read_statistics(tmp_path / "other.npz")
    assert back.count is None
    assert back.extractor == ""
    assert frechet_distance(back, gaussian_of(torch.from_numpy(x))) < 1e-6


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no sigma": ({"mu": np.zeros(3)}, "holds no sigma"),
    "shapes": ({"mu": np.zeros(3), "sigma": np.zeros((2, 2))}, r"mu \[3\] and sigma \[2, 2\]"),
    "integers": ({"mu": np.zeros(2, np.int64), "sigma": np.eye(2)}, "mu of int64"),
    "not finite": ({"mu": np.array([0.0, np.nan]), "sigma": np.eye(2)}, "mu holds numbers that are not finite"),
    "crooked": ({"mu": np.zeros(2), "sigma": np.array([[1.0, 2.0], [0.0, 1.0]])}, "not symmetric"),
    "negative": ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "negative variances"),
    "count": ({"mu": np.zeros(2), "sigma": np.eye(2), "n": np.array(1)}, "n = 1 samples"),
    "counts": ({"mu": np.zeros(2), "sigma": np.eye(2), "n": np.zeros(7, np.int64)}, "no such thing"),
    "extractor": ({"mu": np.zeros(2), "sigma": np.eye(2), "extractor": np.array("me")}, "no SHA-256"),
    "objects": ({"mu": np.array([None, {}]), "sigma": np.eye(2)}, "mu"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_a_sentence(tmp_path: Path, name: str) -> None:
    arrays, words = BAD[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(GanzooError, match=words) as caught:
        read_statistics(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


def test_what_is_no_npz_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        read_statistics(tmp_path / "nowhere.npz")
    (tmp_path / "text.npz").write_text("mu")
    with pytest.raises(UsageError, match="no npz of statistics"):
        read_statistics(tmp_path / "text.npz")
    write_statistics(tmp_path / "whole.npz", gaussian_of(normal(50, 30, 1)))
    torn = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(torn[: len(torn) // 2])
    with pytest.raises(UsageError, match="no npz of statistics"):
        read_statistics(tmp_path / "torn.npz")


def test_an_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }"
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        for name, shape in (("mu", b"1000000,"), ("sigma", b"1000000, 1000000")):
            text = header % shape
            text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(UsageError, match=r"promises 8[0-9]+ bytes and there are 1"):
        read_statistics(tmp_path / "bomb.npz")
    zeros = np.zeros(20_000)
    np.savez_compressed(tmp_path / "wide.npz", mu=zeros, sigma=np.zeros((1, 1)))
    with pytest.raises(UsageError, match="with F from 1 to 16,384"):
        read_statistics(tmp_path / "wide.npz")
