"""Convolutions as products of matrices, for layers where that is quicker than what torch's library makes of them.

A convolution and its two gradients are three products, each a derivative of the others: *gather* takes ``x`` to ``y``
(a convolution, or a transposed one's gradient), *scatter* takes ``y`` to ``x`` (a transposed convolution, or a
convolution's gradient), *weight* takes both to the kernel. Each can be left to torch, or be one product with the
patches of ``x`` as rows (Chellapilla, Puri and Simard 2006). Which is quicker depends on the shapes and the processor:
with few channels, or small maps of many channels, libraries can be several times slower. Numbers are the same but for
the order in which they are added, and every product can be differentiated any number of times.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any, Final, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from ganzoo.nn import narrow

Product = Literal["gather", "scatter", "weight"]
PRODUCTS: Final[tuple[Product, ...]] = ("gather", "scatter", "weight")
ROLES: Final[dict[Product, tuple[str, str, str]]] = {
    "gather": ("x", "kernel", "y"),
    "scatter": ("y", "kernel", "x"),
    "weight": ("x", "y", "kernel"),
}
"""Of what each is made, and what it makes."""
_FEW: Final = 16
"""Channels below which planes of them are added up, and above which channels lie side by side."""
_AT_ONCE: Final = 2**22
"""Numbers in the patches of samples that are multiplied at once. What is larger leaves the caches, and the system takes
the memory back each time and clears it: that costs more than the product."""
Convolution = nn.Conv2d | nn.ConvTranspose2d
Pair = tuple[int, int]


class Geometry(NamedTuple):
    """How the larger side ``x [B, C, *size]`` and the smaller side ``y [B, O, h, w]`` of a layer go together.

    Its kernel is ``[O, C, *kernel]``. ``by_matrices`` names the products that are not left to torch.
    """

    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    by_matrices: frozenset[Product] = frozenset()

    @property
    def small(self) -> Pair:
        """Height and width of ``y``."""
        h, w = (
            (size + 2 * padding - kernel) // stride + 1
            for size, kernel, stride, padding in zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        )
        return h, w


def gather(x: Tensor, kernel: Tensor, on: Geometry) -> Tensor:
    """``y [B, O, h, w]`` from ``x [B, C, H, W]`` and the kernel ``[O, C, *on.kernel]``; not differentiable."""
    if "gather" not in on.by_matrices:
        return F.conv2d(x, kernel, None, on.stride, on.padding)
    y, matrix = _empty((len(x), len(kernel), *on.small), x), _matrix(kernel).t()
    for some in _pieces(len(x), kernel, on):
        torch.mm(_im2col(x[some], on), matrix, out=_pixels(y[some]))
    return y


def scatter(y: Tensor, kernel: Tensor, on: Geometry) -> Tensor:
    """``x [B, C, H, W]`` from ``y [B, O, h, w]`` and the kernel ``[O, C, *on.kernel]``; not differentiable."""
    if "scatter" not in on.by_matrices:
        left = [
            size - (small - 1) * stride + 2 * padding - kernel
            for size, small, kernel, stride, padding in zip(
                on.size, on.small, on.kernel, on.stride, on.padding, strict=True
            )
        ]
        return F.conv_transpose2d(y, kernel, None, on.stride, on.padding, left)
    x, matrix = _empty((len(y), kernel.shape[1], *on.size), y), _matrix(kernel)
    if on.small == (1, 1) and on.padding == (0, 0) and on.size == on.kernel:
        torch.mm(_pixels(y), matrix, out=x.permute(0, 2, 3, 1).view(len(y), -1))
        return x
    add_up = _add_planes if kernel.shape[1] < _FEW else _add_pixels
    for some in _pieces(len(y), kernel, on):
        add_up(x[some], y[some], matrix, on)
    return x


def _add_planes(x: Tensor, y: Tensor, matrix: Tensor, on: Geometry) -> None:
    """Into ``x`` what each pixel of ``y`` gives to it, by planes ``[C, B, H, W]``: long rows where pixels are short."""
    channels, (h, w) = x.shape[1], on.small
    into = x.new_zeros((channels, len(x), *on.size), dtype=_wide(x))
    pixels = _pixels(y)
    taps = torch.mm(matrix.t(), pixels.t(), out=x.new_empty((matrix.shape[1], len(pixels))))
    taps = taps.view(*on.kernel, channels, len(x), h, w)
    for a, b, place, source in _joined(on):
        into[..., *place].add_(taps[a, b][..., *source])
    x.copy_(into.transpose(0, 1))


def _add_pixels(x: Tensor, y: Tensor, matrix: Tensor, on: Geometry) -> None:
    """The same by pixels ``[B, H, W, C]``."""
    (h, w), pixels = on.small, _pixels(y)
    into = x.permute(0, 2, 3, 1)
    into = into.zero_() if _wide(x) == x.dtype else torch.zeros_like(into, dtype=_wide(x))
    taps = torch.mm(pixels, matrix, out=x.new_empty((len(pixels), matrix.shape[1])))
    taps = taps.view(len(x), h, w, *on.kernel, -1).permute(3, 4, 0, 1, 2, 5)
    for a, b, place, source in _joined(on):
        into[:, *place].add_(taps[a, b][:, *source])
    if into.dtype != x.dtype:
        x.copy_(into.permute(0, 3, 1, 2))


def weight(x: Tensor, y: Tensor, on: Geometry) -> Tensor:
    """The kernel ``[O, C, *on.kernel]`` from ``x [B, C, H, W]`` and ``y [B, O, h, w]``; not differentiable."""
    shape = (y.shape[1], x.shape[1], *on.kernel)
    if "weight" not in on.by_matrices:
        like, once, none = _empty(shape, x), [1, 1], [0, 0]
        wanted = [False, True, False]
        found = torch.ops.aten.convolution_backward(
            y, x, like, None, on.stride, on.padding, once, False, none, 1, wanted
        )
        plain: Tensor = found[1]
        return plain
    kernel = _empty(shape, x)
    pieces = [*_pieces(len(x), kernel, on)]
    matrix, total = _matrix(kernel), None
    for some in pieces:
        torch.mm(_pixels(y[some]).t(), _im2col(x[some], on), out=matrix)
        if len(pieces) > 1:
            total = matrix.to(_wide(x), copy=True) if total is None else total.add_(matrix)
    if total is not None:
        matrix.copy_(total)
    return kernel


FUNCTIONS: Final = {"gather": gather, "scatter": scatter, "weight": weight}


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Room for a result, whose channels lie side by side; no view, so that what follows may change it in place."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _pixels(y: Tensor) -> Tensor:
    """``[B, O, h, w]`` as ``[B h w, O]``; a view if channels come last."""
    return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1])


def _matrix(kernel: Tensor) -> Tensor:
    """``[O, C, a, b]`` as ``[O, a b C]``; a view if channels come last."""
    return kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1)


def _im2col(x: Tensor, on: Geometry) -> Tensor:
    """What each pixel of ``y`` sees of ``x``, ``[B h w, a b C]``."""
    (rows, columns), (h, w) = on.padding, on.small
    if rows or columns:
        x = F.pad(x, (columns, columns, rows, rows))
    x = x.permute(0, 2, 3, 1)
    batch, down, right, channel = x.stride()
    shape = (len(x), h, w, *on.kernel, x.shape[3])
    strides = (batch, down * on.stride[0], right * on.stride[1], down, right, channel)
    return x.as_strided(shape, strides, x.storage_offset()).reshape(len(x) * h * w, -1)


def _pieces(batch: int, kernel: Tensor, on: Geometry) -> Iterator[slice]:
    """A batch in pieces of about the same size, each of as few samples as :data:`_AT_ONCE` asks for."""
    most = max(1, _AT_ONCE // (math.prod(kernel.shape[1:]) * math.prod(on.small)))
    size = math.ceil(batch / math.ceil(batch / most))
    for first in range(0, batch, size):
        yield slice(first, first + size)


def _wide(like: Tensor) -> torch.dtype:
    """In what terms are added up, so that they are rounded once at the end."""
    return torch.float32 if like.dtype == torch.bfloat16 else like.dtype


Part = tuple[slice, slice]


def _joined(on: Geometry) -> Iterator[tuple[int, int, Part, Part]]:
    """For each place ``a, b`` of the kernel, which rows and columns of ``x`` it joins with which of ``y``."""
    for a, (rows, from_rows) in enumerate(_reached(on, 0)):
        for b, (columns, from_columns) in enumerate(_reached(on, 1)):
            yield a, b, (rows, columns), (from_rows, from_columns)


def _reached(on: Geometry, axis: int) -> Iterator[tuple[slice, slice]]:
    """For each place of the kernel along an axis: which pixels of ``x`` it joins with which of ``y``."""
    size, stride, padding, small = on.size[axis], on.stride[axis], on.padding[axis], on.small[axis]
    for place in range(on.kernel[axis]):
        first = max(0, -((place - padding) // stride))
        last = max(first, min(small, (size - 1 + padding - place) // stride + 1))
        start = first * stride + place - padding
        yield slice(start, start + (last - first) * stride, stride), slice(first, last)


class _Product(torch.autograd.Function):
    """A product of two of x, y and the kernel, which is the third; so each gradient is again one of the products."""

    @staticmethod
    def forward(one: Tensor, other: Tensor, product: Product, on: Geometry) -> Tensor:
        return FUNCTIONS[product](one, other, on)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Product, Geometry], output: Tensor) -> None:  # noqa: ARG004
        *tensors, ctx.product, ctx.on = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, made = ROLES[ctx.product]
        known = dict(zip((*inputs, made), (*ctx.saved_tensors, *gradients), strict=True))
        found: list[Tensor | None] = []
        for role, needed in zip(inputs, ctx.needs_input_grad, strict=False):
            product = next(name for name in PRODUCTS if ROLES[name][-1] == role)
            one, other, _ = ROLES[product]
            found.append(differentiable(known[one], known[other], product, ctx.on) if needed else None)
        return *found, None, None


def differentiable(one: Tensor, other: Tensor, product: Product, on: Geometry) -> Tensor:
    """:func:`gather`, :func:`scatter` or :func:`weight` of two tensors, in the graph any number of times."""
    result: Tensor = _Product.apply(one, other, product, on)  # type: ignore[no-untyped-call]
    return result


class ByMatrices:
    """Stands in for the ``forward`` of a layer, and computes some of its products by matrices.

    Args:
        layer: one that :func:`may_use_matrices` names, or any with torch's own ``forward`` if there are no products.
        products: which.
        guarded: whether the layer is computed with care where torch may be wrong; see :func:`guard`.
    """

    def __init__(self, layer: narrow.Convolution, products: Collection[Product], *, guarded: bool = False) -> None:
        self.layer = layer
        self.products = frozenset(products)
        self.guarded = guarded

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the layer's class computes, and by it where matrices do not serve."""
        layer = self.layer
        if self.guarded and args and narrow.is_doubtful(layer, args[0]):
            return narrow.carefully(layer, *args, **kwargs)
        simple = self.products and not kwargs and len(args) == 1 and isinstance(layer, Convolution)
        on = _served(layer, args[0], self.products) if simple else None  # type: ignore[arg-type]
        if on is None:
            plain: Tensor = type(layer).forward(layer, *args, **kwargs)  # type: ignore[arg-type]
            return plain
        x, kernel, bias = args[0], layer.weight, layer.bias
        if torch.is_autocast_enabled("cpu"):  # torch does the same before its own convolutions
            x, kernel = x.to(torch.bfloat16), kernel.to(torch.bfloat16)
            bias = None if bias is None else bias.to(torch.bfloat16)
        product: Product = "scatter" if isinstance(layer, nn.ConvTranspose2d) else "gather"
        y = differentiable(x, kernel, product, on)
        return y if bias is None else y + bias.view(-1, 1, 1)


