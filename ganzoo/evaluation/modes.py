"""Which modes of a mixture of Gaussians a generator covers: the protocol of VEEGAN and PacGAN, said in full.

arXiv:1705.07761, section 4.1, and arXiv:1712.04086, section 4.1.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from ganzoo.errors import GanzooError
from ganzoo.evaluation.histogram import divergence, expected_divergence, shares
from ganzoo.evaluation.result import Score

COUNT: Final = 2_500
"""Samples that the protocol draws."""
SIGMAS: Final = 3.0
"""How many standard deviations from its mode a sample of high quality may be."""
_CHUNK: Final = 16_384


def mode_scores(
    samples: Tensor, centers: Tensor, std: float, *, sigmas: float = SIGMAS
) -> tuple[tuple[Score, ...], dict[str, Any]]:
    """Scores ``modes``, ``high_quality``, ``least_mode`` and ``reverse_kl``.

    A sample belongs to the mode whose center is nearest. It is of high quality if it is at most ``sigmas`` standard
    deviations from there, and then hits the mode. A mode with one hit is recovered. ``least_mode`` is the smallest
    share of a mode in all hits, 1/K at best, and ``reverse_kl`` the divergence of those shares from uniform.

    Args:
        samples: ``[N, D]``; those with numbers that are not finite hit nothing.
        centers: ``[K, D]``.
        std: standard deviation of each mode in each dimension.
        sigmas: how far a sample of high quality may be from its mode.

    The details are ``hits_per_mode`` (K counts), ``high_quality_ceiling`` (what a perfect generator has on average)
    and ``reverse_kl_expected`` (what chance alone makes of ``reverse_kl``).

    Raises:
        GanzooError: the shapes do not fit, or the modes have no width.
    """
    if samples.ndim != 2 or centers.ndim != 2 or samples.shape[1] != centers.shape[1] or not len(samples):
        raise GanzooError(
            f"Modes are counted among points [N, D] around centers [K, D], not {list(samples.shape)} around "
            f"{list(centers.shape)}."
        )
    if not std > 0:
        raise GanzooError("Modes whose standard deviation is 0 cannot be hit: give the data set a positive std.")
    hits = _hits(samples.detach(), centers.detach(), sigmas * std)
    count, modes, total = len(samples), len(centers), int(hits.sum())
    note = "" if count == COUNT else f"from {count:,}; published ones are from 2,500"
    if total:
        least, kl = float(shares(hits).min()), divergence(hits)
    else:
        least, kl = 0.0, math.inf
    scores = (
        Score("modes", f"modes of {modes}", int((hits > 0).sum()), "higher", note=note),
        Score("high_quality", "high quality", total / count, "higher"),
        Score("least_mode", "least mode", least, "higher"),
        Score("reverse_kl", "reverse KL", kl, "lower", note="" if total else "no sample hits a mode"),
    )
    details = {
        "hits_per_mode": hits.tolist(),
        "high_quality_ceiling": within(sigmas, centers.shape[1]),
        "reverse_kl_expected": expected_divergence(modes, count),
    }
    return scores, details


def within(sigmas: float, dim: int) -> float:
    """Probability that a point of a round Gaussian is within so many standard deviations: 98.89 % of 3 in the plane."""
    half = torch.tensor([dim / 2, sigmas**2 / 2], dtype=torch.float64)
    return float(torch.special.gammainc(half[0], half[1]))


def _hits(samples: Tensor, centers: Tensor, radius: float) -> Tensor:
    """Samples of high quality of each mode, ``[K]`` int64 on the CPU."""
    homes = centers.to(device=samples.device, dtype=torch.float64)
    hits = torch.zeros(len(centers), dtype=torch.int64)
    for part in torch.split(samples, _CHUNK):
        # Not by the matrix product, whose rounding is as large as a narrow mode.
        gaps = torch.cdist(part.double(), homes, compute_mode="donot_use_mm_for_euclid_dist")
        distance, nearest = gaps.nan_to_num(nan=math.inf).min(1)
        hits += torch.bincount(nearest[distance <= radius], minlength=len(centers)).cpu()
    return hits
