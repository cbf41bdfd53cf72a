"""Histograms of classes or modes: what their entropy and divergence are, and how far chance alone takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.errors import GanzooError


def shares(counts: Tensor) -> Tensor:
    """Counts ``[K]`` as float64 shares that sum to 1.

    Raises:
        GanzooError: one is negative or not finite, or all are zero.
    """
    counts = counts.detach().cpu().double()
    total = counts.sum()
    if counts.ndim != 1 or not bool(torch.isfinite(counts).all()) or bool((counts < 0).any()) or not total > 0:
        raise GanzooError("A histogram needs counts of zero or more, and one that is not zero.")
    return counts / total


def entropy(counts: Tensor) -> float:
    """Entropy in nats of a histogram ``[K]``; log K if all are equal."""
    p = shares(counts)
    # Not minus the sum: the entropy of a single class is 0, not -0.
    return float(torch.special.entr(p).sum())


def divergence(counts: Tensor, reference: Tensor | None = None) -> float:
    """``KL(p || q)`` in nats from the histogram p ``[K]`` to the histogram q ``[K]``; q is uniform unless given.

    Infinite if something was counted that the reference does not have.
    """
    p = shares(counts)
    q = shares(torch.ones_like(p) if reference is None else reference)
    if len(p) != len(q):
        raise GanzooError(f"Histograms of {len(p)} and {len(q)} bins cannot be compared.")
    terms = torch.where(p > 0, p * (p / q).log(), 0.0)
    return max(float(terms.sum()), 0.0)  # rounding can end a little below zero


def expected_divergence(bins: int, count: int) -> float:
    """What :func:`divergence` from a uniform reference is on average if ``count`` draws come from it.

    The first two terms of the expansion in 1/N; too high where draws are fewer than a few times the bins.
    """
    return (bins - 1) / (2 * count) + (bins**2 - 1) / (12 * count**2)
