"""Convolutions by matrices are torch's: every product, its derivatives of any order, in every network."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from ganzoo.nn import convolution
from ganzoo.nn.convolution import (
    PRODUCTS,
    ByMatrices,
    Geometry,
    differentiable,
    geometry,
    may_use_matrices,
    use_matrices,
)

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "halving": (lambda: nn.Conv2d(3, 5, 4, 2, 1), (2, 3, 8, 6)),
    "many channels": (lambda: nn.Conv2d(20, 3, 4, 2, 1, bias=False), (2, 20, 8, 8)),
    "whole": (lambda: nn.Conv2d(18, 2, 5), (3, 18, 5, 5)),
    "uneven": (lambda: nn.Conv2d(2, 3, (3, 2), (2, 3), (1, 0)), (2, 2, 9, 8)),
    "pixels": (lambda: nn.Conv2d(4, 6, 1), (2, 4, 3, 3)),
    "doubling": (lambda: nn.ConvTranspose2d(5, 3, 4, 2, 1, bias=False), (2, 5, 4, 3)),
    "doubling many": (lambda: nn.ConvTranspose2d(5, 17, 4, 2, 1), (2, 5, 4, 4)),
    "doubling many without bias": (lambda: nn.ConvTranspose2d(5, 17, 4, 2, 1, bias=False), (2, 5, 4, 4)),
    "to one channel": (lambda: nn.ConvTranspose2d(5, 1, 4, 2, 1, bias=False), (2, 5, 4, 4)),
    "from one pixel": (lambda: nn.ConvTranspose2d(6, 17, (4, 5)), (3, 6, 1, 1)),
    "with output padding": (lambda: nn.ConvTranspose2d(3, 2, 3, 2, 1, output_padding=1), (2, 3, 4, 4)),
}
CHOICES = [some for n in range(4) for some in itertools.combinations(PRODUCTS, n)]
ONCE, NONE = (1, 1), (0, 0)


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def derivatives(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, first derivatives, and those of a penalty on the gradient at the input."""
    x = x.detach().requires_grad_()
    y = layer(x)
    (slope,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    everything = [x, *layer.parameters()]
    first = torch.autograd.grad(y.square().sum(), everything, retain_graph=True)
    second = torch.autograd.grad(slope.square().sum(), everything, allow_unused=True, materialize_grads=True)
    return [y, slope, *first, *second]


@pytest.mark.parametrize("products", CHOICES, ids="+".join)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_derivatives_are_torchs(name: str, layout: torch.memory_format, products: tuple[Any, ...]) -> None:
    make, shape = LAYERS[name]
    layer = make().to(memory_format=layout)
    x = torch.randn(shape).contiguous(memory_format=layout)
    expected = derivatives(layer, x)
    use_matrices(layer, products)
    for mine, its in zip(derivatives(layer, x), expected, strict=True):
        torch.testing.assert_close(mine, its)
    use_matrices(layer, ())
    assert torch.equal(layer(x), expected[0])


@pytest.mark.parametrize("product", PRODUCTS)
def test_gradients_of_the_first_and_second_order_are_those_of_differences(product: Any) -> None:
    on = Geometry((5, 6), (3, 2), (2, 2), (1, 0), frozenset(PRODUCTS))
    tensors = {"x": torch.randn(2, 2, 5, 6), "y": torch.randn(2, 3, *on.small), "kernel": torch.randn(3, 2, 3, 2)}
    roles = {"gather": ("x", "kernel"), "scatter": ("y", "kernel"), "weight": ("x", "y")}[product]
    inputs = [tensors[role].requires_grad_() for role in roles]

    def function(one: Tensor, other: Tensor) -> Tensor:
        return differentiable(one, other, product, on)

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, stride, padding = pair(1, 9), pair(1, 4), pair(0, 4)
    size = tuple(max(1, k - 2 * p) + data.draw(st.integers(0, 5)) for k, p in zip(kernel, padding, strict=True))
    channels = data.draw(st.sampled_from([1, 3, 16, 17]))
    x, weight = torch.randn(2, channels, *size), torch.randn(3, channels, *kernel)
    on = Geometry((size[0], size[1]), kernel, stride, padding, frozenset(PRODUCTS))
    y = F.conv2d(x, weight, None, stride, padding)
    g = torch.randn_like(y)
    needs = [True, True, False]
    expected = torch.ops.aten.convolution_backward(g, x, weight, None, stride, padding, ONCE, False, NONE, 1, needs)
    torch.testing.assert_close(differentiable(x, weight, "gather", on), y)
    torch.testing.assert_close(differentiable(g, weight, "scatter", on), expected[0])
    torch.testing.assert_close(differentiable(x, g, "weight", on), expected[1])


def test_what_torch_computes_stays_where_it_is_asked() -> None:
    layer = nn.Conv2d(2, 3, 3).float()
    use_matrices(layer, PRODUCTS)
    assert isinstance(layer.forward, ByMatrices)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x[0]).shape == (3, 3, 3)  # no batch
    assert layer(x[:0]).shape == (0, 3, 3, 3)
    assert torch.equal(layer(input=x), F.conv2d(x, layer.weight, layer.bias))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        layer(x[..., :2, :2])
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_a_copy_computes_with_its_own_weights_and_parameters_can_be_replaced() -> None:
    layer = nn.Conv2d(2, 3, 3)
    use_matrices(layer, PRODUCTS)
    other, x = copy.deepcopy(layer), torch.randn(1, 2, 4, 4)
    assert other.bias is not None
    with torch.no_grad():
        other.weight.zero_()
        assert layer(x).abs().sum() > 0
        assert torch.equal(other(x), other.bias.view(-1, 1, 1).expand(1, 3, 2, 2))
    zeros = {name: torch.zeros_like(value) for name, value in layer.named_parameters()}
    assert not functional_call(layer, zeros, (x,)).any()


