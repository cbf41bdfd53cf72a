"""What is asked of an evaluation: refused at once where it could only fail after the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ganzoo.errors import UsageError
from ganzoo.evaluation.features import NO_CLASSES
from ganzoo.evaluation.metrics import INCEPTION, Metric
from ganzoo.evaluation.reference import Reference
from ganzoo.evaluation.subjects import Outline
from ganzoo.nn import Extractor
from ganzoo.options import option, options_of

_INSTEAD: Final = {"modes": "classes", "classes": "modes"}
"""The metric that counts the same in samples of the other kind."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a request, in the ranges of the command line."""

    samples: int | None = option(None, min=2, help="How many samples.")
    real_samples: int | None = option(None, min=2, help="How many real samples.")
    seed: int = option(0, min=0, max=2**63 - 1, help="Of the latents.")


def numbers_of(**numbers: Any) -> Numbers:
    """The numbers of a request.

    Raises:
        UsageError: one is none, or out of its range.
    """
    found = {}
    for opt in options_of(Numbers):
        try:
            found[opt.name] = opt.parse(numbers[opt.name], textual=False)
        except UsageError as err:
            raise UsageError(f"{opt.name} {err}.") from None
    return Numbers(**found)


def looks_at_real(metrics: Sequence[Metric] | None) -> bool:
    """Whether some of the metrics, or of those that are chosen where none are named, look at real data."""
    about = {"reference", "reference-features", "centres", "classes"}
    return metrics is None or any(metric.needs & about for metric in metrics)


def check_kind(metrics: Sequence[Metric], subject: Outline) -> None:
    """Refuse metrics that are for samples of another kind.

    Raises:
        UsageError: there is one.
    """
    for metric in metrics:
        if ("points" in metric.needs) == subject.spec.is_image:
            these = "images" if subject.spec.is_image else "points"
            instead = f" Of {these}, {_INSTEAD[metric.name]} tells that." if metric.name in _INSTEAD else ""
            raise UsageError(f"The metric {metric.name} is not for {these}: {metric.summary}{instead}")
        if "labels" in metric.needs and not subject.conditional:
            raise UsageError(f"The metric {metric.name} is for a conditional generator: nobody asked for classes here.")


def check_classes(
    metrics: Sequence[Metric], extractor: Extractor, name: str, subject: Outline, reference: Reference | None
) -> None:
    """Refuse to count classes by a network that tells others, or none.

    Raises:
        UsageError: that is asked for.
    """
    known = extractor.num_classes
    if known is None and any("logits" in metric.needs for metric in metrics):
        raise UsageError(NO_CLASSES)
    for metric in metrics if known is not None and not extractor.stacked else ():
        spec = subject.spec if "labels" in metric.needs or reference is None else reference.spec
        of_data = spec.num_classes
        if not {"labels", "classes"} & metric.needs or known is None or of_data is None:
            continue
        if of_data > known or (name == INCEPTION and of_data != known):
            raise UsageError(
                f"The metric {metric.name} needs a network that tells the {of_data} classes of these data, and {name} "
                f"tells {known:,} others: choose one with --features, or leave {metric.name} out."
            )
