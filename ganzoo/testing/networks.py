"""Promises of both networks, and of generators."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from ganzoo.api import CONDITIONAL, Spec
from ganzoo.nn import EMA
from ganzoo.nn.buffers import copied
from ganzoo.nn.traits import nudge
from ganzoo.nn.weights import load_into, save_tensors
from ganzoo.testing.subject import Subject

_BATCH: Final = 4
_LAYERS_THAT_CHANGE: Final = re.compile(r"norm|drop|noise|depth|augment|rrelu", re.IGNORECASE)
"""Names of layers that do one thing in training and another in evaluation."""
_NUDGE: Final = 0.02
_ROUNDING: Final = 1e-5
"""How far outputs may be apart, relative to the largest: torch computes attention otherwise in evaluation."""


def inputs_for(subject: Subject, network: nn.Module, spec: Spec, n: int = _BATCH, seed: int = 1) -> tuple[Any, Any]:
    """Latents or samples, and labels where there are classes; always the same ones."""
    rng = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % spec.num_classes if spec.num_classes else None
    if subject.kind == "generator":
        latent: Any = network.latent
        return latent(n, rng), y
    x = torch.rand(n, *spec.shape, generator=rng) * 2 - 1
    return x, y


def output_of(network: nn.Module, x: Tensor, y: Tensor | None, seed: int = 2) -> Tensor:
    """What the network makes of it, with the random numbers of ``seed``."""
    torch.manual_seed(seed)
    out = network(x, y)
    if not isinstance(out, Tensor):
        raise TypeError(f"forward() must return a tensor, not {type(out).__name__}")
    return out


def varied(subject: Subject, spec: Spec) -> Iterator[nn.Module]:
    """New networks with other weights, small and large, in both modes: what none of them gives, none ever will.

    In evaluation a deep one with batch norm that never trained gives hardly more than the bias of its last layer.
    """
    for seed, (scale, mode) in enumerate(itertools.product((1.0, 3.0, 10.0, 30.0, 100.0), (False, True))):
        network: nn.Module = subject.build(spec, seed).train(mode)
        nudge(network, _NUDGE, torch.Generator().manual_seed(seed), scale=scale)
        yield network


def nudged(subject: Subject, spec: Spec) -> nn.Module:
    """A new network that was moved a little from where it starts, where papers ask for layers that do nothing yet."""
    network: nn.Module = subject.build(spec)
    nudge(network, _NUDGE, torch.Generator().manual_seed(4))
    return network


def has_the_right_shapes(subject: Subject, spec: Spec) -> None:
    """Outputs have the shape and type of the contract, one sample at a time too."""
    network = subject.build(spec).eval()
    for n in (1, _BATCH):
        x, y = inputs_for(subject, network, spec, n)
        wanted = (n, *spec.shape) if subject.kind == "generator" else (n,)
        with torch.no_grad():
            out = output_of(network, x, y)
        got = tuple(out.shape)
        remedy = "samples are [B, *spec.shape]" if subject.kind == "generator" else "logits are [B], not [B, 1]"
        subject.expect(got == wanted, f"returns {got} for a batch of {n} of {spec}, not {wanted}", remedy)
        subject.expect(
            out.dtype == torch.float32, f"returns {out.dtype} for float32 inputs", "keep the type of the input"
        )
        subject.expect(torch.isfinite(out).all(), f"returns NaN or infinity for {spec}", "look for a division or a log")
        if subject.kind == "discriminator":
            with torch.no_grad():
                features = network.features(x, y)
            subject.expect(
                features.dim() == 2 and len(features) == n,
                f"has features of the shape {tuple(features.shape)} for a batch of {n}",
                "flatten them to [B, F]",
            )


def draws_latents_by_the_seed(subject: Subject, spec: Spec) -> None:
    """Latents are ``[n, latent_dim]`` and a function of the random numbers given."""
    network = subject.build(spec)
    first, second = (network.latent(_BATCH, torch.Generator().manual_seed(3)) for _ in range(2))
    shape = (_BATCH, network.latent_dim)
    subject.expect(
        tuple(first.shape) == shape,
        f"draws latents of the shape {tuple(first.shape)}, not {shape}",
        "see Generator.latent",
    )
    subject.expect(
        torch.equal(first, second),
        "draws other latents from the same random numbers",
        "pass rng on as generator= to every function that draws",
    )


def stays_within_the_range(subject: Subject, spec: Spec) -> None:
    """Images are in [-1, 1] whatever the latent, and may be below 0; points are finite."""
    network = subject.build(spec).eval()
    z, y = inputs_for(subject, network, spec, 16)
    with torch.no_grad():
        for scale in (1.0, 30.0):
            out = output_of(network, scale * z, y)
            low, high = out.min().item(), out.max().item()
            subject.expect(
                torch.isfinite(out).all(), "returns NaN or infinity for large latents", "bound what it computes"
            )
            subject.expect(
                not spec.is_image or (low >= -1 and high <= 1),
                f"returns values from {low:.3g} to {high:.3g}, and images are in [-1, 1]",
                "end the network in tanh for images",
            )
        lows = (output_of(other, *inputs_for(subject, other, spec, 16)).min() for other in varied(subject, spec))
        subject.expect(
            not spec.is_image or low < 0 or any(value < 0 for value in lows),
            "returns no value below 0, and images are in [-1, 1]",
            "end the network in tanh, not in a sigmoid",
        )


def depends_on_its_input(subject: Subject, spec: Spec) -> None:
    """Other inputs give other outputs, once its parameters are moved a little."""
    network = nudged(subject, spec).eval()
    (a, y), (b, _) = inputs_for(subject, network, spec, seed=1), inputs_for(subject, network, spec, seed=2)
    with torch.no_grad():
        same = torch.equal(output_of(network, a, y), output_of(network, b, y))
    subject.expect(not same, "gives the same output for other inputs", "check that forward() uses its first argument")


def leaves_its_input_alone(subject: Subject, spec: Spec) -> None:
    """The input is not changed in place."""
    network = subject.build(spec)
    x, y = inputs_for(subject, network, spec)
    before, labels = x.clone(), None if y is None else y.clone()
    with torch.no_grad():
        output_of(network, x, y)
        if subject.kind == "discriminator":
            network.features(x, y)
    kept = torch.equal(x, before) and (labels is None or torch.equal(y, labels))
    subject.expect(kept, "changes its input in place", "make the first layer's operation not inplace")


def passes_gradients_to_every_parameter(subject: Subject, spec: Spec) -> None:
    """Each parameter gets a finite gradient that is not all zero, once it is moved a little."""
    network = nudged(subject, spec)
    x, y = inputs_for(subject, network, spec, 2 * _BATCH)
    x.requires_grad_()
    out = output_of(network, x, y)
    rng = torch.Generator().manual_seed(5)
    torch.autograd.backward((out * torch.randn(out.shape, generator=rng)).sum())
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        grad: Any = parameter.grad
        subject.expect(
            grad is not None and grad.count_nonzero(),
            f"passes no gradient to its parameter {name}",
            "use it in forward(), or make it a buffer with register_buffer()",
        )
        subject.expect(
            torch.isfinite(grad).all(), f"has a gradient that is not finite at {name}", "bound what it computes"
        )
    subject.expect(
        x.grad is not None and x.grad.count_nonzero(),
        "passes no gradient to its input",
        "do not detach it in forward()",
    )


def is_built_from_the_seed(subject: Subject, spec: Spec) -> None:
    """The same seed gives the same weights, another one gives others, and the same outputs follow."""
    first, second, other = (subject.build(spec, seed) for seed in (0, 0, 1))
    states = [network.state_dict() for network in (first, second, other)]
    subject.expect(
        equal(states[0], states[1]),
        "has other initial weights for the same seed",
        "draw them with torch's default generator, not with random or numpy",
    )
    subject.expect(
        not equal(states[0], states[2]) or not list(first.parameters()),
        "has the same initial weights for every seed",
        "do not set a seed in it",
    )
    x, y = inputs_for(subject, first, spec)
    subject.expect(
        torch.equal(output_of(first, x, y), output_of(second, x, y)),
        "gives other outputs for the same weights, inputs and seed while training",
        "draw random numbers with torch's default generator alone",
    )


def is_settled_in_evaluation(subject: Subject, spec: Spec) -> None:
    """In evaluation mode nothing is random and no buffer changes."""
    network = subject.build(spec).eval()
    x, y = inputs_for(subject, network, spec)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        first, second = output_of(network, x, y, seed=5), output_of(network, x, y, seed=6)
    subject.expect(
        torch.equal(first, second),
        "gives other outputs for the same input in evaluation mode",
        "draw random numbers only where self.training is true, and as layers do",
    )
    subject.expect(
        equal(before, network.state_dict()), "changes its buffers in evaluation mode", "update them only in training"
    )


def changes_with_the_mode_only_by_its_layers(subject: Subject, spec: Spec) -> None:
    """Training and evaluation differ only if a layer such as batch norm or dropout explains it."""
    network = nudged(subject, spec)
    if any(_LAYERS_THAT_CHANGE.search(type(layer).__name__) for layer in network.modules()):
        return
    x, y = inputs_for(subject, network, spec)
    with torch.no_grad():
        training, evaluating = output_of(network.train(), x, y), output_of(network.eval(), x, y)
    subject.expect(
        (training - evaluating).abs().max() <= _ROUNDING * training.abs().max(),
        "gives other outputs in training than in evaluation, and none of its layers explains it",
        "do not ask for self.training in forward(); put what differs into a layer with a telling name",
    )


def survives_safetensors(subject: Subject, spec: Spec) -> None:
    """Weights that are saved and loaded into a new network are the same bits and give the same outputs."""
    network = subject.build(spec, seed=7)
    x, y = inputs_for(subject, network, spec)
    with torch.no_grad():
        output_of(network, x, y)
    check_safetensors(subject, network, subject.build(spec, seed=8))
    fresh = subject.build(spec, seed=8)
    fresh.load_state_dict(network.state_dict())
    with torch.no_grad():
        same = torch.equal(output_of(network.eval(), x, y), output_of(fresh.eval(), x, y))
    subject.expect(
        same, "gives other outputs after its weights were saved and loaded", "keep every tensor as parameter or buffer"
    )


def check_safetensors(subject: Subject, network: nn.Module, fresh: nn.Module) -> None:
    """The state of ``network`` goes through a file into ``fresh``, bit by bit."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.safetensors"
        saved = network.state_dict()
        odd = [name for name, value in saved.items() if not isinstance(value, Tensor)]
        subject.expect(not odd, f"keeps what is no tensor in its state ({', '.join(odd)})", "leave out extra state")
        save_tensors(file, saved)
        try:
            load_into(fresh, file)
        except Exception as err:
            subject.expect(
                False,
                f"cannot load the weights that it saved ({' '.join(str(err).split())})",
                "make all parameters and buffers in __init__, and none in forward()",
            )
    subject.expect(
        equal(saved, fresh.state_dict()), "loads other bits than it saved", "do not change weights when they are loaded"
    )


