"""The five scripts, each the networks, step, image size and loader that it is known by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tutorials import networks, steps
from tutorials.data import Source, loader

BATCH: Final = 64


@dataclass(frozen=True)
class Script:
    """One of the common scripts.

    Attributes:
        summary: what it is, in words.
        gen, disc: networks for a shape.
        step: its training step.
        size: side that the images are resized to.
        workers: of its loader.
    """

    summary: str
    gen: Callable[[networks.Shape], nn.Module]
    disc: Callable[[networks.Shape], nn.Module]
    step: Callable[[steps.Pair], steps.Step]
    size: int
    workers: int = 0


SCRIPTS: Final[dict[str, Script]] = {
    "mlp-gan": Script("MLP GAN, 28x28", networks.MlpGenerator, networks.MlpDiscriminator, steps.script_gan, 28),
    "mlp-wgan": Script(
        "MLP WGAN with clipping, 28x28", networks.MlpGenerator, networks.MlpDiscriminator, steps.script_wgan, 28
    ),
    "mlp-wgan-gp": Script(
        "MLP WGAN-GP, 28x28", networks.MlpGenerator, networks.MlpDiscriminator, steps.script_wgan_gp, 28
    ),
    "dcgan-32": Script(
        "DCGAN with a 128-channel generator, 32x32",
        networks.UpsamplingGenerator,
        networks.DropoutDiscriminator,
        steps.script_gan,
        32,
    ),
    "dcgan-64": Script(
        "the official DCGAN example, 64x64",
        networks.DcganGenerator,
        networks.DcganDiscriminator,
        steps.official_dcgan,
        64,
        workers=2,
    ),
}


@dataclass
class Trained:
    """What a script ended with.

    Attributes:
        pair: its networks.
        steps: batches that it saw.
        seconds: that this took, without imports and the reading of files.
        losses: of the last batch.
    """

    pair: steps.Pair
    steps: int
    seconds: float
    losses: dict[str, float]


def train(script: Script, source: Source, seconds: float, seed: int, device: torch.device) -> Trained:
    """Train for so much wall time, data included, beginning with the first batch that is asked for; at least one."""
    _seed(seed, device)
    channels = 1 if source.images.ndim == 3 else 3
    shape = (channels, script.size, script.size)
    gen, disc = script.gen(shape).to(device), script.disc(shape).to(device)
    pair = steps.Pair(gen, disc, 100, device)
    step = script.step(pair)
    batches = loader(source, script.size, BATCH, script.workers)
    begun, taken, losses = time.perf_counter(), 0, dict[str, float]()
    while True:
        for images, _ in batches:
            losses = step(images)
            taken += 1
            spent = time.perf_counter() - begun
            if spent >= seconds:
                return Trained(pair, taken, spent, losses)


@torch.no_grad()
def samples(pair: steps.Pair, count: int, seed: int, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Images ``[count, size, size]`` or ``[count, size, size, 3]``, drawn as scripts do: in training mode, by batches.

    Another side is resized with antialiased bilinear interpolation, before values are rounded.
    """
    _seed(seed, pair.device)
    parts: list[Tensor] = []
    for start in range(0, count, BATCH):
        images = pair.gen(pair.latent(BATCH))[: count - start]
        if images.shape[-1] != size:
            images = interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
        parts.append(((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    made = torch.cat(parts).permute(0, 2, 3, 1)
    return (made[..., 0] if made.shape[-1] == 1 else made).contiguous().numpy()


def _seed(seed: int, device: torch.device) -> None:
    """Seed torch's default generators of the CPU and the device."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