def _served(layer: Convolution, x: Tensor, products: Collection[Product]) -> Geometry | None:
    """The geometry of a call that matrices can serve: a batch of some images, and plain reverse differentiation."""
    if x.dim() != 4 or not x.numel() or x.device.type != "cpu":
        return None
    if torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") != torch.bfloat16:
        return None
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return None
    on = geometry(layer, x, products)
    return on if min(on.small) > 0 and min(on.size) > 0 else None


def geometry(layer: Convolution, x: Tensor, products: Collection[Product] = ()) -> Geometry:
    """How a layer goes over its input ``x [B, C, H, W]``."""
    kernel, stride, padding = (_pair(each) for each in (layer.kernel_size, layer.stride, layer.padding))
    size = _pair(x.shape[2:])
    if isinstance(layer, nn.ConvTranspose2d):
        down, right = (
            (small - 1) * stride[axis] - 2 * padding[axis] + kernel[axis] + int(layer.output_padding[axis])
            for axis, small in enumerate(size)
        )
        size = (down, right)
    return Geometry(size, kernel, stride, padding, frozenset(products))


def may_use_matrices(module: nn.Module) -> bool:
    """Whether a module is a layer whose products may be computed by matrices."""
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        if isinstance(module, kind) and all(_is_torchs(module, kind, name) for name in ("forward", "_conv_forward")):
            pairs = module.kernel_size, module.stride, module.padding, module.dilation
            simple = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
            return simple and all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
    return False


