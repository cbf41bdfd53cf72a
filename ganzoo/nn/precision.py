"""In which arithmetic the networks run, and the scale that keeps float16's small gradients from vanishing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Literal

import torch
from torch import Tensor

from ganzoo.nn.guard import are_finite
from ganzoo.settings import PRODUCTS

Arithmetic = Literal["fp32", "bf16", "fp16", "bf16-products"]

DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, PRODUCTS: torch.float32}
IDLE: Final = nullcontext()
_START: Final = 2.0**16
_LARGEST: Final = 2.0**24
_PATIENCE: Final = 2000
"""Steps without an overflow after which the scale is doubled."""


class Precision:
    """In which arithmetic the networks run. Losses, and whatever is differentiated twice, are always float32.

    ``bf16-products`` is a way of CPUs to compute in bfloat16: everything is float32, and products of matrices round
    their factors, as TensorFloat-32 does on CUDA. So nothing is cast, which costs fully connected networks more than
    the arithmetic gains.
    """

    def __init__(self, name: Arithmetic, device: torch.device) -> None:
        self.name = name
        self.device = device
        self._in_full = False

    @property
    def is_full(self) -> bool:
        """Whether networks that are called now compute in float32."""
        return self.name == "fp32" or self._in_full

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which networks are called."""
        kind = self.device.type
        if self.name == PRODUCTS and not self._in_full and not torch.is_autocast_enabled(kind):
            return ROUNDED
        if not self.is_full and self.name != PRODUCTS:
            return torch.autocast(kind, DTYPES[self.name])
        # Steps of small networks take as long as a few hundred of these contexts, so the idle one is made once.
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else IDLE

    def of_backward(self, *, rounded: bool) -> AbstractContextManager[Any]:
        """The context in which objectives are differentiated: ``rounded``, products round as in the networks."""
        return ROUNDED if self.name == PRODUCTS and rounded else IDLE

    @contextmanager
    def full(self) -> Iterator[None]:
        """Within, :meth:`autocast` leaves networks in float32, for what is differentiated twice; attention is plain."""
        before, self._in_full = self._in_full, True
        try:
            with PlainAttention():
                yield
        finally:
            self._in_full = before


def can_round_products() -> bool:
    """Whether this torch lets products of float32 matrices on CPUs round their factors (from 2.9 on)."""
    return hasattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision")


class _RoundedFactors:
    """Within, products of float32 matrices on CPUs round their factors to bfloat16 and add up in float32."""

    def __init__(self) -> None:
        self._before: list[str] = []

    def __enter__(self) -> None:
        matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        self._before.append(matmul.fp32_precision)
        matmul.fp32_precision = "bf16"

    def __exit__(self, *error: object) -> None:
        matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        matmul.fp32_precision = self._before.pop()


ROUNDED: Final = _RoundedFactors()


class PlainAttention:
    """Within, attention is computed by products of matrices: torch's fused kernels cannot be differentiated twice.

    The switches are those of CPUs, too. torch's own context for them takes as long as a small layer.
    """

    def __enter__(self) -> None:
        on: Any = torch.backends.cuda
        self._before = on.flash_sdp_enabled(), on.mem_efficient_sdp_enabled(), on.cudnn_sdp_enabled()
        self._switch((False, False, False))

    def __exit__(self, *error: object) -> None:
        self._switch(self._before)

    def _switch(self, kinds: tuple[bool, bool, bool]) -> None:
        on: Any = torch.backends.cuda
        flash, efficient, cudnn = kinds
        on.enable_flash_sdp(flash)
        on.enable_mem_efficient_sdp(efficient)
        on.enable_cudnn_sdp(cudnn)


class Scaler:
    """The scale of one side's objective under float16: as large as its gradients allow, found while training.

    A step whose gradient overflows is left out and the scale halved; after many steps without one it is doubled. All
    of it happens on the device, which is never waited for. In several processes it is the same, since it follows from
    gradients that they have averaged.

    Attributes:
        state: ``[2]`` float32 on the device: the scale, and the steps since it last changed.
    """

    def __init__(self, device: torch.device) -> None:
        self.state = torch.tensor([_START, 0.0], device=device)

    @property
    def scale(self) -> Tensor:
        """What the objective is multiplied by, a scalar on the device."""
        return self.state[0]

    @torch.no_grad()
    def unscale(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Divide gradients by the scale, and find the next one.

        Gradients that overflowed become zero: they say nothing, and the step is to be left out.

        Returns:
            overflow: whether a gradient was not finite, a bool on the device.
            hopeless: whether that was so although the scale was 1, so that no scale is to blame.
        """
        scale, calm = self.state.unbind()
        if gradients:
            torch._foreach_mul_(list(gradients), scale.reciprocal())
            overflow = ~are_finite(gradients).all()
        else:
            overflow = torch.zeros((), dtype=torch.bool, device=scale.device)
        hopeless = overflow & (scale <= 1)
        for gradient in gradients:
            gradient.masked_fill_(overflow & ~hopeless, 0.0)
        calm = torch.where(overflow, 0.0, calm + 1)
        grow = calm >= _PATIENCE
        factor = torch.where(overflow, 0.5, torch.where(grow, 2.0, 1.0))
        self.state = torch.stack([(scale * factor).clamp(1.0, _LARGEST), torch.where(grow, 0.0, calm)])
        return overflow, hopeless


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Within, CUDA multiplies float32 with all its bits: no TensorFloat-32. Other devices always do."""
    if device.type != "cuda":
        yield
        return
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
