"""Losses without options: least squares, hinge, and relativistic pairing."""

from __future__ import annotations

from collections.abc import Iterator

from ganzoo.api import Component, hookimpl


@hookimpl
def ganzoo_components() -> Iterator[Component]:
    """The losses."""
    yield Component(
        "loss",
        "lsgan",
        target="ganzoo_losses.losses:LeastSquares",
        summary="Least squares to the targets 0 for fakes and 1 for reals, on raw logits.",
        paper="arXiv:1611.04076",
    )
    yield Component(
        "loss",
        "hinge",
        target="ganzoo_losses.losses:Hinge",
        summary="Margins at plus and minus 1; the usual companion of spectral norm.",
        paper="arXiv:1705.02894",
    )
    yield Component(
        "loss",
        "rpgan",
        target="ganzoo_losses.losses:RelativisticPairing",
        summary="Each fake against one real; with --reg r1 --reg r2 it is R3GAN's objective.",
        paper="arXiv:1807.00734",
    )