def is_built_without_memory(subject: Subject, spec: Spec) -> None:
    """It can be built on the meta device, as exports are checked before memory is allocated."""
    real = {name: (value.shape, value.dtype) for name, value in subject.build(spec).state_dict().items()}
    try:
        with torch.device("meta"):
            outline = subject.build(spec).state_dict()
    except Exception as err:
        subject.expect(
            False,
            f"cannot be built on the meta device ({type(err).__name__}: {' '.join(str(err).split())})",
            "let __init__ read no values of tensors, and name no device",
        )
    stuck = [name for name, value in outline.items() if value.device.type != "meta"]
    subject.expect(not stuck, f"puts {', '.join(stuck)} on a device of its choice", "name no device in __init__")
    same = {name: (value.shape, value.dtype) for name, value in outline.items()} == real
    subject.expect(same, "has other weights on the meta device", "let __init__ depend on its arguments alone")


def can_be_copied(subject: Subject, spec: Spec) -> None:
    """It can be copied deeply, as the moving average of a generator's weights does; a copy is its own."""
    network = subject.build(spec)
    x, y = inputs_for(subject, network, spec)
    output_of(network, x, y)
    try:
        its = copied(network) if subject.kind == "discriminator" else EMA(network, 100).module
    except Exception as err:
        subject.expect(
            False,
            f"cannot be copied ({' '.join(str(err).split())})",
            "keep in attributes what copy.deepcopy() takes, so no locks or open files",
        )
    shared = {p.data_ptr() for p in its.parameters()} & {p.data_ptr() for p in network.parameters()}
    subject.expect(not shared, "shares weights with its copy", "keep parameters as attributes of modules alone")


