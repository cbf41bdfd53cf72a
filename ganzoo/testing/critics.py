"""Promises of discriminators alone."""

from __future__ import annotations

from typing import Final

import torch

from ganzoo.api import MIXES_SAMPLES, NO_DOUBLE_BACKWARD, Spec
from ganzoo.nn.precision import PlainAttention
from ganzoo.nn.traits import mixes_samples, observed_traits
from ganzoo.testing.networks import inputs_for, output_of, varied
from ganzoo.testing.subject import Subject

_SAMPLES: Final = 16
_CLEARLY: Final = 1e-3
"""By how much a logit must leave [0, 1], since a mean of probabilities may be rounded to a little more than 1."""


def gives_logits_not_probabilities(subject: Subject, spec: Spec) -> None:
    """Logits can leave [0, 1]."""
    for network in varied(subject, spec):
        with torch.no_grad():
            logits = output_of(network, *inputs_for(subject, network, spec, _SAMPLES))
        if ((logits < -_CLEARLY) | (logits > 1 + _CLEARLY)).any():
            return
    subject.expect(
        False,
        "gives no logit outside [0, 1], whatever its weights",
        "end it without a sigmoid: losses take raw logits",
    )


def mixes_samples_as_declared(subject: Subject, spec: Spec) -> None:
    """Without the trait MIXES_SAMPLES, a logit depends on its own sample alone while training."""
    declared = subject.entry.component.traits_of(subject.choice.config, spec)
    network = subject.build(spec)
    undeclared = observed_traits(network) - declared
    subject.expect(
        not undeclared,
        f"has batch norm and does not declare the trait {', '.join(sorted(undeclared))}",
        "yield MIXES_SAMPLES from traits= for the options that bring batch norm",
    )
    x, y = inputs_for(subject, network, spec)
    if MIXES_SAMPLES in declared:
        return  # with some options it may not
    subject.expect(
        not mixes_samples(network, x, y),
        "lets a logit depend on the other samples of its batch and does not declare the trait MIXES_SAMPLES",
        "declare it, so that gradient penalties are refused in a sentence",
    )


def can_be_differentiated_twice(subject: Subject, spec: Spec) -> None:
    """Unless it declares NO_DOUBLE_BACKWARD, its gradient can be differentiated again, as penalties do."""
    if NO_DOUBLE_BACKWARD in subject.entry.component.traits_of(subject.choice.config, spec):
        return
    network = subject.build(spec)
    x, y = inputs_for(subject, network, spec)
    x.requires_grad_()
    try:
        with PlainAttention():  # as in a penalty
            logits = output_of(network, x, y)
            weights = torch.ones_like(logits, requires_grad=True)  # else a last layer that refuses would say nothing
            (gradient,) = torch.autograd.grad(logits, x, weights, create_graph=True)
            torch.autograd.backward(gradient.square().sum())
    except RuntimeError as err:
        subject.expect(
            False,
            f"cannot be differentiated twice ({' '.join(str(err).split())[:120]})",
            "write that layer with other operations, or declare the trait NO_DOUBLE_BACKWARD",
        )
    finite = all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    subject.expect(finite, "has a second derivative that is not finite", "look for a square root or a norm at zero")


OF_DISCRIMINATORS: Final = (
    gives_logits_not_probabilities,
    mixes_samples_as_declared,
    can_be_differentiated_twice,
)
