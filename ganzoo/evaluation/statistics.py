"""Mean and covariance of features, and the Fréchet distance between two of them. All arithmetic is in float64."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import linear_regression
from typing import Final, Self

import torch
from torch import Tensor

from ganzoo.errors import GanzooError, UsageError

_ROUND_OFF: Final = 1e-13
"""An eigenvalue smaller than this, times the largest and their number, is round-off."""
_LOSS: Final = 1e-6
"""Share of the distance that the quick form may lose; else, as for nearly equal sets, the exact one is taken."""
_SMALL: Final = 256
"""Up to this size the exact form costs nothing worth saving."""
_SIZES: Final = 15


@dataclass(frozen=True)
class Gaussian:
    """What the Fréchet distance knows of a set of features.

    Attributes:
        mean: ``[F]`` float64.
        covariance: ``[F, F]`` float64, unbiased; None if ``centred`` says it with fewer numbers.
        count: how many samples it comes from; None if a file does not say.
        extractor: digest of the extractor; empty if a file does not say.
        centred: ``[N, F]`` float64 features less their mean, of fewer samples than features, else None.
    """

    mean: Tensor
    covariance: Tensor | None
    count: int | None = None
    extractor: str = ""
    centred: Tensor | None = None

    @property
    def dim(self) -> int:
        """How many features there are."""
        return len(self.mean)

    @property
    def trace(self) -> float:
        """Sum of the variances."""
        if self.covariance is not None:
            return float(self.covariance.trace())
        assert self.centred is not None
        return float(self.centred.square().sum() / (len(self.centred) - 1))

    def factor(self) -> Tensor:
        """A matrix ``A [F, r]`` with ``A A^T`` equal to the covariance.

        Raises:
            GanzooError: the matrix is no covariance: it has eigenvalues far below zero.
        """
        if self.centred is not None:
            scaled: Tensor = self.centred.T / (len(self.centred) - 1) ** 0.5
            return scaled
        assert self.covariance is not None
        lower, failed = torch.linalg.cholesky_ex(self.covariance)
        if not failed:
            found: Tensor = lower
            return found
        values, vectors = torch.linalg.eigh(self.covariance)
        noise = _ROUND_OFF * self.dim * float(values[-1].clamp_min(0))
        if values[0] < -max(noise, 1e-6 * float(values[-1].abs())):
            raise GanzooError(
                f"A covariance matrix has no negative eigenvalues, and this one has {float(values[0]):.3g} (its "
                f"largest is {float(values[-1]):.3g}): the statistics are damaged, or not those of features."
            )
        kept = values > noise
        root: Tensor = vectors[:, kept] * values[kept].sqrt()
        return root


class Moments:
    """Mean and covariance of features that arrive in batches, in memory that does not grow with their number.

    Batches are merged by the formula of Chan, Golub and LeVeque, not by sums of squares, so neither their size nor
    their order matters beyond round-off.

    Args:
        dim: F, how many features there are.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add ``features [B, F]`` of any floating type and device.

        Raises:
            GanzooError: they are not finite, or not F.
        """
        if features.dim() != 2 or features.shape[1] != len(self._mean):
            raise GanzooError(f"Features are [B, {len(self._mean)}], not {list(features.shape)}.")
        if not len(features):
            return
        rows = features.detach().to("cpu", torch.float64)
        mean = rows.mean(0)
        if not mean.isfinite().all():
            raise GanzooError("Some features are not finite (NaN or infinity); look at the images and the extractor.")
        rows = rows - mean
        self._merge(len(rows), mean, rows)

    def merge(self, other: Moments) -> None:
        """Add everything that ``other`` has seen."""
        if other.count:
            self._scatter += other._scatter
            self._merge(other.count, other._mean, other._mean.new_empty(0, len(other._mean)))

    def _merge(self, count: int, mean: Tensor, centred: Tensor) -> None:
        total = self.count + count
        step = mean - self._mean
        # The distance between the means is one more row of the product.
        rows = torch.cat([centred, step.mul((self.count * count / total) ** 0.5).unsqueeze(0)])
        self._scatter.addmm_(rows.T, rows)
        self._mean += step * (count / total)
        self.count = total

    @property
    def mean(self) -> Tensor:
        """``[F]``."""
        return self._mean

    @property
    def covariance(self) -> Tensor:
        """``[F, F]``, unbiased.

        Raises:
            UsageError: fewer than two samples have been seen.
        """
        if self.count < 2:
            raise UsageError(f"A covariance needs at least 2 samples, and there {_are(self.count)}.")
        return (self._scatter + self._scatter.T) / (2 * (self.count - 1))

    def gaussian(self, extractor: str = "") -> Gaussian:
        """What has been seen, for :func:`frechet_distance`; ``extractor`` is the digest of what made the features."""
        return Gaussian(self._mean.clone(), self.covariance, self.count, extractor)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors to keep in a file."""
        return {"count": torch.tensor(self.count), "mean": self._mean, "scatter": self._scatter}

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> Self:
        """Take back what :meth:`state_dict` gave."""
        found = cls(len(state["mean"]))
        found.count = int(state["count"])
        found._mean, found._scatter = state["mean"].clone(), state["scatter"].clone()
        return found


