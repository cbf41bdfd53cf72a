"""What a run chooses, beside what it leaves: one pass of the critic against two, matrices against torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch

from ganzoo.nn.convolution import FUNCTIONS, PRODUCTS, ROLES, Geometry, Product
from ganzoo.nn.precision import DTYPES
from ganzoo.training import convolving
from measure.contenders import OurLoop
from measure.context import Context
from measure.machine import lacking
from measure.timing import Result, Turn, Work
from measure.workloads import CHANNELS_LAST, DCGAN_28, DCGAN_32, DCGAN_64, MLP_28, PLAIN, RING

SHAPES: Final = (
    ("256 to 512 channels, 8x8 to 4x4", (512, 256, 4, 4), Geometry((8, 8), (4, 4), (2, 2), (1, 1))),
    ("128 to 256 channels, 16x16 to 8x8", (256, 128, 4, 4), Geometry((16, 16), (4, 4), (2, 2), (1, 1))),
    ("3 to 64 channels, 64x64 to 32x32", (64, 3, 4, 4), Geometry((64, 64), (4, 4), (2, 2), (1, 1))),
    ("512 channels, 4x4 to 100 in one pixel", (100, 512, 4, 4), Geometry((4, 4), (4, 4), (1, 1), (0, 0))),
)
"""Layers of the DCGAN at 64x64x3: kernel ``[O, C, a, b]`` and how it goes over the larger side."""
BATCH: Final = 64


def critic(context: Context) -> Iterator[Result]:
    """Steps in which the critic looks at reals and fakes one after the other, or in one pass."""
    for workload, norm in (
        (MLP_28, {}),
        (RING, {}),
        (DCGAN_28, {"disc.norm": "none"}),
        (DCGAN_32, {"disc.norm": "none"}),
    ):
        settings = workload.of_run(context, {**PLAIN, **norm})
        one_by_one, together = OurLoop(context, settings), OurLoop(context, settings)
        assert not together.session.bundle.apart
        one_by_one.session.bundle.apart = "to compare"
        yield from context.compare(workload.name, {"one after the other": one_by_one, "in one pass": together})


def convolutions(context: Context) -> Iterator[Result]:
    """Steps with those products by matrices that are quicker so, and single products both ways, in each arithmetic."""
    if context.device.type != "cpu":
        yield Result("convolutions", "all", note="left out: matrices are tried on CPUs")
        return
    for precision in ("fp32", "bf16"):
        suffix = "" if precision == "fp32" else f", {precision}"
        why = lacking(precision, context.device)
        if why:
            yield Result(f"by matrices{suffix}", "all", note=f"left out: {why}")
            continue
        for workload in (DCGAN_64, DCGAN_28):
            settings = workload.of_run(context, {"run.precision": precision, **CHANNELS_LAST})
            plain, other = OurLoop(context, settings), OurLoop(context, settings)
            bundle = other.session.bundle
            names = convolving._quicker(convolving._layers(bundle, workload.batch_size(context)))
            convolving.apply(bundle.gen, bundle.disc, names)
            contenders: dict[str, Work | Turn] = {"torch's own": plain, "matrices where quicker": other}
            rows = context.compare(f"{workload.name}{suffix}", contenders)
            rows[1].figures["products"] = float(len(names))
            yield from rows
        for title, kernel, on in SHAPES:
            for product in PRODUCTS:
                ways = {"torch's own": frozenset[Product](), "matrices": frozenset((product,))}
                yield from context.compare(
                    f"{product}, {title}{suffix}",
                    {
                        way: _product(context, product, kernel, on._replace(by_matrices=by_matrices), DTYPES[precision])
                        for way, by_matrices in ways.items()
                    },
                )


def _product(
    context: Context, product: Product, kernel: tuple[int, ...], on: Geometry, dtype: torch.dtype = torch.float32
) -> Work:
    """One product on a batch of noise."""
    if context.small:
        kernel = (2, 2, *kernel[2:])
    shapes = {"x": (BATCH, kernel[1], *on.size), "y": (BATCH, kernel[0], *on.small), "kernel": kernel}
    one, other, _ = (torch.randn(shapes[role]).to(dtype, memory_format=torch.channels_last) for role in ROLES[product])

    def work(n: int) -> None:
        for _ in range(n):
            FUNCTIONS[product](one, other, on)

    return work