def follows_the_arithmetic(subject: Subject, spec: Spec) -> None:
    """It runs in double precision and under bfloat16 autocast."""
    network = subject.build(spec)
    x, y = inputs_for(subject, network, spec)
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            mixed = output_of(network, x, y)
        double = output_of(network.double(), x.double(), y)
    subject.expect(
        torch.isfinite(mixed).all(), "returns NaN or infinity in bfloat16", "compute what overflows in float32"
    )
    subject.expect(
        double.dtype == torch.float64,
        f"returns {double.dtype} for float64 weights and inputs",
        "make new tensors like the input: x.new_zeros(), torch.randn_like(x), .to(x)",
    )


def uses_labels_as_declared(subject: Subject, spec: Spec) -> None:
    """With the trait CONDITIONAL labels change the output; without it they are ignored, and may be missing."""
    network = nudged(subject, spec).eval()
    x, y = inputs_for(subject, network, spec)
    declared = CONDITIONAL in subject.entry.component.traits_of(subject.choice.config, spec)
    if y is None:
        return
    with torch.no_grad():
        out = output_of(network, x, y)
        moved = not torch.equal(out, output_of(network, x, (y + 1) % max(spec.num_classes or 1, 1)))
        if declared:
            remedy = "use y in forward(), or do not declare the trait"
            subject.expect(moved, "declares the trait CONDITIONAL and ignores the labels", remedy)
            return
        remedy = "declare it with traits=(CONDITIONAL,), so that rules know"
        subject.expect(not moved, "uses the labels without declaring the trait CONDITIONAL", remedy)
        same = torch.equal(out, output_of(network, x, None))
    subject.expect(same, "gives another output without labels", "ignore y, or declare the trait CONDITIONAL")


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states have the same names and the same bits."""
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


OF_BOTH: Final = (
    depends_on_its_input,
    leaves_its_input_alone,
    passes_gradients_to_every_parameter,
    is_built_from_the_seed,
    is_settled_in_evaluation,
    changes_with_the_mode_only_by_its_layers,
    survives_safetensors,
    is_built_without_memory,
    can_be_copied,
    follows_the_arithmetic,
    uses_labels_as_declared,
)
OF_GENERATORS: Final = (draws_latents_by_the_seed, stays_within_the_range)