def gaussian_of(features: Tensor, extractor: str = "") -> Gaussian:
    """The Gaussian of ``features [N, F]``; where N is at most F, kept as the features less their mean.

    Raises:
        UsageError: there are fewer than two samples.
        GanzooError: they are not finite.
    """
    if len(features) < 2 or len(features) > features.shape[1]:
        moments = Moments(features.shape[1])
        for part in torch.split(features, 4096):
            moments.update(part)
        return moments.gaussian(extractor)
    rows = features.detach().to("cpu", torch.float64)
    mean = rows.mean(0)
    if not mean.isfinite().all():
        raise GanzooError("Some features are not finite (NaN or infinity); look at the images and the extractor.")
    return Gaussian(mean, None, len(rows), extractor, rows - mean)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """``|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)``, zero for equal ones.

    With ``S = A A^T`` the last trace is the sum of the singular values of ``A1^T A2``. The factor is the Cholesky one,
    or, where the matrix is singular, that of its symmetric eigendecomposition without what is round-off; of samples
    fewer than features it is the samples themselves, which makes the matrix small.

    Raises:
        UsageError: they have different numbers of features, or come from different extractors.
        GanzooError: one of them is no covariance.
    """
    _check_alike(a, b)
    return _distance(a, b)


def smallest_size(count: int, dim: int) -> int:
    """The fewest samples to extrapolate from: a tenth of N, or F, if that is more and at most half of N.

    Up to F the distance is no line over 1/n: the extrapolation comes out too low, even negative.
    """
    return max(2, count // 10, min(dim, count // 2))


def fid_infinity(features: Tensor, reference: Gaussian, *, sizes: int = _SIZES, seed: int = 2020) -> float:
    """The distance that infinitely many samples would have, by the line through distances over 1/n (arXiv:1911.07023).

    Args:
        features: ``[N, F]`` of what is scored.
        reference: what it is compared with; its own bias stays.
        sizes: how many sample counts to fit, spaced evenly between :func:`smallest_size` and N.
        seed: of the samples that are taken each time.

    Raises:
        UsageError: there are too few samples for so many sizes.
    """
    count, dim = features.shape
    least = smallest_size(count, dim)
    counts = sorted({round(least + (count - least) * step / max(sizes - 1, 1)) for step in range(sizes)})
    if sizes < 2 or len(counts) < sizes:
        raise UsageError(
            f"{count} samples are too few to extrapolate from {sizes} sample counts; generate more with --samples."
        )
    factor = reference.factor()
    rng = torch.Generator().manual_seed(seed)
    distances = []
    for n in counts:
        chosen = torch.randperm(count, generator=rng)[:n]
        part = gaussian_of(features[chosen], reference.extractor)
        _check_alike(part, reference)
        distances.append(_distance(part, reference, factor))
    # Not by lstsq, whose last digits depend on where its arguments lie in memory.
    return linear_regression([1 / n for n in counts], distances).intercept


def _distance(a: Gaussian, b: Gaussian, factor: Tensor | None = None) -> float:
    """The distance; ``factor`` is that of ``b`` where it is known."""
    between = float((a.mean - b.mean).square().sum())
    spread = a.trace + b.trace
    left = a.factor()
    if b.covariance is not None and left.shape[1] > _SMALL:
        total, lost = _quick_trace(left.T @ b.covariance @ left)
        distance = between + spread - 2 * total
        if 2 * lost <= _LOSS * distance:
            return distance
    right = b.factor() if factor is None else factor
    distance = between + spread - 2 * float(torch.linalg.svdvals(left.T @ right).sum())
    # It is never negative. What equal ones leave below zero is round-off; anything more would be a fault to be seen.
    return 0.0 if -_ROUND_OFF * len(a.mean) * spread <= distance < 0 else distance


def _quick_trace(product: Tensor) -> tuple[float, float]:
    """Sum of the roots of the eigenvalues of ``A1^T S2 A1``, in half the time of the singular values; and what is lost.

    An eigenvalue is right to ``d = eps * largest``, its root ``s`` therefore to ``d / (2 s)``, or to ``sqrt d`` if that
    is less.
    """
    squares = torch.linalg.eigvalsh(product).clamp_min(0)
    values = squares.sqrt()
    error = torch.finfo(torch.float64).eps * squares[-1]
    lost = torch.minimum(error / (2 * values), error.sqrt())
    return float(values.sum()), float(lost.sum())


def _check_alike(a: Gaussian, b: Gaussian) -> None:
    if a.dim != b.dim:
        raise UsageError(
            f"Statistics of {a.dim} features cannot be compared with those of {b.dim}: use one extractor for both."
        )
    if a.extractor and b.extractor and a.extractor != b.extractor:
        raise UsageError(
            f"The statistics come from different extractors ({a.extractor[:12]} and {b.extractor[:12]}), so their "
            "distance means nothing: use one extractor, with one weights file, for both."
        )


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"