@pytest.mark.parametrize("name", LAYERS)
def test_its_output_may_be_changed_in_place(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(shape, requires_grad=True)
    expected = F.leaky_relu(layer(x), 0.2)
    use_matrices(layer, PRODUCTS)
    mine = nn.Sequential(layer, nn.LeakyReLU(0.2, inplace=True))(x)
    torch.testing.assert_close(mine, expected)
    slopes = [torch.autograd.grad(y.square().sum(), [x, *layer.parameters()]) for y in (mine, expected)]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)


def test_which_layers_can() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2

    parametrized = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 3, 3))
    assert all(map(may_use_matrices, (nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(2, 3, 3), parametrized)))

    class Standardised(nn.Conv2d):
        def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
            return F.conv2d(x, weight - weight.mean(), bias)

    wrapped, plain = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    wrapped.forward = lambda input: 2 * nn.Conv2d.forward(wrapped, input)  # type: ignore[method-assign]
    own = wrapped.forward
    use_matrices(wrapped, ())
    assert wrapped.forward is own
    use_matrices(plain, PRODUCTS)
    assert may_use_matrices(plain)
    refused = [
        wrapped,
        Standardised(2, 3, 3),
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(2, 4, 3, dilation=2),
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(2, 4, 3, dilation=2),
        Own(2, 3, 3),
        nn.Conv1d(2, 3, 3),
        nn.Linear(2, 3),
    ]
    assert not any(map(may_use_matrices, refused))


def test_a_geometry_tells_the_smaller_side() -> None:
    layer = nn.Conv2d(3, 8, 4, 2, 1)
    on = geometry(layer, torch.zeros(1, 3, 64, 48))
    assert (on.size, on.small) == ((64, 48), (32, 24))
    layer_up = nn.ConvTranspose2d(8, 3, 4, 2, 1)
    assert geometry(layer_up, torch.zeros(1, 8, 32, 24)) == on


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, for its decompositions
def test_other_ways_to_differentiate_are_left_to_torch() -> None:
    layer, plain = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
    plain.load_state_dict(layer.state_dict())
    use_matrices(layer, PRODUCTS)
    x = torch.randn(4, 2, 5, 5)

    def slopes(net: nn.Module) -> Tensor:
        def of_one(sample: Tensor) -> Tensor:
            value: Tensor = net(sample[None]).square().sum()
            return value

        found: Tensor = vmap(grad(of_one))(x)
        return found

    def forward_mode(net: nn.Module) -> Tensor:
        found: Tensor = jvp(net, (x,), (torch.ones_like(x),))[1]
        return found

    for way in (slopes, forward_mode):
        torch.testing.assert_close(way(layer), way(plain))


