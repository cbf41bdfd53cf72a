"""Trains the classifier of plugins/ganzoo_digits on MNIST and stores its weights beside its code.

Run as ``GANZOO_DATA=... python tools/train_digit_cnn.py``. One thread and fixed seeds: on one machine with one
release of PyTorch the file is the same to the byte each time. It took 14 minutes on a busy machine, about 6 of them of
the processor. ``--epochs 1`` is a quick trial; ``--out`` writes elsewhere. It tells the accuracy on MNIST's test set
and on the digits of UCI, which it never trained on, and the hash that ``ganzoo_digits.model`` must hold.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample, interpolate

from ganzoo.nn.weights import save_tensors
from ganzoo.registry import build, registry
from ganzoo_digits.network import SIDE, as_mnist, body, head

TARGET = Path(__file__).parents[1] / "plugins" / "ganzoo_digits" / "digit_cnn.safetensors"
BATCH = 128
PEAK_RATE = 0.01
SHARE_FILLED = 0.25
"""Share of a batch that is enlarged until it fills the frame, through 8x8 pixels, as the digits of UCI are."""


def data(name: str, **options: Any) -> tuple[Tensor, Tensor]:
    """All images ``[N, 1, H, W]`` uint8 and labels ``[N]`` of a data set of ours."""
    choice = registry().choose("dataset", name, options)
    assert choice.component.spec is not None
    held = build(choice, choice.component.spec(choice.config))
    return held.samples, held.labels


def between(low: float, high: float, n: int, rng: torch.Generator) -> Tensor:
    """``n`` random numbers."""
    return torch.rand(n, generator=rng) * (high - low) + low


def moved(images: Tensor, wide: tuple[float, float], tall: tuple[float, float], rng: torch.Generator) -> Tensor:
    """Each image turned by up to 12 degrees, moved by up to 2 pixels, and scaled by factors within the ranges."""
    n = len(images)
    angle = between(-12, 12, n, rng) * (math.pi / 180)
    shift = between(-2, 2, 2 * n, rng).view(n, 2) * (2 / SIDE)
    x_scale = between(*wide, n, rng)
    y_scale = between(*tall, n, rng)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos / x_scale, -sin / x_scale, shift[:, 0], sin / y_scale, cos / y_scale, shift[:, 1]]
    matrix = torch.stack(rows, 1).view(n, 2, 3)
    return grid_sample(images, affine_grid(matrix, list(images.shape), align_corners=False), align_corners=False)


def augmented(images: Tensor, rng: torch.Generator) -> Tensor:
    """A batch ``[B, 1, 28, 28]`` in [0, 1] as the network learns from it."""
    cut = int(len(images) * SHARE_FILLED)
    filled = moved(images[:cut], (1.0, 2.0), (1.15, 1.5), rng)
    coarse = interpolate(filled, (8, 8), mode="area")
    return torch.cat([as_mnist(coarse * 255), moved(images[cut:], (0.85, 1.15), (0.85, 1.15), rng)])


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that are classified as labelled."""
    guesses = torch.cat([network(as_mnist(part)).argmax(1) for part in torch.split(images, 500)])
    return float((guesses == labels).double().mean())


def trained(images: Tensor, labels: Tensor, epochs: int, seed: int) -> nn.Sequential:
    """Features and head, learnt with AdamW and one cycle of the learning rate."""
    torch.default_generator.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    network = nn.Sequential(body(batch_norm=True), head()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    steps = epochs * (len(images) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.2)
    begun = time.perf_counter()
    for epoch in range(epochs):
        total = 0.0
        for index in torch.randperm(len(images), generator=rng).split(BATCH)[: len(images) // BATCH]:
            batch = augmented(images[index].float() / 255, rng)
            loss = cross_entropy(network(batch), labels[index], label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item()
        seconds = time.perf_counter() - begun
        print(f"epoch {epoch + 1} of {epochs}: loss {total / (len(images) // BATCH):.4f}, {seconds:.0f} s", flush=True)
    return network.eval()


def folded(network: nn.Sequential) -> nn.Sequential:
    """The same function without batch norm, in numbers that float16 holds."""
    plain = nn.Sequential(body(batch_norm=False), head())
    layers = iter(network[0])
    for target in plain[0]:
        source = next(layers)
        if isinstance(source, nn.Conv2d):
            norm = next(layers)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            target.weight.data = source.weight.data * scale[:, None, None, None]
            target.bias.data = norm.bias - norm.running_mean * scale
    plain[1].load_state_dict(network[1].state_dict())
    for parameter in plain.parameters():
        parameter.data = parameter.data.half().float().contiguous()
    return plain.eval()


def main() -> None:
    """Train, measure, store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=TARGET)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    begun = time.perf_counter()
    network = trained(*data("mnist"), asked.epochs, asked.seed)
    plain = folded(network)
    test = data("mnist", split="test")
    print(f"MNIST test, with batch norm in float32: {accuracy(network, *test):.4%}")
    print(f"MNIST test, folded and in float16:      {accuracy(plain, *test):.4%}")
    for size in (8, 16, 32):
        print(f"UCI digits at {size}x{size}: {accuracy(plain, *data('digits', size=size)):.4%}")
    parts = nn.ModuleDict({"body": plain[0], "head": plain[1]})
    tensors = {name: tensor.half() for name, tensor in parts.state_dict().items()}
    save_tensors(asked.out, tensors)
    print(f"{sum(tensor.numel() for tensor in tensors.values()):,} parameters, {asked.out.stat().st_size:,} bytes")
    print(f"SHA-256 {hashlib.sha256(asked.out.read_bytes()).hexdigest()}")
    print(f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
