"""The built-in networks: shapes, names, sizes, norms, labels, gradients."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from ganzoo.api import CONDITIONAL, MIXES_SAMPLES, NO_DOUBLE_BACKWARD, Spec, UsageError
from ganzoo.nn import Discriminator, Generator, initialise, norm_layer
from ganzoo.nn.precision import PlainAttention
from ganzoo.nn.traits import observed_traits
from ganzoo.registry import create, registry

SIDES = (8, 12, 14, 16, 20, 28, 32, 48, 64, 96)
POINTS = Spec((2,), 5)
GREY = Spec((1, 28, 28), 5)
NETWORKS = ("cgan", "dcgan", "mlp")
CONV_NORMS = ("batch", "layer", "instance", "group", "spectral", "none")
NORMS = {"cgan": ("batch", "layer", "spectral", "none"), "dcgan": CONV_NORMS}
NORMS["mlp"] = NORMS["cgan"]


def gen_named(name: str, spec: Spec, **options: Any) -> Generator:
    gen = create("generator", name, spec, **{"width": 4, "latent_dim": 6, **options})
    assert isinstance(gen, Generator)
    return gen


def disc_named(name: str, spec: Spec, **options: Any) -> Discriminator:
    disc = create("discriminator", name, spec, **{"width": 4, **options})
    assert isinstance(disc, Discriminator)
    return disc


def batch(spec: Spec, n: int = 3) -> tuple[Tensor, Tensor]:
    return torch.rand(n, *spec.shape) * 2 - 1, torch.arange(n) % (spec.num_classes or 1)


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def batch_norm(index: int, channels: int) -> dict[str, tuple[int, ...]]:
    sizes = {"weight": (channels,), "bias": (channels,), "running_mean": (channels,), "running_var": (channels,)}
    return {f"main.{index}.{name}": shape for name, shape in {**sizes, "num_batches_tracked": ()}.items()}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_the_classic_dcgan_key_by_key() -> None:
    spec = Spec((3, 64, 64))
    gen, disc = create("generator", "dcgan", spec), create("discriminator", "dcgan", spec)
    assert shapes(gen) == {
        "main.0.weight": (100, 512, 4, 4),
        **batch_norm(1, 512),
        "main.3.weight": (512, 256, 4, 4),
        **batch_norm(4, 256),
        "main.6.weight": (256, 128, 4, 4),
        **batch_norm(7, 128),
        "main.9.weight": (128, 64, 4, 4),
        **batch_norm(10, 64),
        "main.12.weight": (64, 3, 4, 4),
    }
    assert shapes(disc) == {
        "main.0.weight": (64, 3, 4, 4),
        "main.2.weight": (128, 64, 4, 4),
        **batch_norm(3, 128),
        "main.5.weight": (256, 128, 4, 4),
        **batch_norm(6, 256),
        "main.8.weight": (512, 256, 4, 4),
        **batch_norm(9, 512),
        "main.11.weight": (1, 512, 4, 4),
    }
    assert sum(p.numel() for p in gen.parameters()) == 3_576_704
    assert sum(p.numel() for p in disc.parameters()) == 2_765_568
    assert [type(layer).__name__ for layer in gen.main[-2:]] == ["ConvTranspose2d", "Tanh"]
    assert disc.main[1].negative_slope == 0.2


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [*((side, side) for side in SIDES), (64, 48), (14, 28), (96, 64)], ids=str)
def test_every_size_and_channel_count(size: tuple[int, int], channels: int) -> None:
    spec = Spec((channels, *size), 3)
    x, y = batch(spec)
    for name in NETWORKS:
        gen, disc = gen_named(name, spec, width=2), disc_named(name, spec, width=2)
        fake = gen(gen.latent(3), y)
        assert fake.shape == x.shape
        assert fake.abs().max() <= 1
        assert disc(fake, y).shape == (3,)


@pytest.mark.parametrize("name", ["cgan", "mlp"])
def test_points(name: str) -> None:
    gen, disc = gen_named(name, POINTS), disc_named(name, POINTS)
    x, y = batch(POINTS)
    fake = gen(gen.latent(3) * 100, y)
    assert fake.shape == x.shape
    assert disc(fake, y).shape == (3,)
    assert fake.abs().max() > 1, "points are not squashed into the range of images"


@pytest.mark.parametrize("name", ["cgan", "dcgan"])
@pytest.mark.parametrize("shape", [(1, 50, 50), (3, 30, 30), (1, 16, 18), (3, 7, 7)], ids=str)
def test_shapes_without_a_pyramid_are_refused_in_words(name: str, shape: tuple[int, ...]) -> None:
    for build in (gen_named, disc_named):
        with pytest.raises(UsageError, match="4 to 7 times a power of two"):
            build(name, Spec(shape, 3))


def test_cgan_needs_classes() -> None:
    for build in (gen_named, disc_named):
        with pytest.raises(UsageError, match="labelled"):
            build("cgan", Spec((1, 28, 28)))


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name in NETWORKS for norm in NORMS[name]])
@pytest.mark.parametrize("spec", [GREY, POINTS], ids=["image", "points"])
def test_the_gradient_reaches_every_parameter(name: str, norm: str, spec: Spec) -> None:
    if name == "dcgan" and not spec.is_image:
        return
    gen, disc = gen_named(name, spec, norm=norm), disc_named(name, spec, norm=norm)
    y = batch(spec, 8)[1]
    disc(gen(gen.latent(8), y), y).square().sum().backward()
    for network in (gen, disc):
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("upsample", ["transposed", "nearest", "bilinear"])
@pytest.mark.parametrize("name", ["cgan", "dcgan"])
def test_upsampling(name: str, upsample: str) -> None:
    gen = gen_named(name, GREY, upsample=upsample)
    assert gen(gen.latent(2), torch.tensor([0, 1])).shape == (2, 1, 28, 28)
    doubling = [m for m in gen.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert len(doubling) == (3 if upsample == "transposed" else 1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_seed_gives_the_same_network_and_samples(name: str) -> None:
    outputs = []
    for _ in range(2):
        torch.manual_seed(4)
        gen, disc = gen_named(name, GREY).eval(), disc_named(name, GREY).eval()
        z = gen.latent(3, torch.Generator().manual_seed(5))
        y = torch.tensor([0, 1, 2])
        outputs.append((gen(z, y), disc(gen(z, y), y)))
    for one, other in zip(*outputs, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("name", NETWORKS)
def test_priors(name: str, prior: str) -> None:
    z = gen_named(name, GREY, prior=prior).latent(4000)
    assert z.shape == (4000, 6)
    assert z.mean().abs() < 0.05
    assert z.std().item() == pytest.approx(1 if prior == "normal" else 3**-0.5, rel=0.05)
    assert (z.abs().max() <= 1) == (prior == "uniform")


@pytest.mark.parametrize("spec", [GREY, POINTS], ids=["image", "points"])
def test_labels_change_what_cgan_draws_and_thinks(spec: Spec) -> None:
    gen, disc = gen_named("cgan", spec).eval(), disc_named("cgan", spec).eval()
    z = gen.latent(1).expand(5, -1)
    y = torch.arange(5)
    fakes = gen(z, y)
    assert (fakes[1:] - fakes[:1]).flatten(1).norm(dim=1).min() > 0
    assert disc(fakes[:1].expand_as(fakes), y).unique().numel() == 5
    for network, x in ((gen, z), (disc, fakes)):
        with pytest.raises(UsageError, match="labels"):
            network(x)


def test_the_input_layers_of_cgan_see_the_one_hot_label() -> None:
    gen, disc = gen_named("cgan", GREY), disc_named("cgan", GREY)
    assert gen.get_parameter("main.0.weight").shape[0] == 6 + 5
    assert disc.get_parameter("main.0.weight").shape[1] == 1 + 5
    assert disc_named("cgan", POINTS).get_parameter("main.0.weight").shape[1] == 2 + 5


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_do_not_matter_to_the_others(name: str) -> None:
    conditional = CONDITIONAL in _traits("discriminator", name, GREY)
    assert conditional == (name == "cgan")
    if not conditional:
        disc = disc_named(name, GREY).eval()
        x, y = batch(GREY)
        assert torch.equal(disc(x), disc(x, y))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_layer_turns_features_into_logits(name: str) -> None:
    disc = disc_named(name, GREY).eval()
    x, y = batch(GREY)
    features = disc.features(x, y)
    assert features.dim() == 2
    last = disc.get_submodule("main")[-1]  # type: ignore[index]
    assert isinstance(last, (nn.Conv2d, nn.Linear))
    weight = last.weight.flatten(1).squeeze(0)
    bias = 0 if last.bias is None else last.bias
    torch.testing.assert_close(features @ weight + bias, disc(x, y), rtol=1e-4, atol=1e-5)


def _traits(kind: str, name: str, spec: Spec, **options: Any) -> frozenset[str]:
    choice = registry().choose(kind, name, options)
    return choice.component.traits_of(choice.config, spec)


@pytest.mark.parametrize("spec", [GREY, Spec((1, 8, 8), 5), POINTS], ids=["28", "8", "points"])
@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name in NETWORKS for norm in ("auto", *NORMS[name])])
def test_the_declared_mixing_of_samples_is_the_real_one(name: str, norm: str, spec: Spec) -> None:
    if name == "dcgan" and not spec.is_image:
        return
    disc = disc_named(name, spec, norm=norm)
    x, y = batch(spec, 4)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(disc(x, y)[0], x)
    mixes = bool(gradient[1:].abs().max() > 0)
    assert mixes == (MIXES_SAMPLES in _traits("discriminator", name, spec, norm=norm))
    assert mixes == (MIXES_SAMPLES in observed_traits(disc))


@pytest.mark.parametrize("name", ["cgan", "dcgan"])
def test_initial_weights(name: str) -> None:
    def deviation(**options: Any) -> float:
        disc = create("discriminator", name, Spec((3, 32, 32), 5), width=32, **options)
        return float(disc.main[2].weight.detach().std())

    default = (32 * 16 * 3) ** -0.5
    assert deviation() == pytest.approx(0.02, rel=0.05)
    assert deviation(norm="none") == pytest.approx(default, rel=0.05)
    assert deviation(norm="none", init="normal") == pytest.approx(0.02, rel=0.05)
    assert deviation(init="default") == pytest.approx(default, rel=0.05)
    rows = create("discriminator", name, Spec((3, 32, 32), 5), width=32, init="orthogonal").main[2].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "way",
    [parametrizations.spectral_norm, parametrizations.weight_norm, nn.utils.spectral_norm],
    ids=["spectral", "weight", "older-spectral"],
)
def test_what_makes_a_weight_from_others_is_initialised(way: Any) -> None:
    layer = initialise(way(nn.Linear(64, 64)), "normal")
    kept = {name: value for name, value in layer.named_parameters() if value.shape == (64, 64)}
    assert {name: value.std().item() for name, value in kept.items()} == {
        name: pytest.approx(0.02, rel=0.1) for name in kept
    }
    if way is parametrizations.weight_norm:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1)
        initialise(layer, "orthogonal", 1.5)
        torch.testing.assert_close(layer.weight @ layer.weight.T, 1.5**2 * torch.eye(64), rtol=0, atol=1e-4)


def test_unknown_names_are_refused() -> None:
    unknown: Any = "xavier"
    with pytest.raises(UsageError, match=r"no initialisation 'xavier'\. There is default, normal, orthogonal\."):
        initialise(nn.Linear(2, 2), unknown)
    unknown = "batchnorm"
    with pytest.raises(UsageError, match=r"no normalisation 'batchnorm'\. Did you mean batch\?"):
        norm_layer(unknown, 4)


def test_the_options_of_the_mlp() -> None:
    disc = disc_named("mlp", POINTS, depth=3, activation="tanh", init="orthogonal", init_gain=1.4, dropout=0.5)
    kinds = [type(layer).__name__ for layer in disc.get_submodule("main")]  # type: ignore[attr-defined]
    assert kinds == [*["Linear", "Tanh", "Dropout"] * 3, "Linear"]
    square = disc.get_parameter("main.3.weight")
    torch.testing.assert_close(square @ square.T, 1.4**2 * torch.eye(4), rtol=0, atol=1e-5)


def torchvision_disc(model: str, spec: Spec, **options: Any) -> Discriminator:
    disc = create("discriminator", "torchvision", spec, model=model, **options)
    assert isinstance(disc, Discriminator)
    return disc


@pytest.mark.parametrize(
    ("model", "norm"),
    [
        ("resnet18", "none"),
        ("resnet18", "group"),
        ("resnet18", "instance"),
        ("squeezenet1_1", "auto"),
        ("vgg11", "auto"),
        ("mobilenet_v3_small", "none"),
        ("mobilenet_v3_small", "layer"),
        ("vit_b_32", "auto"),
    ],
)
def test_torchvision_networks_can_be_differentiated_twice(model: str, norm: str) -> None:
    spec = Spec((1, 32, 32))
    disc = torchvision_disc(model, spec, norm=norm, **({"min_size": 32} if model.startswith("vit") else {}))
    x = batch(spec, 2)[0].requires_grad_()
    first = next(layer for layer in disc.modules() if isinstance(layer, nn.Conv2d))
    with PlainAttention():
        logits = disc(x)
        assert logits.shape == (2,)
        (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), first.weight)
    assert torch.isfinite(second).all()
    assert second.abs().max() > 0
    traits = _traits("discriminator", "torchvision", spec, model=model, norm=norm)
    assert not traits & {MIXES_SAMPLES, NO_DOUBLE_BACKWARD}
    assert MIXES_SAMPLES not in observed_traits(disc)
    if norm == "none":
        assert 1e-3 < gradient.flatten(1).norm(dim=1).mean() < 1e3, "the signal neither dies nor explodes without norms"


@pytest.mark.parametrize(("model", "channels"), [("resnet18", 3), ("squeezenet1_1", 4), ("mobilenet_v3_small", 2)])
def test_torchvision_networks_take_any_channels_and_small_images(model: str, channels: int) -> None:
    spec = Spec((channels, 12, 20))
    disc = torchvision_disc(model, spec).eval()
    x = batch(spec, 2)[0]
    features = disc.features(x)
    assert features.dim() == 2
    head = disc.get_submodule("head")
    torch.testing.assert_close(head(features).squeeze(1), disc(x))
    mixes = MIXES_SAMPLES in _traits("discriminator", "torchvision", spec, model=model)
    assert mixes == (MIXES_SAMPLES in observed_traits(disc)) == (model != "squeezenet1_1")


def test_a_squeezenet_logit_may_be_negative() -> None:
    disc = torchvision_disc("squeezenet1_1", GREY)
    nn.init.constant_(disc.get_parameter("head.bias"), -5.0)
    assert (disc(batch(GREY)[0]) < 0).all()


def test_torchvision_names_are_checked() -> None:
    with pytest.raises(UsageError, match=r"no classification model 'resnet81'.*Did you mean .*resnet18"):
        torchvision_disc("resnet81", GREY)
    with pytest.raises(UsageError, match="mlp"):
        torchvision_disc("resnet18", POINTS)


def test_a_size_that_a_torchvision_network_cannot_take_is_refused() -> None:
    with pytest.raises(UsageError, match=r"vgg11 cannot take images of 1x16x16 \(.*\): leave min_size out, or .* 32\."):
        torchvision_disc("vgg11", Spec((1, 16, 16)), min_size=8)
    assert torchvision_disc("resnet18", Spec((1, 16, 16)), min_size=8).training


def test_every_torchvision_model_with_batch_norm_is_known_by_name() -> None:
    """The names are judged without torchvision, so they are held against what it builds, where that is cheap."""
    torchvision_disc("squeezenet1_1", GREY)
    models = sys.modules["torchvision"].models
    for name in models.list_models(module=models):
        mixes = MIXES_SAMPLES in _traits("discriminator", "torchvision", GREY, model=name)
        small = models.get_model_weights(name).DEFAULT.meta["num_params"] < 6_000_000
        if small:
            settings = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
            network = models.get_model(name, weights=None, **settings)
            assert mixes == (MIXES_SAMPLES in observed_traits(network)), name


@pytest.mark.parametrize("side", [8, 12, 28])
@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_the_label_of_cgan_is_constant_channels(side: int, norm: str) -> None:
    """Against the definition: the channels are made, joined to the sample, and convolved."""
    spec = Spec((2, side, side), 5)
    disc = disc_named("cgan", spec, norm=norm).double().eval()  # the power iteration of spectral norm stands still
    x, y = torch.randn(7, *spec.shape, dtype=torch.double, requires_grad=True), torch.arange(7) % 5
    label = nn.functional.one_hot(y, 5).double()[:, :, None, None].expand(-1, -1, side, side)

    def derivatives(logits: Tensor) -> list[Tensor]:
        (first,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
        wanted = [x, *disc.parameters()]
        second = torch.autograd.grad((logits + first.square().flatten(1).sum(1)).square().sum(), wanted)
        return [logits, first, *second]

    main: Any = disc.main
    for ours, plain in zip(derivatives(disc(x, y)), derivatives(main(torch.cat([x, label], 1)).flatten()), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(disc.features(x, y), main[:-1](torch.cat([x, label], 1)).flatten(1))
    assert disc(x[:0], y[:0]).shape == (0,)