def _is_torchs(module: nn.Module, kind: type[nn.Module], method: str) -> bool:
    """Whether a method is what torch made it, in the class and in the module itself."""
    own = module.__dict__.get(method)
    same: bool = getattr(type(module), method, None) is getattr(kind, method, None)
    return same and (own is None or isinstance(own, ByMatrices))


def use_matrices(layer: Convolution, products: Collection[Product]) -> None:
    """Let a layer compute these products by matrices from now on, and the others as its class does."""
    now = layer.__dict__.get("forward")
    _stand_in(layer, products, guarded=isinstance(now, ByMatrices) and now.guarded)


def guard(network: nn.Module, *, on: bool) -> None:
    """Let convolutions of a network be computed with care where torch may be wrong on CPUs, or no longer.

    See :mod:`ganzoo.nn.narrow` for where that is.
    """
    for layer in network.modules():
        for kind in narrow.KINDS:
            if isinstance(layer, kind) and all(_is_torchs(layer, kind, name) for name in ("forward", "_conv_forward")):
                now = layer.__dict__.get("forward")
                _stand_in(layer, now.products if isinstance(now, ByMatrices) else (), guarded=on)


def _stand_in(layer: narrow.Convolution, products: Collection[Product], *, guarded: bool) -> None:
    if products or guarded:
        layer.forward = ByMatrices(layer, products, guarded=guarded)  # type: ignore[method-assign]
    elif isinstance(layer.__dict__.get("forward"), ByMatrices):
        del layer.__dict__["forward"]


def _pair(values: Any) -> Pair:
    down, right = values
    return int(down), int(right)