def test_the_output_of_an_unfolded_layer_and_slopes_may_be_clamped_in_place() -> None:
    layer = nn.Conv2d(17, 3, 4, 2, 1)
    use_matrices(layer, PRODUCTS)
    x = torch.randn(2, 17, 6, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    torch.autograd.backward(slope.clamp_(-1, 1).sum())


@pytest.mark.parametrize("at_once", [1, 2**22], ids=["in pieces", "at once"])
@pytest.mark.parametrize("name", LAYERS)
def test_under_autocast_products_are_rounded_as_often_as_torchs(
    name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_AT_ONCE", at_once)
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(shape)

    def found(net: nn.Module, x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        y = net(x)
        return [y, *torch.autograd.grad(y.double().square().sum(), [x, *net.parameters()])]

    exact = found(layer, x)
    by_matrices = copy.deepcopy(layer).float()
    use_matrices(by_matrices, PRODUCTS)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = found(by_matrices, x.float())
    assert rounded[0].dtype == torch.bfloat16
    assert {gradient.dtype for gradient in rounded[1:]} == {torch.float32}
    for mine, its in zip(rounded, exact, strict=True):
        assert (mine - its).norm() < 0.02 * its.norm()  # each factor and each result is off by 2^-9 at most


def test_other_arithmetic_is_left_to_torch() -> None:
    layer = nn.Conv2d(2, 3, 3).float()
    use_matrices(layer, PRODUCTS)
    x = torch.randn(2, 2, 5, 5, dtype=torch.float32)
    assert convolution._served(layer, x, PRODUCTS) is not None
    with torch.autocast("cpu", torch.float16):
        assert convolution._served(layer, x, PRODUCTS) is None


@pytest.mark.parametrize("at_once", [1, 100, 400])
@pytest.mark.parametrize("name", LAYERS)
def test_large_batches_are_multiplied_in_pieces(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make, (_, *shape) = LAYERS[name]
    layer, x = make().to(memory_format=torch.channels_last), torch.randn(7, *shape)
    expected = derivatives(layer, x)
    use_matrices(layer, PRODUCTS)
    monkeypatch.setattr(convolution, "_AT_ONCE", at_once)
    for mine, its in zip(derivatives(layer, x), expected, strict=True):
        torch.testing.assert_close(mine, its)


@given(batch=st.integers(1, 40), patches=st.integers(1, 60), at_once=st.integers(1, 200))
def test_pieces_are_all_of_a_batch_and_no_larger_than_may_be(batch: int, patches: int, at_once: int) -> None:
    kernel, on = torch.empty(1, patches, 1, 1), Geometry((1, 1), (1, 1), (1, 1), (0, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_AT_ONCE", at_once)
        pieces = [range(batch)[some] for some in convolution._pieces(batch, kernel, on)]
    assert [each for piece in pieces for each in piece] == [*range(batch)]
    assert all(len(piece) == 1 or len(piece) * patches <= at_once for piece in pieces)


NARROW: dict[str, tuple[Any, tuple[int, ...]]] = {
    "to a column": (lambda: nn.Conv2d(16, 64, 5, 2), (2, 16, 28, 6)),
    "in groups": (lambda: nn.Conv2d(16, 32, 4, 2, 1, groups=4), (2, 16, 16, 2)),
    "from a column": (lambda: nn.ConvTranspose2d(64, 64, 4, 2, 1), (2, 64, 8, 1)),
    "from a pixel": (lambda: nn.ConvTranspose2d(64, 16, 5, 2, 2), (2, 64, 1, 1)),
    "to a row": (lambda: nn.Conv2d(1, 4, (4, 3), 2, padding=(1, 2)), (4, 1, 2, 1)),
    "from a low image": (lambda: nn.ConvTranspose2d(16, 16, (1, 3), 2, padding=(0, 2)), (4, 16, 5, 2)),
    "to one row": (lambda: nn.ConvTranspose2d(8, 1, (4, 3), stride=(1, 3), padding=2), (4, 8, 2, 2)),
    "in one dimension": (lambda: nn.Conv1d(16, 16, 3, 2, 1), (4, 16, 9)),
    "in one dimension, long": (lambda: nn.Conv1d(4, 8, 25, 4, 11), (2, 4, 64)),
    "from one dimension": (lambda: nn.ConvTranspose1d(16, 8, 5, 2, 2), (4, 16, 6)),
    "patches": (lambda: nn.Conv2d(16, 32, 4, 4), (2, 16, 16, 16)),
    "from patches": (lambda: nn.ConvTranspose2d(64, 16, (2, 4), (2, 4)), (2, 64, 8, 8)),
    "valid": (lambda: nn.Conv2d(4, 8, 4, (1, 2), padding="valid"), (2, 4, 8, 4)),
    "in three": (lambda: nn.Conv3d(2, 4, 3, 2, 1), (2, 2, 5, 5, 5)),
    "from three": (lambda: nn.ConvTranspose3d(2, 4, 3, 2, 1, output_padding=1), (2, 2, 3, 3, 3)),
}
UNEVEN: dict[str, tuple[Any, tuple[int, ...]]] = {
    "a critic of bars": (lambda: nn.Conv2d(1, 16, (3, 4), (1, 2), 1), (16, 1, 8, 2)),
    "dilated": (lambda: nn.Conv2d(3, 1, (2, 1), stride=2, padding=(2, 1), dilation=(1, 2)), (2, 3, 3, 1)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 4, (3, 4), (1, 2), 1), (4, 8, 8, 1)),
}


@pytest.mark.parametrize("name", UNEVEN)
def test_channels_that_come_last_change_no_number_of_a_narrow_image(name: str) -> None:
    make, shape = UNEVEN[name]
    layer, x = make().float(), torch.randn(shape, dtype=torch.float32, requires_grad=True)
    expected = layer(x)
    slopes = torch.autograd.grad(expected.square().sum(), [x, *layer.parameters()])
    layer.to(memory_format=torch.channels_last)
    convolution.guard(layer, on=True)
    for _ in range(5):
        litter = [torch.full((size,), 1e30) for size in (100, 1000, 10_000)]
        del litter  # what nobody writes has such numbers now
        found = layer(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected)
        again = torch.autograd.grad(found.square().sum(), [x, *layer.parameters()])
        for mine, its in zip(again, slopes, strict=True):
            torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("products", [(), PRODUCTS], ids=["torch's", "matrices"])
@pytest.mark.parametrize("name", NARROW)
def test_where_torchs_bfloat16_is_wrong_it_is_float32(name: str, products: tuple[Any, ...]) -> None:
    make, shape = NARROW[name]
    layer, x = make().float(), torch.randn(shape, dtype=torch.float32, requires_grad=True)
    expected = layer(x)
    slopes = torch.autograd.grad(expected.square().sum(), [x, *layer.parameters()])
    if may_use_matrices(layer):
        use_matrices(layer, products)
    convolution.guard(layer, on=True)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected)
        again = torch.autograd.grad(found.square().sum(), [x, *layer.parameters()])
        for mine, its in zip(again, slopes, strict=True):
            torch.testing.assert_close(mine, its)
    convolution.guard(layer, on=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert isinstance(layer.__dict__.get("forward"), ByMatrices) is bool(products and may_use_matrices(layer))


def test_what_is_wide_stays_in_bfloat16() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.Conv2d(8, 8, 4), nn.Conv2d(8, 8, 3, padding="same"))
    network.float()
    convolution.guard(network, on=True)
    with torch.autocast("cpu", torch.bfloat16):
        for layer, channels, side in zip(
            network, (3, 8, 8), (8, 4, 1), strict=True
        ):  # a pixel without strides is right
            assert layer(torch.randn(2, channels, side, side, dtype=torch.float32)).dtype == torch.bfloat16
