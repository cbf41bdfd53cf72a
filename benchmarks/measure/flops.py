"""Formulas for the cost of DCGAN's networks: operations, parameters, activations. No torch.

With side ``R = base * 2^n`` (base 4 to 7), width ``w`` and ``C`` channels, every layer between the first and the last
has kernels of 4x4, and doubling the channels while halving the side leaves its cost the same: ``2 w^2 R^2``
multiplications and additions of two numbers each, which count as two operations.
"""

from __future__ import annotations

import itertools
from typing import Final

KERNEL: Final = 16
"""Taps of a 4x4 kernel."""
PASSES_OF_GENERATOR: Final = 3
"""Forward once, backward twice that."""
PASSES_OF_CRITIC: Final = 8
"""Forward on reals, on fakes and again on fakes; backward twice that for the first two, once for the third."""
PASSES_OF_CRITIC_UNFROZEN: Final = 9
"""The same with the weight gradients that the tutorial's generator step computes and throws away."""


def halvings(side: int) -> tuple[int, int]:
    """``n`` and the base: how often a side halves until 4 to 7 pixels are left."""
    n = 0
    while side >> n > 7:
        n += 1
    return n, side >> n


def dcgan_layers(side: int, width: int, channels: int, latent_dim: int = 0) -> list[tuple[int, int, int]]:
    """Multiply-adds of one image, taps and output side of each layer, from the image to the other end.

    Args:
        side, width, channels: of the image and of the layer next to it.
        latent_dim: of the generator's input, or 0 for the critic and its one logit.
    """
    n, base = halvings(side)
    before, layers = channels, []
    for i in range(n):
        after = width * 2**i
        out = side >> (i + 1)
        layers.append((KERNEL * before * after * out**2, KERNEL * before * after, out))
        before = after
    last = base**2 * before * (latent_dim or 1)
    return [*layers, (last, last, 1)]


def dcgan_forward(side: int, width: int, channels: int, latent_dim: int = 0) -> float:
    """Operations of one image through one network: about ``4 (n - 1) w^2 R^2 + 8 C w R^2``."""
    return 2.0 * sum(layer[0] for layer in dcgan_layers(side, width, channels, latent_dim))


def dcgan_parameters(side: int, width: int, channels: int, latent_dim: int = 0) -> int:
    """Weights of one network without those of its norms."""
    return sum(layer[1] for layer in dcgan_layers(side, width, channels, latent_dim))


def dcgan_step(side: int, width: int, channels: int, latent_dim: int, *, frozen: bool = True) -> float:
    """Operations of one step for one image of the batch, both networks trained once.

    What needs no gradient is left out: the generator's latents, and the image where the critic learns.
    """
    gen = dcgan_layers(side, width, channels, latent_dim)
    disc = dcgan_layers(side, width, channels)
    passes = PASSES_OF_CRITIC if frozen else PASSES_OF_CRITIC_UNFROZEN
    total = PASSES_OF_GENERATOR * sum(layer[0] for layer in gen) + passes * sum(layer[0] for layer in disc)
    return 2.0 * (total - gen[-1][0] - 2 * disc[0][0])


def mlp_parameters(sizes: tuple[int, ...]) -> int:
    """Weights and biases of fully connected layers."""
    return sum(before * after + after for before, after in itertools.pairwise(sizes))
